"""Delivery: composition root, commands, REST and dashboard."""
