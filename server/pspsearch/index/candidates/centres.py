"""Finds the lists whose centres are nearest to a query."""

import faiss
import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import RowNumbers

LINKS = 16
"""The links of each centre on the upper levels of the graph. The lowest level has twice as many."""

EF_CONSTRUCTION = 80
"""How hard good links are looked for. A graph of 4,096 centres of 256 numbers takes 0.4 s of one core."""

IN_SIGHT = 4
"""How many centres are kept in sight for each list that is wanted."""

LEAST_IN_SIGHT = 16

WORTH = 32
"""The graph is quicker than comparing all centres if this many times fewer are in sight."""

SURE, SURE_OF_ROWS = 0.98, 500
"""A graph is used if it finds the nearest list of this share of so many rows: .998 of photographs, .5 among copies."""


class Centres:
    """The centres of lists: a graph finds a few of them, and a comparison with all finds many.

    Among 4,096 centres the graph takes a fifth of the time of a comparison, which took half of a whole search. It
    misses one list of twenty, so a search looks into a few more for the same recall.
    """

    def __init__(self, centres: Descriptors, *, graph: bool) -> None:
        """Without `graph`, every search compares all."""
        self._graph: faiss.IndexHNSWFlat | None = None
        if graph:
            self._graph = faiss.IndexHNSWFlat(centres.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
            self._graph.hnsw.efConstruction = EF_CONSTRUCTION
            self._graph.add(centres)
            self._flat = faiss.downcast_index(self._graph.storage)
        else:
            self._flat = faiss.IndexFlatIP(centres.shape[1])
            self._flat.add(centres)

    def is_sure(self, rows: Descriptors) -> bool:
        """Whether the graph finds the very nearest list of nearly all rows.

        Among centres that are copies of one another, it does not, however many are in sight.
        """
        return bool(np.mean(self.nearest(rows, 1)[0] >= self._flat.search(rows, 1)[0] - 1e-6) >= SURE)

    def nearest(self, queries: Descriptors, count: int) -> tuple[NDArray[np.float32], RowNumbers]:
        """Returns the scores and the numbers of the `count` nearest lists of each query."""
        in_sight = max(LEAST_IN_SIGHT, IN_SIGHT * count)
        if self._graph is None or in_sight * WORTH > self._flat.ntotal:
            return self._flat.search(queries, count)
        return self._graph.search(queries, count, params=faiss.SearchParametersHNSW(efSearch=in_sight))
