"""The Index port over FAISS: a cache of the catalog that answers which rows are near."""
