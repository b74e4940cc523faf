"""Preference: which option to take. Pure functions of a situation."""
