"""Answers searches: joins describers, indexes and the catalog, and depends only on their ports."""
