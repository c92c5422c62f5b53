"""The bundled Triton as a child: what it survives, what it leaves, what it says."""

import asyncio
import contextlib
import errno
import importlib.util
import marshal
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest

from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Pixels
from pspsearch.errors import BundleMissing, DeadlineExceeded, ModelLoadFailed, PortTaken, RepositoryError, RetryLater
from pspsearch.model.manifest import MANIFEST, Manifest
from pspsearch.model.repository import check_repository
from pspsearch.triton import process
from pspsearch.triton.bundle import Bundle
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.owned_name import SHARED_MEMORY, sweep
from pspsearch.triton.process import BundledTriton
from pspsearch_build.seal import seal
from tests.e2e.conftest import SHIPPED, crops


def traces(prefix: str) -> list[str]:
    """Returns everything in the system that carries the name of one Triton."""
    regions = [region.name for region in SHARED_MEMORY.glob(f"{prefix}*")]
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return regions + [command for command in commands if prefix in command]


def python_processes(triton: BundledTriton) -> list[psutil.Process]:
    """Returns the Python processes that compute for it."""
    return [one for one in psutil.Process(triton.pid).children() if one.name().startswith("triton_python")]


def pipes() -> int:
    """Counts the pipes that this process has an end of."""
    files = Path("/proc/self/fd").iterdir()
    return sum(os.path.realpath(file).rpartition("/")[2].startswith("pipe:") for file in files)


async def test_recovers_from_kill_and_leaves_nothing(repository: Path, photographs: list[Pixels]) -> None:
    """After kill -9 under load errors say "later" well before deadlines, service returns, and a stop leaves nothing."""
    errors: list[Exception] = []
    async with (
        BundledTriton(BundledTritonSettings(repository)) as triton,
        TritonClient(triton.address) as client,
        await TritonDescriber.open(client, SHIPPED) as describer,
    ):
        image = np.stack(crops(photographs, describer.version.contract.shape, 1))
        expected = (await describer.describe(image)).descriptors
        recovered = asyncio.Event()

        async def ask_until_recovered() -> None:
            while not recovered.is_set():
                try:
                    answer = (await describer.describe(image, timeout_s=10)).descriptors
                    assert (answer * expected).sum() > 0.999
                    if errors:
                        recovered.set()
                except RetryLater as error:
                    errors.append(error)
                    await asyncio.sleep(0.02)

        callers = [asyncio.create_task(ask_until_recovered()) for _ in range(8)]
        os.kill(triton.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            await asyncio.gather(*callers)
        assert describer.version.version == 1
        prefix = triton.owned_name.prefix

    assert errors
    assert not any(isinstance(error, DeadlineExceeded) for error in errors), "they were told, not left to wait"
    assert traces(prefix) == []


async def test_recovers_where_no_process_can_be_started_for_a_while(
    repository: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine has too many open files, or too many processes, for a moment; the start is tried again."""
    start: Any = asyncio.create_subprocess_exec
    failures = iter([errno.EMFILE, errno.EAGAIN, errno.ENOMEM])

    async def fail_at_first(*arguments: Any, **options: Any) -> Any:
        for number in failures:
            raise OSError(number, os.strerror(number))
        return await start(*arguments, **options)

    async with BundledTriton(BundledTritonSettings(repository)) as triton, TritonClient(triton.address) as client:
        killed, before = triton.pid, pipes()
        monkeypatch.setattr(asyncio, "create_subprocess_exec", fail_at_first)
        kill = Mock(wraps=os.killpg)
        monkeypatch.setattr(os, "killpg", kill)
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(60):
            while triton.pid == killed:
                await asyncio.sleep(0.02)
            await client.wait_until_live(30)

        assert pipes() == before
        assert kill.call_count == 1, "its number may be somebody else's by now"
    said = [one for one in caplog.messages if one.startswith("Triton could not be started again")]
    assert [one.rpartition(": ")[2] for one in said] == [
        f"[Errno {number}] {os.strerror(number)}" for number in (errno.EMFILE, errno.EAGAIN, errno.ENOMEM)
    ]


async def test_leaves_nothing_whatever_went_wrong_with_watching_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the watcher is raised at the end, and Triton is stopped all the same."""
    failed = asyncio.Event()

    async def fail() -> str:
        failed.set()
        raise ZeroDivisionError

    triton = BundledTriton(BundledTritonSettings(repository))
    monkeypatch.setattr(triton, "_until_it_is_broken", fail)
    with pytest.raises(ZeroDivisionError):
        async with triton:
            await failed.wait()

    assert traces(triton.owned_name.prefix) == []


async def test_recovers_from_the_kill_of_a_python_process(repository: Path, photographs: list[Pixels]) -> None:
    """Triton itself would go on with the other one, and fail every second call for ever."""
    async with (
        BundledTriton(BundledTritonSettings(repository)) as triton,
        TritonClient(triton.address) as client,
        await TritonDescriber.open(client, SHIPPED) as describer,
    ):
        image = np.stack(crops(photographs, describer.version.contract.shape, 1))
        before = triton.pid
        python_processes(triton)[0].kill()
        async with asyncio.timeout(30):
            while triton.pid == before:
                await asyncio.sleep(0.02)
            await client.wait_until_live(20)

        for _ in range(20):  # enough calls to reach both processes
            assert (await describer.describe(image, timeout_s=10)).descriptors.shape == (1, 256)


async def test_answers_are_not_mixed_up_after_python_processes_stood_still(
    repository: Path, photographs: list[Pixels], caplog: pytest.LogCaptureFixture
) -> None:
    """Triton gives them up after a second, and would take their later answers for those to the next requests."""
    async with (
        BundledTriton(BundledTritonSettings(repository)) as triton,
        TritonClient(triton.address, triton.start_again) as client,
        await TritonDescriber.open(client, SHIPPED) as describer,
    ):
        images = crops(photographs, describer.version.contract.shape, 8)
        expected = [(await describer.describe(image[None])).descriptors for image in images]
        failed, woken = asyncio.Event(), asyncio.Event()

        async def ask(number: int) -> None:
            answers = 0
            while answers < 20:
                try:
                    await client.wait_until_live(30)
                    answer = (await describer.describe(images[number][None], timeout_s=10)).descriptors
                except RetryLater:
                    failed.set()
                    continue
                assert (answer * expected[number]).sum() > 0.999
                answers += woken.is_set()

        before = triton.pid
        asleep = python_processes(triton)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(len(images)):
                group.create_task(ask(number))
            for one in asleep:
                one.suspend()
            await failed.wait()
            for one in asleep:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.resume()
            woken.set()
        assert triton.pid != before
        assert "may mix up its answers" in caplog.text, "it went on until it crashed"


async def test_shared_memory_is_registered_with_the_next_triton(repository: Path, photographs: list[Pixels]) -> None:
    """A restarted Triton does not know the ring, so pixels go in requests until it does."""
    async with (
        BundledTriton(BundledTritonSettings(repository)) as triton,
        TritonClient(triton.address) as client,
        await TritonDescriber.open(client, SHIPPED, shared_memory=True) as describer,
    ):
        image = np.stack(crops(photographs, describer.version.contract.shape, 1))
        killed = triton.pid
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(30):
            while triton.pid == killed:
                await asyncio.sleep(0.02)
            await client.wait_until_live(20)
            await describer.describe(image)
            while not describer.uses_shared_memory:
                await asyncio.sleep(0.02)

        assert (await describer.describe(image)).descriptors.shape == (1, 256)


def prefix_of(owner: "subprocess.Popen[str]") -> str:
    """The name of what belongs to the Triton of this process."""
    children = psutil.Process(owner.pid).children(recursive=True)
    arguments = " ".join(argument for child in children for argument in child.cmdline())
    prefix = arguments.partition("shm-region-prefix-name=")[2].partition("-triton-")[0]
    assert prefix.startswith("pspsearch-")
    return prefix


def test_killed_owner_leaves_nothing(repository: Path) -> None:
    """kill -9 of the process that owns Triton: Triton dies with it, and the next start removes the rest."""
    command = [sys.executable, "-m", "pspsearch", "triton", "--port", "0", "--repository", str(repository)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert "Triton serves" in owner.stdout.readline()
    prefix = prefix_of(owner)
    children = psutil.Process(owner.pid).children(recursive=True)
    servers = [child for child in children if "tritonserver" in child.name()]
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert len(servers) == 1
    _, alive = psutil.wait_procs(servers, timeout=5)
    assert alive == []

    sweep()

    assert traces(prefix) == []


def test_sigterm_stops_it_cleanly(repository: Path) -> None:
    """The signal of a service manager ends it with code 0 and leaves nothing behind."""
    command = [sys.executable, "-m", "pspsearch", "triton", "--port", "0", "--repository", str(repository)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert "Triton serves" in owner.stdout.readline()
    prefix = prefix_of(owner)

    owner.send_signal(signal.SIGTERM)

    assert owner.wait(timeout=10) == 0
    owner.stdout.close()
    assert traces(prefix) == []


async def test_answers_what_is_under_way_before_it_stops(
    repository: Path, photographs: list[Pixels], caplog: pytest.LogCaptureFixture
) -> None:
    """Others may call it directly; what they have begun is finished."""
    async with contextlib.AsyncExitStack() as rest:
        async with BundledTriton(BundledTritonSettings(repository)) as triton:
            client = await rest.enter_async_context(TritonClient(triton.address))
            describer = await rest.enter_async_context(await TritonDescriber.open(client, SHIPPED))
            images = np.stack(crops(photographs, describer.version.contract.shape, 8))
            calls = [asyncio.create_task(describer.describe(images)) for _ in range(8)]
            answered, under_way = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        answers = await asyncio.gather(*calls)

    assert answered
    assert under_way
    assert {answer.descriptors.shape for answer in answers} == {(8, 256)}
    assert "did not stop" not in caplog.text


async def test_taken_port_is_a_sentence(repository: Path) -> None:
    """The port that somebody else has is named, and nothing is left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(PortTaken, match=f"port {port} of 127.0.0.1 is taken"):
            async with BundledTriton(BundledTritonSettings(repository, port)):
                pass


async def test_missing_repository_is_a_sentence(tmp_path: Path) -> None:
    """A mistyped path is named before Triton is started."""
    with pytest.raises(RepositoryError, match="nowhere is not a folder"):
        async with BundledTriton(BundledTritonSettings(tmp_path / "nowhere")):
            pass


def test_missing_bundle_is_a_sentence() -> None:
    """Without the cpu extra, the error names both ways out: an address, or the extra."""
    import pspsearch

    root = Path(pspsearch.__file__).parents[1]
    script = f"import sys; sys.path.insert(0, {str(root)!r}); from pspsearch.triton.bundle import Bundle; Bundle.find()"
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)

    assert "pip install 'pspsearch[cpu]'" in answer.stderr
    assert BundleMissing.__name__ in answer.stderr


def test_backends_are_assembled_from_this_python(tmp_path: Path) -> None:
    """Triton finds its Python backend and the stub of this Python's version in one folder."""
    names = {path.name for path in (Bundle.find().assemble_backends(tmp_path) / "python").iterdir()}

    assert {"libtriton_python.so", "triton_python_backend_stub", "triton_python_backend_utils.py"} <= names


async def test_compiled_files_in_a_version_are_neither_run_nor_written(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poisoned file with the program's own time and size, put there after all was checked, does not run."""
    root, ran = tmp_path / "models", tmp_path / "ran"
    program = Path(shutil.copytree(repository / SHIPPED, root / SHIPPED)) / "1" / "model.py"
    poison = Path(importlib.util.cache_from_source(str(program)))
    source = f"{program.read_text()}\nopen({str(ran)!r}, 'w').close()\n"

    def check_and_poison(*arguments: Any) -> Any:
        checked = check_repository(*arguments)
        poison.parent.mkdir()
        header = struct.pack("<III", 0, int(program.stat().st_mtime), program.stat().st_size)
        code = marshal.dumps(compile(source, str(program), "exec"))
        poison.write_bytes(importlib.util.MAGIC_NUMBER + header + code)
        return checked

    monkeypatch.setattr(process, "check_repository", check_and_poison)
    async with BundledTriton(BundledTritonSettings(root)) as triton:
        assert triton.failures == {}
        monkeypatch.undo()
        assert not ran.exists()
        assert list(poison.parent.iterdir()) == [poison]
        shutil.rmtree(poison.parent)

        os.kill(triton.pid, signal.SIGKILL)
        killed = triton.pid
        async with asyncio.timeout(30), TritonClient(triton.address) as client:
            while triton.pid == killed:
                await asyncio.sleep(0.02)
            await client.wait_until_live(20)

        assert not poison.parent.exists()
        assert triton.failures == {}


def change_dimension(model: Path) -> str:
    """Makes the config promise more numbers than the network gives."""
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: 256", "dims: 512"))
    seal(model)
    return f"{model}/1/model.onnx"


def republish(model: Path) -> None:
    """Gives the files of the version's folder a new manifest, contract and digest."""
    was = Manifest.read(model / "1").digest
    now = Manifest.of_files(model / "1")
    now.write(model / "1")
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace(was, now.digest))
    seal(model)


def edit_config(model: Path) -> str:
    """Makes the config name another precision than the contract."""
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "bf16"', 'string_value: "f32"'))
    return "is not the one that was published"


def break_code(model: Path) -> str:
    """Properly publishes a model.py that does not run."""
    (model / "1" / "model.py").write_text("raise RuntimeError('not today')")
    republish(model)
    return "not today"


def break_weights(model: Path) -> str:
    """Properly publishes an ONNX file that is none."""
    (model / "1" / "model.onnx").write_bytes(b"not an ONNX file")
    republish(model)
    return "model.onnx"


def break_config(model: Path) -> str:
    """Writes a config that does not parse."""
    (model / "config.pbtxt").write_text("name: ")
    return "config.pbtxt"


def edit_weights(model: Path) -> str:
    """Changes one byte in place."""
    with (model / "1" / "model.onnx").open("r+b") as file:
        file.write(b"\xff")
    return f"{model}/1/model.onnx"


def lose_weights(model: Path) -> str:
    """Removes a file that the manifest lists."""
    (model / "1" / "model.onnx").unlink()
    (model / "1" / MANIFEST).unlink()
    return "model.onnx"


DAMAGES = [change_dimension, edit_config, break_code, break_weights, break_config, edit_weights, lose_weights]


async def test_broken_models_are_named_and_the_sound_one_is_served(
    repository: Path, tmp_path: Path, photographs: list[Pixels]
) -> None:
    """Seven models are broken in seven ways: each has its reason, and the shipped one beside them answers."""
    root = Path(shutil.copytree(repository / SHIPPED, tmp_path / SHIPPED)).parent
    telling: dict[str, str] = {}
    for damage in DAMAGES:
        model = root / damage.__name__
        shutil.copytree(repository / SHIPPED, model)
        config = model / "config.pbtxt"
        config.write_text(config.read_text().replace(f'name: "{SHIPPED}"', f'name: "{model.name}"'))
        telling[model.name] = damage(model)

    async with (
        BundledTriton(BundledTritonSettings(root)) as triton,
        TritonClient(triton.address) as client,
        await TritonDescriber.open(client, SHIPPED) as describer,
    ):
        image = np.stack(crops(photographs, describer.version.contract.shape, 1))
        descriptors = (await describer.describe(image)).descriptors
        failures = triton.failures
        with pytest.raises(ModelLoadFailed, match="not today"):
            triton.require("break_code")

    assert descriptors.shape == (1, 256)
    assert failures.keys() == telling.keys()
    for name, words in telling.items():
        assert words in failures[name], name
        assert "\n" not in failures[name], name
