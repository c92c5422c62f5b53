"""The Index port over FAISS: a cache of the catalog that answers which rows are near."""

import os

# Before FAISS is imported: its OpenMP threads would else spin for milliseconds after each search, on cores that the
# model needs. Over 20,000 items that cost 8 ms of processor time and 3 ms of latency for every search by image.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
