"""The catalog in one SQLite file: collections, items, images, descriptors. The only package that knows SQLite."""
