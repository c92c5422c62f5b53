"""The Index port over FAISS: a cache of the catalog that finds the nearest rows."""

import os

# Set before FAISS is imported, because its OpenMP threads would otherwise spin for milliseconds after each search on
# cores that the model needs. With 20,000 items that cost every search by image 8 ms of processor time and 3 ms of
# latency.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
