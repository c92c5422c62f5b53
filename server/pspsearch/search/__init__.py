"""Answers searches: the core that joins describers, indexes and the catalog, and knows none of them by name."""
