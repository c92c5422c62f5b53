"""The catalog: collections, items, images and descriptors in one SQLite file. No other package knows SQLite."""
