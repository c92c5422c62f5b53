"""The immutable bases of an index: planned, built, tuned, and kept in files."""
