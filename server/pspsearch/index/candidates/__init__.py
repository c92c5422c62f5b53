"""Finds likely rows with lists, graphs or a GPU."""
