"""The rows of an index and their attributes."""
