"""Keeps the collections open and holds what answers for each."""
