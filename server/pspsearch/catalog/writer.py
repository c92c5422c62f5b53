"""The thread that writes, and commits together all calls that wait for it."""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import apsw

from pspsearch.catalog.connections import translate_errors
from pspsearch.catalog.times import to_us
from pspsearch.catalog.transaction import Change, Transaction, gather
from pspsearch.domain import Commit
from pspsearch.errors import DiskFailed, PspsearchError, WriterFailed, bare
from pspsearch.ports import Listener

log = logging.getLogger(__name__)

T = TypeVar("T")

_CALL_BYTES = 1024
"""How many bytes a call takes in the queue besides its payload."""


@dataclass(eq=False, slots=True)
class _Call:
    work: Callable[[Transaction], Any]
    size_bytes: int
    future: asyncio.Future[Any]
    answer: Any = None
    error: Exception | None = None
    unseen: Sequence[Future[None]] = ()
    """Of commits until now, those that searches do not see yet."""


class Writer:
    """Applies calls in order of arrival; the tasks of one event loop create, use and close it.

    A call that fails leaves nothing behind and fails alone. If the commit fails, all its calls fail. A call is dropped
    if its caller leaves before its turn. After DiskFailed nothing more is written, because the kernel forgets what it
    could not put on the disk and says so only once. After WriterFailed nothing more is written either, because an
    unforeseen error may have kept a commit from listeners.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        tidy: Callable[[Transaction], bool],
        now: Callable[[], datetime],
        max_queued_bytes: int,
    ) -> None:
        """`tidy` runs in a transaction of its own between two commits, for as long as it returns that there is more."""
        self._connection = connection
        self._path = path
        self._tidy = tidy
        self._now = now
        self._max_queued_bytes = max_queued_bytes
        self._queued_bytes = 0
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._closed = False
        self._listener: Listener | None = None
        self._unseen: list[Future[None]] = []
        self._failure: DiskFailed | WriterFailed | None = None
        self._has_failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # a daemon: a program that exits without closing must not hang, and what was acknowledged is on disk anyway
        self._thread = threading.Thread(target=self._run, name="catalog-writer", daemon=True)
        self._thread.start()

    def listen(self, listener: Listener) -> None:
        """Registers `listener`, which the writer's thread calls after each commit, before its acknowledgement."""
        assert self._listener is None, "there is a listener already"
        self._listener = listener

    async def do(self, work: Callable[[Transaction], T], size_bytes: int = 0) -> T:
        """Returns what `work` returned, once it is on disk and searches see it.

        Waits for room while the queue holds too many bytes.
        """
        size_bytes += _CALL_BYTES
        async with self._turn:
            while self._queued_bytes and self._queued_bytes + size_bytes > self._max_queued_bytes:
                self._room.clear()
                await self._room.wait()
            assert not self._closed, "the catalog is closed"
            call = _Call(work, size_bytes, self._loop.create_future())
            self._queued_bytes += size_bytes
            self._queue.put(call)
        try:
            answer = await call.future
            for seen in call.unseen:
                await asyncio.shield(asyncio.wrap_future(seen))  # others wait for it, too
            return answer
        finally:
            del call  # its error refers to this frame

    async def failed(self) -> DiskFailed | WriterFailed:
        """Waits until nothing more can be written, and returns the reason."""
        await self._has_failed.wait()
        assert self._failure is not None
        return self._failure

    async def close(self) -> None:
        """Returns when every call under way is done and the thread has ended; the connection stays open."""
        async with self._turn:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        more, closing = True, False
        while not closing:
            calls, closing = self._take(wait=not more)
            if calls:
                self._finish(calls)
            del calls  # the next ones may come only much later
            more = not closing and self._failure is None and self._tidy_up()

    def _take(self, *, wait: bool) -> tuple[list[_Call], bool]:
        """Takes every queued call, waiting for one if `wait`; also returns whether the writer is closing."""
        calls: list[_Call] = []
        try:
            call = self._queue.get(block=wait)
            while call is not None:
                calls.append(call)
                call = self._queue.get_nowait()
        except queue.Empty:
            return calls, False
        return calls, True

    def _finish(self, calls: list[_Call]) -> None:
        try:
            if self._failure is not None:
                raise self._failure  # noqa: TRY301 - the callers get it like any other error
            with translate_errors(self._path):
                commits = self._commit(calls)
            self._tell(commits)
            for call in calls:
                call.unseen = self._unseen
        except BaseException as error:  # the callers must get it, and the thread must live for the next ones
            self._roll_back()
            told = self._note(error)
            for call in calls:
                call.error = call.error or told
        self._loop.call_soon_threadsafe(self._acknowledge, calls)

    def _tell(self, commits: Sequence[Commit]) -> None:
        self._unseen = [seen for seen in self._unseen if not seen.done()]
        if self._listener is not None:
            told = map(self._listener, commits)
            self._unseen += [seen for seen in told if seen is not None]

    def _commit(self, calls: list[_Call]) -> list[Commit]:
        changes: list[Change] = []
        self._connection.execute("BEGIN IMMEDIATE")
        for call in calls:
            if not call.future.cancelled():
                changes += self._apply(call)
        self._connection.execute("COMMIT")
        return gather(changes)

    def _apply(self, call: _Call) -> list[Change]:
        transaction = self._transaction()
        self._connection.execute("SAVEPOINT call")
        try:
            with translate_errors(self._path):
                call.answer = call.work(transaction)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite itself has rolled back this call and those before it
            self._connection.execute("ROLLBACK TO call")
            call.error = bare(error) if isinstance(error, PspsearchError) else error
            transaction.changes.clear()
        self._connection.execute("RELEASE call")
        return transaction.changes

    def _tidy_up(self) -> bool:
        try:
            with translate_errors(self._path):
                self._connection.execute("BEGIN")
                more = self._tidy(self._transaction())
                self._connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            log.error("tidying up is put off: %s", self._note(error))  # noqa: TRY400 - a sentence
            return False
        return more

    def _note(self, error: BaseException) -> PspsearchError:
        """Returns the error for the callers; if nothing more can be written, also tells those who wait in `failed`."""
        told = (
            error if isinstance(error, PspsearchError) else WriterFailed(f"the catalog's writer has failed: {error!r}")
        )
        if isinstance(told, WriterFailed) and self._failure is None:
            log.critical("the catalog's writer has failed", exc_info=error)
        if isinstance(told, DiskFailed | WriterFailed):
            self._failure = self._failure or told
            self._loop.call_soon_threadsafe(self._has_failed.set)
        return bare(told)

    def _transaction(self) -> Transaction:
        return Transaction(self._connection, to_us(self._now()))

    def _roll_back(self) -> None:
        with contextlib.suppress(apsw.Error):  # the disk fails again: the next BEGIN will say so
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _acknowledge(self, calls: list[_Call]) -> None:
        """Runs in the event loop."""
        for call in calls:
            self._queued_bytes -= call.size_bytes
            if call.future.done():
                continue
            if call.error is not None:
                call.future.set_exception(call.error)
            else:
                call.future.set_result(call.answer)
        self._room.set()
