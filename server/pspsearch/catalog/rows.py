"""Reads the rows that an index is built from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pspsearch.catalog.connections import connect_reader, translate_errors
from pspsearch.catalog.queries import LAST_CHANGE, ROWS, SEQUENCES
from pspsearch.catalog.records import read_descriptor
from pspsearch.domain import Generation, Row, Sequences

_CHUNK = 512
"""How many rows are read at once: about half a megabyte, or at most 32 with the largest attributes."""


class GenerationRows:
    """The rows of one generation. Any thread may read them, because each read opens its own connection."""

    def __init__(self, path: Path, generation: Generation) -> None:
        self._path = path
        self._generation = generation
        self._names = {"collection": generation.collection, "generation": generation.key}

    def last_change(self) -> int:
        """The sequence of the catalog's last change, in any generation."""
        with translate_errors(self._path), contextlib.closing(connect_reader(self._path)) as connection:
            return connection.execute(LAST_CHANGE).get

    def sequences(self) -> Sequences:
        """The sequences of all rows at this moment, ascending."""
        with translate_errors(self._path), contextlib.closing(connect_reader(self._path)) as connection:
            return np.fromiter((sequence for (sequence,) in connection.execute(SEQUENCES, self._names)), np.int64)

    def after(self, sequence: int) -> Iterator[Row]:
        """The rows with a higher sequence that exist at the moment of the call, ascending.

        Rows that a later commit removes may be missing, and those that it adds are: its listener has them. A row never
        changes, so rows can be read in chunks, each with a short transaction, and no chunk contradicts another. One
        long transaction would keep SQLite from resetting its log, which would grow for as long as an index is read.
        """
        return self._chunks(sequence, self.last_change())

    def _chunks(self, after: int, last: int) -> Iterator[Row]:
        while rows := self._chunk(after, last):
            yield from rows
            after = rows[-1].sequence

    def _chunk(self, after: int, last: int) -> list[Row]:
        wanted = {**self._names, "after": after, "last": last, "count": _CHUNK}
        with translate_errors(self._path), contextlib.closing(connect_reader(self._path)) as connection:
            return [
                Row(sequence, key, id_, attributes, read_descriptor(descriptor))
                for sequence, key, id_, attributes, descriptor in connection.execute(ROWS, wanted)
            ]
