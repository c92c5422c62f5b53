"""A model swap on a real server: real Triton, versions published by the project's own tools, searches all the time."""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime as ort
import psutil
import pytest
from PIL import Image

from pspsearch.client import Client, ItemInput, Rollout, ServerUnavailable
from pspsearch.domain import Descriptors, GenerationState, RolloutStage
from pspsearch.errors import ModelMismatch, PspsearchError, RetryLater
from pspsearch.images.pixels import ImageLimits, decode_pixels
from pspsearch.model.contract import InputShape
from pspsearch.model.manifest import Manifest
from pspsearch_build.publish import Publication, publish
from tests.build.colour_network import Fault, write_colour_network
from tests.pictures import encode
from tests.servers.search_server import SearchServer, serve

ITEMS = 60
HITS = 5
SCORE_TOLERANCE = 0.01
"""Triton computes in bf16, the reference in FP32."""
ANSWERS = 6
"""How many answers show what a version says while others come and go."""
HANGS_S = 120


def picture(number: int) -> bytes:
    """Returns stripes of colours, because the network looks at lines of pixels."""
    colours = np.random.default_rng(number).integers(0, 256, (8, 1, 3), np.uint8)
    return encode(Image.fromarray(np.tile(colours, (1, 8, 1))).resize((32, 32), Image.Resampling.NEAREST), "PNG")


PICTURES = [picture(number) for number in range(ITEMS)]


def reference(onnx: Path) -> Descriptors:
    """Returns what the network itself makes of the pictures."""
    limits = ImageLimits(1 << 20, 1 << 20)
    pixels = np.stack([decode_pixels(image, InputShape(32, 32), limits) for image in PICTURES])
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["descriptor"], {"pixels": pixels})[0], np.float32)


@dataclass
class Searchers:
    """Clients that search without a pause. Every answer is compared with brute force in the space that it names."""

    address: str
    spaces: dict[str, Descriptors]
    """The items' descriptors by fingerprint."""
    seen: dict[int, int] = field(default_factory=dict[int, int])
    """The number of answers by model version."""
    wrong: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._stop, self._news = threading.Event(), threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(3)]

    def __enter__(self) -> "Searchers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, version: int) -> None:
        """Waits until the clients have some more answers of that version."""
        goal = self.seen.get(version, 0) + ANSWERS
        with self._news:
            assert self._news.wait_for(lambda: self.seen.get(version, 0) >= goal, HANGS_S), self.wrong

    def _run(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        with Client(self.address) as client:
            while not self._stop.is_set():
                numbers = [int(number) for number in chance.integers(0, ITEMS, 3)]
                try:
                    answer = client.search_batch([PICTURES[number] for number in numbers], limit=HITS)
                    space = self.spaces[answer.origin.fingerprint]
                    for number, hits in zip(numbers, answer.results, strict=True):
                        assert not isinstance(hits, Exception), hits
                        self._check(space @ space[number], [(hit.id, hit.score) for hit in hits])
                    with self._news:
                        self.seen[answer.origin.model_version] = self.seen.get(answer.origin.model_version, 0) + 1
                        self._news.notify_all()
                except Exception as error:
                    self.wrong.append(repr(error))

    def _check(self, true: Descriptors, hits: list[tuple[str, float]]) -> None:
        """Asserts that each hit has its score in this space, and that no better item is left out."""
        assert len(hits) == HITS
        for id_, score in hits:
            assert abs(true[int(id_)] - score) < SCORE_TOLERANCE, (id_, score)
        left_out = np.delete(true, [int(id_) for id_, _ in hits])
        assert left_out.max() < hits[-1][1] + 2 * SCORE_TOLERANCE


@dataclass
class Place:
    """A repository with one version, and a server that runs its own Triton on it."""

    repository: Path
    networks: Path
    server: SearchServer
    client: Client

    def publish(self, number: int, fault: Fault = Fault.NONE) -> Path:
        """Publishes the next version, of another network."""
        network = write_colour_network(self.networks / f"{number}.onnx", seed=number, fault=fault)
        trial = "pspsearch_build.publish.version.try_outputs"
        with mock.patch(trial) if fault is not Fault.NONE else contextlib.nullcontext():  # a fault must get past it
            publish(Publication(network, self.repository, "colour"))
        return network

    def fingerprint(self, number: int) -> str:
        """Returns the fingerprint of a version that the server can use."""
        return next(one.fingerprint for one in self.client.list_model_versions("colour") if one.version == number)

    def roll_out(self, number: int) -> Rollout:
        """Runs a rollout to its end."""
        self.client.start_rollout(number, automatic=True)
        return list(self.client.watch_rollout())[-1]


@pytest.fixture
def runtime() -> str:
    """Where the model runs."""
    return "triton"


@pytest.fixture
def place(tmp_path: Path, runtime: str) -> Iterator[Place]:
    """A place with 60 items under version 1."""
    repository, networks = tmp_path / "model_repository", tmp_path / "networks"
    for folder in (repository, networks):
        folder.mkdir()
    network = write_colour_network(networks / "1.onnx", seed=1)
    publish(Publication(network, repository, "colour"))
    flags = ("--repository", str(repository), "--model", "colour", "--gate-overlap", "0.0", "--gate-slowdown", "20")
    flags = (*flags, "--runtime", runtime)
    with serve(tmp_path / "data", "", *flags) as server, Client(server.address) as client:
        client.upsert([ItemInput(str(number), image) for number, image in enumerate(PICTURES)])
        yield Place(repository, networks, server, client)


@pytest.mark.parametrize("runtime", ["triton", "embedded"])
def test_a_swap_a_rollback_and_a_swap_again(place: Place) -> None:
    """Three clients search all the time: no answer fails, and none mixes two versions."""
    spaces = {place.fingerprint(1): reference(place.networks / "1.onnx")}
    with Searchers(place.server.address, spaces) as searchers:
        network = place.publish(2)
        spaces[place.fingerprint(2)] = reference(network)
        rollout = place.roll_out(2)
        assert (rollout.stage, rollout.described) == (RolloutStage.PROMOTED, ITEMS), rollout.reason
        searchers.go_on(2)
        assert place.client.rollback().model_version == 1
        searchers.go_on(1)
        place.client.rollback()
        network = place.publish(3)
        spaces[place.fingerprint(3)] = reference(network)
        rollout = place.roll_out(3)
        assert rollout.stage is RolloutStage.PROMOTED, rollout.reason
        searchers.go_on(3)

        model, aside = place.repository / "colour", place.networks / "aside"
        shutil.rmtree(model / "1")  # retired
        shutil.move(model / "2", aside)  # kept
        listed = {one.version: one.reason for one in place.client.list_model_versions("colour")}
        assert "is gone, and is in use: put it back" in listed[2]
        shutil.move(aside, model / "2")
        assert place.client.rollback().model_version == 2
        searchers.go_on(2)
        place.client.retire_generation()
        shutil.rmtree(model / "3")
        for _ in range(100):  # the last call may still use it
            listed = {one.version: one.reason for one in place.client.list_model_versions("colour")}
            if "in use" not in listed.get(3, ""):
                break
            time.sleep(0.05)
        assert listed == {2: ""}

    assert searchers.wrong == []
    assert searchers.seen.keys() == {1, 2, 3}
    assert len(spaces) == 3


def test_a_version_that_was_changed_does_not_answer_under_its_old_number(place: Place) -> None:
    """This holds even if Triton dies and would load it again; when it is put back, it answers."""
    expected = place.client.search(PICTURES[0]).hits
    version = place.repository / "colour" / "1"
    original = (version / "model.onnx").read_bytes()
    (version / "model.onnx").write_bytes(write_colour_network(place.networks / "other.onnx", seed=9).read_bytes())
    Manifest.of_files(version).write(version)
    (triton,) = (
        child for child in psutil.Process(place.server.process.pid).children() if child.name() == "tritonserver"
    )
    triton.kill()
    triton.wait(10)

    refusal: PspsearchError = ServerUnavailable("not asked yet")
    deadline = time.monotonic() + 30
    while isinstance(refusal, ServerUnavailable | RetryLater) and time.monotonic() < deadline:
        with pytest.raises(PspsearchError) as caught:
            place.client.search(PICTURES[0])
        refusal = caught.value

    assert isinstance(refusal, ModelMismatch)
    assert "has been changed" in place.client.list_model_versions("colour")[0].reason
    (version / "model.onnx").write_bytes(original)
    Manifest.of_files(version).write(version)
    assert place.client.list_model_versions("colour")[0].reason == ""
    assert place.client.search(PICTURES[0]).hits == expected


def test_bad_versions_are_refused(place: Place) -> None:
    """Each in turn gets its own sentence, while searches go on and never notice."""
    spaces = {place.fingerprint(1): reference(place.networks / "1.onnx")}
    with Searchers(place.server.address, spaces) as searchers:
        for number, fault, words in (
            (2, Fault.NAN, "colour/2 answers with a descriptor that is not of unit length"),
            (3, Fault.COLLAPSED, "the gate refused it: collapse is 1"),
        ):
            place.publish(number, fault)
            rollout = place.roll_out(number)
            assert rollout.stage is RolloutStage.FAILED
            assert words in rollout.reason

        place.publish(4, Fault.OTHER_DIMENSION)
        with pytest.raises(ModelMismatch, match=r"colour/4 cannot be used: .*of \[128\]"):
            place.client.start_rollout(4)
        shutil.rmtree(place.repository / "colour" / "4")

        place.publish(5)  # it gets the number that has become free again
        edited = place.repository / "colour" / "1"  # the version that answers
        (edited / "model.onnx").write_bytes(write_colour_network(place.networks / "other.onnx", seed=9).read_bytes())
        for words in ("is not the file that was published", "has been changed since the server began to use it"):
            listed = {one.version: one.reason for one in place.client.list_model_versions("colour")}
            assert words in listed[1]
            assert "is not loaded while another one is broken" in listed[4]
            with pytest.raises(ModelMismatch, match="colour/4 cannot be used"):
                place.client.start_rollout(4)
            Manifest.of_files(edited).write(edited)

    assert (searchers.wrong, searchers.seen.keys()) == ([], {1})
    states = [one.state for one in place.client.list_generations()]
    assert states == [GenerationState.ACTIVE, GenerationState.FAILED, GenerationState.FAILED]
