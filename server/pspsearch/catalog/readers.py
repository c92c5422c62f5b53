"""Threads that read, which the writer never holds up."""

import asyncio
import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import apsw

from pspsearch.catalog.connections import connect_reader, translate_errors

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4


class Readers:
    """Runs queries on a few read-only connections, for the tasks of one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="catalog-reader")
        self._idle: queue.LifoQueue[apsw.Connection] = queue.LifoQueue()  # the last used has the warmest cache
        for _ in range(_THREADS):
            self._idle.put(connect_reader(path))

    async def ask(self, query: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns what `query` answers on a connection that sees everything committed before."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: self._ask(query, *args, **kwargs))

    async def close(self) -> None:
        """Returns when the queries under way are done and the connections are closed."""
        await asyncio.to_thread(self._pool.shutdown)
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _ask(self, query: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        connection = self._idle.get_nowait()  # there is one for each thread
        try:
            with translate_errors(self._path):
                return query(connection, *args, **kwargs)
        finally:
            self._idle.put(connection)
