"""Calls that are repeated or cancelled, and reads that must see every acknowledged write."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field

import grpc.aio
import psutil

from pspsearch.client import AsyncClient, Descriptor, Retries
from pspsearch.client.operations import upsert
from pspsearch.domain import Outcome
from pspsearch.errors import NotFound
from pspsearch.v1 import item_service_pb2_grpc
from tests.faults.place import Place, become_idle, fingerprint_of, item, point
from tests.pictures import encode, load_photo

AT_ONCE = 50
WARM = 1_000
GROWTH_BYTES = 10 << 20
CLIENTS, IDS_EACH = 8, 40


PATIENT = Retries(attempts=20, budget=20)
"""Triton 2.51 itself crashes now and then when calls are cancelled; then it is started again within seconds."""


async def same_request(place: Place, times: int) -> str:
    """One upsert is sent so many times with one request id, at once, one after the other, and again after a kill."""
    data = place.new_folder("same-request")
    request = None
    answers: set[bytes] = set()
    for _ in range(2):
        with place.serve(data) as server:
            async with AsyncClient(server.address) as client, grpc.aio.insecure_channel(server.address) as channel:
                stub = item_service_pb2_grpc.ItemServiceStub(channel)
                request = request or upsert([item("a", 1, await fingerprint_of(client))], "default").request
                together = await asyncio.gather(*(stub.UpsertItems(request) for _ in range(times // 2)))
                alone = [await stub.UpsertItems(request) for _ in range(times - times // 2)]
                answers |= {answer.SerializeToString(deterministic=True) for answer in (*together, *alone)}
                assert (await client.get("a")).sequence == 1
                assert await client.count() == 1
            server.process.kill()
    assert len(answers) == 1
    return f"{2 * times} calls, a kill in between: one effect, one answer"


async def cancelled(place: Place, times: int) -> str:
    """Searches by image are cancelled at random moments, many at once; nothing remains of them."""
    image = encode(load_photo(300, 200))
    chance = random.Random(3)

    async def cancel_some(client: AsyncClient, count: int) -> None:
        calls = [asyncio.create_task(client.search(image)) for _ in range(count)]
        await asyncio.sleep(0.03 * chance.random())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    server = place.shared()
    process = psutil.Process(server.process.pid)
    async with AsyncClient(server.address) as client:
        for _ in range(WARM // AT_ONCE):
            await cancel_some(client, AT_ONCE)
        before_bytes, threads = process.memory_info().rss, process.num_threads()
        for _ in range(times // AT_ONCE):
            await cancel_some(client, AT_ONCE)
        idle_s = await become_idle(client)
        async with AsyncClient(server.address, retries=PATIENT) as other:
            await other.search(image)
        grown_bytes = process.memory_info().rss - before_bytes
        assert process.num_threads() <= threads
    assert grown_bytes < GROWTH_BYTES, f"{grown_bytes / 2**20:.1f} MiB more"
    return f"{times} cancellations: none under way {1000 * idle_s:.0f} ms later, {grown_bytes / 2**20:+.1f} MiB"


@dataclass
class _Caller:
    """A caller that remembers what it wrote."""

    client: AsyncClient
    name: str
    fingerprint: str
    chance: random.Random
    there: dict[str, int] = field(default_factory=dict[str, int])

    async def go_on(self, operations: int) -> None:
        """Writes and reads so often, in any order."""
        versions = itertools.count(1)
        acts = [self._put, self._put, self._delete, self._get, self._search, self._search, self._count]
        for _ in range(operations):
            await self.chance.choice(acts)(f"{self.name}/{self.chance.randrange(IDS_EACH)}", next(versions))

    async def _put(self, id_: str, version: int) -> None:
        (done,) = await self.client.upsert([item(id_, version, self.fingerprint)])
        assert done.outcome is (Outcome.REPLACED if id_ in self.there else Outcome.CREATED)
        self.there[id_] = version

    async def _delete(self, id_: str, _: int) -> None:
        assert await self.client.delete([id_]) == (id_ in self.there)
        self.there.pop(id_, None)

    async def _get(self, id_: str, _: int) -> None:
        try:
            found = int((await self.client.get(id_)).attributes["version"])
        except NotFound:
            found = None
        assert found == self.there.get(id_), f"{id_} is {found}, and {self.there.get(id_)} was acknowledged"

    async def _search(self, id_: str, version: int) -> None:
        looked_for = self.there.get(id_, version)
        query = Descriptor(point(id_, looked_for), self.fingerprint)
        (hit, *_) = (await self.client.search(query, limit=1, return_attributes=True)).hits or (None,)
        is_found = hit is not None and hit.id == id_ and hit.score > 0.999
        assert is_found is (id_ in self.there), (
            f"{id_} at {looked_for}: found {hit}, acknowledged {self.there.get(id_)}"
        )
        if hit is not None and is_found:
            assert hit.attributes == {"version": looked_for}

    async def _count(self, _: str, __: int) -> None:
        ids = {one.id async for one in self.client.list(page_size=1000) if one.id.startswith(f"{self.name}/")}
        assert ids == self.there.keys()


async def history(place: Place, operations: int) -> str:
    """Clients with their own ids do anything at once; each sees all its acknowledged writes."""
    async with AsyncClient(place.shared().address) as client:
        fingerprint = await fingerprint_of(client)
        callers = [_Caller(client, f"c{n}", fingerprint, random.Random(n)) for n in range(CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(caller.go_on(operations // CLIENTS))
    return f"{CLIENTS} clients, {operations} operations: no violation"
