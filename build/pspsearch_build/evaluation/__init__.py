"""Measures how good descriptors are: what they find, what they tell apart, and how certain that is."""
