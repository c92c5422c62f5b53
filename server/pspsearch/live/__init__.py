"""The collections that are open, and what answers for each."""
