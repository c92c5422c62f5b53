"""Group commit: which calls are committed together, which fail alone, and what a caller who leaves does to others."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.changes import write_items
from pspsearch.catalog.connections import connect_reader
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Commit, Delete, Generation, Outcome
from pspsearch.errors import AlreadyExists, CatalogError, DiskFailed, NotFound, StorageFull, WriterFailed
from tests.fakes.catalog import SETTINGS, VERSION, Ear, picture

MAX_QUEUED_BYTES = 20_000


class Gate(Ear):
    """A listener that holds up the writer from the first commit on, until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, commit: Commit) -> None:
        """Runs in the writer's thread."""
        super().__call__(commit)
        self.reached.set()
        self.opened.wait()

    async def let_through(self, *calls: Awaitable[Any]) -> list[Any]:
        """Opens the gate once all calls stand before it, and returns what becomes of them."""
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)  # until each has begun
        self.opened.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqliteCatalog]:
    """An empty catalog with a short queue."""
    async with await SqliteCatalog.open(tmp_path, max_queued_bytes=MAX_QUEUED_BYTES) as catalog:
        yield catalog


@pytest.fixture
async def generation(catalog: SqliteCatalog) -> Generation:
    """The generation of a new collection."""
    return (await catalog.create_collection("pictures", SETTINGS, VERSION))[1]


@pytest.fixture
async def other(catalog: SqliteCatalog) -> Generation:
    """The generation of another collection; request it before the gate, which lets nothing pass."""
    return (await catalog.create_collection("other", SETTINGS, VERSION))[1]


@pytest.fixture
async def gate(catalog: SqliteCatalog, generation: Generation) -> AsyncIterator[Gate]:
    """A shut gate; the writer stands before it after the commit of item `first`."""
    gate = Gate()
    catalog.listen(gate)
    first = asyncio.create_task(catalog.write(generation, [picture("first", b"first")]))
    await asyncio.to_thread(gate.reached.wait)
    yield gate
    gate.opened.set()
    await asyncio.wait([first])


async def ids(catalog: SqliteCatalog, generation: Generation) -> list[str]:
    """The ids of everything in the collection."""
    return [item.id for item in await catalog.page(generation.collection, 0, 1000)]


async def test_writes_that_wait_are_committed_together(
    catalog: SqliteCatalog, generation: Generation, gate: Gate
) -> None:
    """Ten calls that arrive during a commit make one more commit, in the order of their arrival."""
    writes = [catalog.write(generation, [picture(str(number), b"%d" % number)]) for number in range(10)]

    answers = await gate.let_through(*writes)

    assert [len(commit.added) for commit in gate.commits] == [1, 10]
    sequences = [written.sequence for answer in answers for written in answer]
    assert [row.sequence for row in gate.commits[1].added] == sequences == sorted(sequences)


async def test_same_id_in_two_calls_of_one_commit_is_told_once(
    catalog: SqliteCatalog, generation: Generation, gate: Gate
) -> None:
    """Every caller hears of its own change; the listener hears only of the last row, and of the row that it knew."""
    (known,) = gate.rows(generation)

    answers = await gate.let_through(
        catalog.write(generation, [picture("first", b"1")]),
        catalog.write(generation, [picture("first", b"2")]),
        catalog.write(generation, [picture("brief", b"3")]),
        catalog.write(generation, [Delete("brief")]),
    )

    assert [answer[0].outcome.value for answer in answers] == ["replaced", "replaced", "created", "deleted"]
    assert [row.sequence for row in gate.commits[1].added] == [answers[1][0].sequence]
    assert gate.commits[1].removed == (known.sequence,)


async def test_collections_of_one_commit_are_told_apart(
    catalog: SqliteCatalog, generation: Generation, other: Generation, gate: Gate
) -> None:
    """One commit on disk is one Commit for each collection that it touched, in the order of the first changes."""
    await gate.let_through(
        catalog.write(other, [picture("a", b"a")]),
        catalog.write(generation, [picture("b", b"b")]),
        catalog.write(other, [picture("c", b"c")]),
    )

    heard = [(commit.generation, [row.id for row in commit.added]) for commit in gate.commits[1:]]
    assert heard == [(other.key, ["a", "c"]), (generation.key, ["b"])]


async def test_failing_call_fails_alone(catalog: SqliteCatalog, generation: Generation, gate: Gate) -> None:
    """The failing call is undone; the calls before and after it in the same commit are done."""

    def write_and_fail(transaction: Transaction) -> None:
        write_items(transaction, generation, [picture("undone", b"x"), Delete("first")], "r")
        raise CatalogError("after two changes")

    stranger = Generation(99, 99, "pspnet", 1, "f", 4)
    answers = await gate.let_through(
        catalog.write(generation, [picture("before", b"x")]),
        catalog._writer.do(write_and_fail),
        catalog.create_collection("pictures", SETTINGS, VERSION),
        catalog.write(stranger, [picture("a", b"a")]),
        catalog.write(generation, [picture("after", b"y")]),
    )

    assert [type(answer) for answer in answers] == [list, CatalogError, AlreadyExists, NotFound, list]
    assert await ids(catalog, generation) == ["first", "before", "after"]
    assert [[row.id for row in commit.added] for commit in gate.commits] == [["first"], ["before", "after"]]
    assert gate.commits[1].removed == ()


async def test_failing_commit_fails_every_call_in_it(
    catalog: SqliteCatalog, generation: Generation, gate: Gate
) -> None:
    """Nothing of the commit is there or heard, and the next commit finds everything in order."""

    def spoil(transaction: Transaction) -> None:
        transaction.connection.execute("PRAGMA defer_foreign_keys = ON")
        transaction.connection.execute("INSERT INTO requests VALUES (99, 'of no collection', '[]', 0)")

    answers = await gate.let_through(
        catalog.write(generation, [picture("a", b"a")]),
        catalog._writer.do(spoil),
        catalog.write(generation, [Delete("first")]),
    )

    assert [type(answer) for answer in answers] == [CatalogError] * 3
    assert await ids(catalog, generation) == ["first"]
    assert len(gate.commits) == 1
    (written,) = await catalog.write(generation, [picture("b", b"b")])
    assert written.outcome is Outcome.CREATED
    assert await ids(catalog, generation) == ["first", "b"]


@pytest.mark.parametrize("fails", [False, True])
async def test_an_idle_writer_keeps_nothing_of_what_was_written(catalog: SqliteCatalog, *, fails: bool) -> None:
    """The writer keeps neither what was written nor the error of what was not: pictures are large."""

    def write(transaction: Transaction) -> None:
        transaction.connection.execute("PRAGMA defer_foreign_keys = ON")
        if fails:
            transaction.connection.execute("INSERT INTO requests VALUES (99, 'of no collection', '[]', 0)")

    kept = weakref.ref(write)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(CatalogError):
            await catalog._writer.do(write)
        del write
        async with asyncio.timeout(10):
            while kept() is not None:
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


async def test_full_disk_fails_the_write_and_not_the_next(catalog: SqliteCatalog, generation: Generation) -> None:
    """SQLite's limit on the file stands for a full disk."""

    def limit(transaction: Transaction, pages: int) -> None:
        transaction.connection.execute(f"PRAGMA max_page_count = {pages}")

    await catalog._writer.do(lambda transaction: limit(transaction, 1))  # SQLite raises it to the pages that there are
    with pytest.raises(StorageFull, match="the server's disk is full"):
        await catalog.write(generation, [picture("a", b"a"), picture("b", bytes(100_000))])
    assert await ids(catalog, generation) == []
    await catalog._writer.do(lambda transaction: limit(transaction, 1_000_000))

    (written,) = await catalog.write(generation, [picture("b", bytes(100_000))])

    assert written.outcome is Outcome.CREATED


async def test_disk_that_fails_while_it_is_tidied_up_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a failed write only once, whatever was being written."""
    async with await SqliteCatalog.open(tmp_path) as catalog:
        _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)

        def fail(_: Transaction) -> bool:
            raise DiskFailed("the disk of the catalog has failed")

        monkeypatch.setattr(catalog._writer, "_tidy", fail)
        with contextlib.suppress(DiskFailed):  # tidying up may come before or after this write
            await catalog.write(generation, [picture("a", b"a")])

        assert isinstance(await asyncio.wait_for(catalog.failed(), 10), DiskFailed)
        with pytest.raises(DiskFailed):
            await catalog.write(generation, [picture("b", b"b")])


class Unforeseen(BaseException):
    """An error that no code of the writer knows."""


def deaf(_: Commit) -> None:
    """A listener with a bug."""
    raise Unforeseen


def clumsy(_: Transaction) -> bool:
    """A function for tidying up, with a bug."""
    raise Unforeseen


@pytest.mark.parametrize("where", ["while it is tidied up", "in the listener"])
async def test_what_nobody_foresaw_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error is never silent: callers who wait or come later hear of it, and the server ends."""
    async with await SqliteCatalog.open(tmp_path) as catalog:
        _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
        if where == "in the listener":
            catalog.listen(deaf)
        else:
            monkeypatch.setattr(catalog._writer, "_tidy", clumsy)
        async with asyncio.timeout(20):
            with contextlib.suppress(WriterFailed):  # tidying up may come before or after this write
                await catalog.write(generation, [picture("a", b"a")])

            assert isinstance(await catalog.failed(), WriterFailed)
            with pytest.raises(WriterFailed, match="Unforeseen"):
                await catalog.write(generation, [picture("b", b"b")])
        assert await ids(catalog, generation) in ([], ["a"])

    assert "the catalog's writer has failed" in caplog.messages


async def test_bug_in_one_call_is_that_calls_alone(catalog: SqliteCatalog, generation: Generation) -> None:
    """The call is undone, so nothing is in doubt."""

    def fail(_: Transaction) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await catalog._writer.do(fail)
    (written,) = await catalog.write(generation, [picture("b", b"b")])

    assert written.outcome is Outcome.CREATED


async def test_caller_who_leaves_before_its_turn_is_passed_over(
    catalog: SqliteCatalog, generation: Generation, gate: Gate
) -> None:
    """The write is not made, and those around it are."""
    tasks = [asyncio.create_task(catalog.write(generation, [picture(id_, b"x")])) for id_ in "abc"]
    await asyncio.sleep(0)  # until all three are in the queue
    tasks[1].cancel()

    await gate.let_through(*tasks)

    assert [task.cancelled() for task in tasks] == [False, True, False]
    assert await ids(catalog, generation) == ["first", "a", "c"]


async def test_caller_who_leaves_after_its_turn_disturbs_nobody(catalog: SqliteCatalog, generation: Generation) -> None:
    """The write is made, and the next one is acknowledged."""
    gate = Gate()
    catalog.listen(gate)
    task = asyncio.create_task(catalog.write(generation, [picture("a", b"a")]))
    await asyncio.to_thread(gate.reached.wait)
    task.cancel()
    gate.opened.set()

    (written,) = await catalog.write(generation, [picture("b", b"b")])

    assert task.cancelled()
    assert written.outcome is Outcome.CREATED
    assert await ids(catalog, generation) == ["a", "b"]


async def test_writers_wait_while_the_queue_is_full(catalog: SqliteCatalog, generation: Generation, gate: Gate) -> None:
    """The queue takes as many bytes as it may, and one write that is larger by itself; in the end all is written."""
    sizes = [6_000] * 8 + [3 * MAX_QUEUED_BYTES] + [100]
    writes = [catalog.write(generation, [picture(str(n), bytes(size))]) for n, size in enumerate(sizes)]

    tasks = [asyncio.create_task(write) for write in writes]
    await asyncio.sleep(0)  # until each has begun
    waiting = catalog._writer._queue.qsize()
    gate.opened.set()
    await asyncio.gather(*tasks)

    assert waiting == 2
    assert await ids(catalog, generation) == ["first", *map(str, range(10))]


async def test_caller_who_leaves_while_it_waits_for_room_lets_the_next_in(
    catalog: SqliteCatalog, generation: Generation, gate: Gate
) -> None:
    """The caller's write was never queued, and the queue does not stay shut."""
    tasks = [
        asyncio.create_task(catalog.write(generation, [picture(str(number), bytes(9_000))])) for number in range(5)
    ]
    await asyncio.sleep(0)
    tasks[2].cancel()

    await gate.let_through(*tasks)

    assert await ids(catalog, generation) == ["first", "0", "1", "3", "4"]


async def test_readers_are_not_held_up_by_a_transaction(catalog: SqliteCatalog, generation: Generation) -> None:
    """Readers see what was committed before the open transaction began."""
    await catalog.write(generation, [picture("a", b"a")])
    begun, finish = threading.Event(), threading.Event()

    def write_slowly(transaction: Transaction) -> None:
        write_items(transaction, generation, [picture("b", b"b"), Delete("a")], "")
        begun.set()
        finish.wait()

    task = asyncio.create_task(catalog._writer.do(write_slowly))
    await asyncio.to_thread(begun.wait)
    during = await ids(catalog, generation)
    rows = [row.id for row in catalog.rows_of(generation).after(0)]
    finish.set()
    await task

    assert during == rows == ["a"]
    assert await ids(catalog, generation) == ["b"]


@pytest.mark.parametrize(("setting", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)])
async def test_commit_is_synced(catalog: SqliteCatalog, setting: str, value: str | int) -> None:
    """No test can pull the plug, so this checks that the writer asks SQLite for a sync at every commit (2 is FULL)."""
    found = await catalog._writer.do(lambda transaction: transaction.connection.execute(f"PRAGMA {setting}").get)

    assert found == value


async def test_close_finishes_what_was_begun(tmp_path: Path) -> None:
    """A write that is queued when the catalog closes is acknowledged and on disk."""
    catalog = await SqliteCatalog.open(tmp_path)
    generation = (await catalog.create_collection("pictures", SETTINGS, VERSION))[1]

    answers, _ = await asyncio.gather(catalog.write(generation, [picture("a", b"a")]), catalog.close())

    assert answers[0].outcome is Outcome.CREATED
    with contextlib.closing(connect_reader(tmp_path / "catalog.sqlite3")) as connection:
        assert connection.execute("SELECT id FROM items").get == "a"
    with pytest.raises(AssertionError, match="closed"):
        await catalog.write(generation, [Delete("a")])
