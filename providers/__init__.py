"""Clouds: what can be had, at which price, and how to ask for it. The lowest package; it knows no job."""
