"""Adds and deletes items: the core of writing, on the same ports as `search`."""
