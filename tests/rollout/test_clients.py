"""Rollouts by both clients and by the command line, over the real gRPC server with fakes behind it."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner, Result

from pspsearch.cli import commands
from pspsearch.client import AsyncClient, Client, ItemId, ItemInput, SearchResult
from pspsearch.config import GateSettings
from pspsearch.domain import GenerationState, RolloutStage
from pspsearch.errors import InvalidRequest, ModelMismatch, NotFound, RolloutRefused
from tests.fakes.describer import ColourDescriber, version
from tests.servers.either_client import EitherClient, connected
from tests.servers.rpc_client import FLOWER, TEMPLE
from tests.servers.rpc_server import Parts, open_server

QUICK = GateSettings(gate_slowdown=1000.0)
"""A gate without a bound on latency, because the speed of a fake means nothing."""


@pytest.fixture
async def server() -> AsyncIterator[Parts]:
    """A server with two versions, the second not yet usable, and two items."""
    versions = {1: ColourDescriber(), 2: ColourDescriber(version(2), 5), 3: ColourDescriber(version(3))}
    versions[3].reason = "its manifest is missing"
    async with open_server(versions=versions, gate=QUICK) as server:
        async with AsyncClient(server.address) as client:
            await client.upsert([ItemInput("temple", TEMPLE), ItemInput("flower", FLOWER)])
        yield server


@pytest.fixture(params=[Client, AsyncClient])
async def ask(server: Parts, request: pytest.FixtureRequest) -> AsyncIterator[EitherClient]:
    """Each of the clients in turn."""
    async with connected(request.param(server.address)) as ask:
        yield ask


async def run(server: Parts, *arguments: str) -> Result:
    """Runs a command of `pspsearch model` to its end."""
    environment = {"PSPSEARCH_ADDRESS": server.address}
    return await asyncio.to_thread(CliRunner().invoke, commands, ["model", *arguments], env=environment)


async def test_a_client_takes_a_collection_there_and_back(ask: EitherClient) -> None:
    """Calls every method, in the order of a rollout."""
    listed = await ask("list_model_versions")
    assert [(one.version, one.reason, one.collections) for one in listed] == [
        (1, "", ("default",)),
        (2, "", ()),
        (3, "its manifest is missing", ()),
    ]
    begun = await ask("start_rollout", 2, share=1.0)
    assert (begun.collection, begun.origin.model_version, begun.stage) == ("default", 2, RolloutStage.DESCRIBING)
    while (await ask("get_rollout")).stage is not RolloutStage.READY:
        await asyncio.sleep(0.01)

    promoted = await ask("promote_rollout")

    assert (promoted.stage, promoted.described, promoted.total, promoted.missing) == (RolloutStage.PROMOTED, 2, 2, 0)
    assert all(check.passed for check in promoted.checks)
    assert (await ask("search", ItemId("temple"))).origin == promoted.origin
    assert (await ask("rollback")).model_version == 1
    assert (await ask("retire_generation")).model_version == 2
    assert [one.state for one in await ask("list_generations")] == [GenerationState.ACTIVE, GenerationState.RETIRED]


async def test_a_client_watches_to_the_end(ask: EitherClient) -> None:
    """Watching yields every change until there are no more."""
    await ask("start_rollout", automatic=True)

    moments = await ask("watch_rollout")

    assert moments[-1].stage is RolloutStage.PROMOTED
    assert (await ask("get_rollout")).stage is RolloutStage.PROMOTED


async def test_a_client_tries_a_rollout(server: Parts, ask: EitherClient) -> None:
    """The caller is known by the client's name, or by its address."""
    await ask("start_rollout", canary=1.0)
    while (await ask("get_rollout")).stage is not RolloutStage.READY:
        await asyncio.sleep(0.01)
    assert (await ask("search", ItemId("temple"))).origin.model_version == 2

    tried = await ask("try_rollout", canary=0.5, shadow=1.0)
    assert (tried.canary, tried.shadow, tried.trial.answered) == (0.5, 1.0, 0)
    heard: dict[str, set[int]] = {}
    for caller in [f"shop-{number}" for number in range(24)] * 2:
        async with AsyncClient(server.address, caller=caller) as named:
            streamed = [answer async for _, answer in named.search_stream([("a", ItemId("flower"))])]
            assert isinstance(streamed[0], SearchResult)
            origins = [(await named.search(ItemId("temple"))).origin, streamed[0].origin]
            heard.setdefault(caller, set()).update(origin.model_version for origin in origins)

    assert set(map(len, heard.values())) == {1}
    assert {version for one in heard.values() for version in one} == {1, 2}
    counted = (await ask("get_rollout")).trial
    assert counted.answered == 4 * sum(one == {2} for one in heard.values())


async def test_a_client_has_a_collection_follow(ask: EitherClient) -> None:
    """Or it pins the collection to what answers now."""
    assert not (await ask("get_collection")).follows
    assert (await ask("follow_model")).follows
    assert (await ask("get_collection")).follows
    assert not (await ask("follow_model", follow=False)).follows
    with pytest.raises(NotFound):
        await ask("follow_model", collection="nowhere")


async def test_a_caller_has_a_name_that_can_be_sent(server: Parts) -> None:
    """The server would not accept any other name."""
    for name in ("two words", "caf\u00e9", "x" * 65):
        with pytest.raises(InvalidRequest, match="visible ASCII"):
            AsyncClient(server.address, caller=name)
        with pytest.raises(InvalidRequest, match="visible ASCII"):
            Client(server.address, caller=name)


async def test_a_client_hears_what_cannot_be(ask: EitherClient) -> None:
    """The server's refusals become the client's own errors."""
    for name, arguments, error in (
        ("start_rollout", [3], ModelMismatch),
        ("start_rollout", [1], InvalidRequest),
        ("get_rollout", [], NotFound),
        ("watch_rollout", [], NotFound),
        ("try_rollout", [], RolloutRefused),
        ("promote_rollout", [], RolloutRefused),
        ("abort_rollout", [], RolloutRefused),
        ("rollback", [], RolloutRefused),
        ("retire_generation", [], RolloutRefused),
    ):
        with pytest.raises(error):
            await ask(name, *arguments)


async def test_an_operator_takes_a_collection_there_and_back(server: Parts) -> None:
    """Each command says what it did."""
    listed = (await run(server, "list")).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["version", "colours/1", "colours/2", "colours/3"]
    assert "default" in listed[1]
    assert listed[3].endswith("no: its manifest is missing")

    begun = await run(server, "rollout", "2")
    assert begun.stdout == "default is on its way to colours/2: follow it with `pspsearch model watch`\n"
    watched = await run(server, "watch")
    assert watched.exit_code == 0
    assert "colours/2: ready" in watched.stdout
    assert [line.split()[0] for line in watched.stdout.splitlines() if " passed " in line] == [
        "unit",
        "collapse",
        "self-retrieval",
        "overlap",
        "latency",
    ]
    tried = await run(server, "try", "--canary", "0.1", "--shadow", "0.25")
    assert tried.stdout == "colours/2 answers 10.0% of the callers, and is compared on 25.0% of the other searches\n"
    assert [line.split()[0] for line in (await run(server, "show")).stdout.splitlines()[-6:]] == [
        "answered",
        "passed",
        "compared",
        "failed",
        "overlap",
        "time",
    ]
    assert (await run(server, "promote")).stdout == "default answers from colours/2\n"
    assert (await run(server, "rollback")).stdout == "default answers from colours/1\n"
    shown = (await run(server, "show")).stdout.splitlines()
    assert [line.split()[3] for line in shown[:3]] == ["state", "active", "kept"]
    assert shown[4].split()[:3] == ["check", "value", "bound"]
    assert (await run(server, "retire")).stdout == "colours/2 is kept no longer for default\n"


async def test_an_operator_hears_of_a_failure(server: Parts) -> None:
    """`watch` exits with 1, and refusals are one sentence."""
    server.versions[2].may_answer.clear()
    await run(server, "rollout", "2")
    aborted = await run(server, "abort")
    watched = await run(server, "watch")
    promoted = await run(server, "promote")

    assert aborted.stdout == "default stays where it is, and colours/2 is dropped\n"
    assert (watched.exit_code, watched.stdout) == (1, "colours/2: failed: it was aborted\n")
    assert promoted.exit_code == 1
    assert promoted.stderr == "error: no rollout of the collection 'default' is under way\n"


async def test_an_operator_sees_what_is_missing(server: Parts, ask: EitherClient) -> None:
    """The missing items are listed by id, and as JSON for programs."""
    point = (await ask("describe", TEMPLE)).descriptor
    await ask("upsert", [ItemInput("point", point)])
    begun = await ask("start_rollout")
    while (await ask("get_rollout")).stage is not RolloutStage.READY:
        await asyncio.sleep(0.01)

    assert (await run(server, "missing")).stdout == "point\n"
    listed = await ask("list", not_in_generation=begun.origin.generation)
    assert [one.id for one in listed] == ["point"]


async def test_an_operator_has_a_collection_follow(server: Parts) -> None:
    """Following can be turned on and off."""
    assert (await run(server, "follow")).stdout == "default follows new versions of colours\n"
    assert (await run(server, "pin")).stdout == "default stays at colours/1\n"


async def test_programs_get_json(server: Parts) -> None:
    """Each command prints one line of it."""
    await run(server, "rollout", "--automatic")

    moments = [json.loads(line) for line in (await run(server, "watch", "--json")).stdout.splitlines()]
    versions = json.loads((await run(server, "list", "--json")).stdout)
    generations = json.loads((await run(server, "show", "--json")).stdout)

    assert moments[-1]["stage"] in {"ready", "promoted"}
    assert [one["version"] for one in versions] == [1, 2, 3]
    assert [one["state"] for one in generations] == ["kept", "active"]
