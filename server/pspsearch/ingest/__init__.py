"""Puts items in and takes them out: the core of writing, on the same ports as `search`."""
