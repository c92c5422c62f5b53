"""Runs the bundled Triton as a child process: starts it, watches it, restarts it, and stops it without a trace."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pspsearch.config import BundledTritonSettings
from pspsearch.errors import (
    BundleMissing,
    ModelLoadFailed,
    PortTaken,
    PspsearchError,
    RepositoryError,
    RetryLater,
    TritonFailed,
)
from pspsearch.model.config import check_config
from pspsearch.model.repository import check_repository
from pspsearch.triton import child
from pspsearch.triton.bundle import Bundle, assemble_python
from pspsearch.triton.client import TritonClient
from pspsearch.triton.owned_name import OwnedName

log = logging.getLogger(__name__)

_TELLING = ("E", "F", "error")
_REGION_BYTES = 16 << 20
"""Shared memory of each Python process, taken at its start: three batches of the shipped model, so it never grows."""
_LOOK_S = 0.1
"""How often the Python processes are checked."""
_FINISHED = "All models are stopped"
"""What a stopping Triton logs when it has answered everything. Unloading its models takes three more seconds."""
_SEND_S = 0.5
"""How long the last answers may take to leave."""


class BundledTriton:
    """A Triton on loopback that runs while the context lasts.

    A child that dies is restarted on the same port, after a growing pause. The child dies with this process, and leaves
    no process and nothing in `/dev/shm`. The event loop that enters the context must outlive it.
    """

    def __init__(self, settings: BundledTritonSettings, objection: Callable[[str], str] = lambda _model: "") -> None:
        """`objection` says why a model must not be loaded, or nothing; it is asked in another thread at each start."""
        self._settings = settings
        self._objection = objection
        self._port = settings.port
        self._failures: dict[str, str] = {}
        self._answers = False
        self._group = 0
        """The child's process group; 0 once it was killed, because the kernel may then reuse the number."""
        self._finished = asyncio.Event()
        """Set when a Triton that was told to stop has nothing under way any more."""
        self._last_lines: deque[str] = deque(maxlen=40)

    @property
    def address(self) -> str:
        """Triton's address; the same after every restart."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the current child."""
        return self._process.pid

    @property
    def owned_name(self) -> OwnedName:
        """The name of everything in `/dev/shm` that belongs to this Triton."""
        return self._owned_name

    @property
    def failures(self) -> dict[str, str]:
        """The reason for each model that is not served, by name."""
        return dict(self._failures)

    def start_again(self) -> None:
        """Kills this Triton, whose answers can no longer be trusted; another one takes its place."""
        if self._answers:
            self._answers = False
            log.error("Triton gave up a Python process that did not answer in time, and may mix up its answers")
            self._kill_group()

    def require(self, model: str) -> None:
        """Raises ModelLoadFailed, with the reason, if the model could not be loaded."""
        if model in self._failures:
            raise ModelLoadFailed(f"model {model} is not served: {self._failures[model]}")

    async def __aenter__(self) -> Self:
        bundle = Bundle.find()
        self._port = self._port or _free_port()
        self._owned_name = OwnedName()
        try:
            self._command, self._environment = _command_line(bundle, self._owned_name, self._settings, self._port)
            await self._start()
        except BaseException:
            await self._stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._supervisor.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        finally:
            await self._stop()

    async def _start(self) -> None:
        """Starts Triton and waits until it answers and has tried to load each sound model."""
        models, self._failures = await asyncio.to_thread(_check_models, self._settings.repository, self._objection)
        self._last_lines.clear()
        self._answers = False
        self._finished.clear()
        output, child_stderr = os.pipe()  # not PIPE: asyncio would wait for the stubs' copies of it to close as well
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *(f"--load-model={model}" for model in models),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=child_stderr,
                cwd=self._owned_name.folder,  # else the stub would import from the folder where the server was started
                # The Python stubs share Triton's process group and are killed with it. A session of its own would also
                # be a scheduler group (autogroup), in which the stubs waited for seconds on a busy core.
                process_group=0,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(child_stderr)
        self._group = self._process.pid
        self._log_reader = asyncio.create_task(self._read_log(output))
        await self._wait_until_it_answers()
        self._failures |= await self._load_failures(models)
        self._answers = True
        log.info("Triton serves %s at %s", self._settings.repository, self.address)

    async def _wait_until_it_answers(self) -> None:
        """Waits until Triton opens its port, which it does when each model has been loaded or has failed to load."""
        async with TritonClient(self.address) as client:
            live = asyncio.create_task(client.wait_until_live(self._settings.start_timeout_s))
            exited = asyncio.create_task(self._process.wait())
            await asyncio.wait((live, exited), return_when=asyncio.FIRST_COMPLETED)
            try:
                if exited.done():
                    self._kill_group()
                    await self._log_reader
                    raise self._reason_of_exit()
                await live
            except RetryLater as error:
                raise TritonFailed(
                    f"Triton did not answer within {self._settings.start_timeout_s:g} s{self._tail()}"
                ) from error
            finally:
                live.cancel()
                exited.cancel()
                await asyncio.gather(live, exited, return_exceptions=True)

    async def _load_failures(self, models: list[str]) -> dict[str, str]:
        async with TritonClient(self.address) as client:
            states = await client.index()
        failures: dict[str, str] = {}
        for model in models:
            reasons = [state.reason for state in states if state.model == model and not state.ready]
            if reasons:
                told = [reason.partition("\n")[0] for reason in reasons if reason]
                failures[model] = "; ".join(told) or "Triton gives no reason"
        return failures

    def _reason_of_exit(self) -> PspsearchError:
        lines = "\n".join(self._last_lines)
        if "already in use" in lines:
            return PortTaken(f"port {self._port} of 127.0.0.1 is taken: choose another, or 0 for a free one")
        if "error while loading shared libraries" in lines:
            return BundleMissing(f"the bundled Triton cannot run on this machine{self._tail()}")
        return TritonFailed(f"Triton exited with code {self._process.returncode}{self._tail()}")

    def _tail(self) -> str:
        telling = [line for line in self._last_lines if line.startswith(_TELLING)] or list(self._last_lines)
        return f": {telling[-1]}" if telling else ""

    async def _read_log(self, output: int) -> None:
        """Copies Triton's errors to our log, and keeps its last lines, which tell why it exits."""
        stream = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(stream)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(output, "rb"))
        async for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            if _FINISHED in line:
                self._finished.set()
            self._last_lines.append(line)
            # An error at the start is raised or in `failures`, in fewer words.
            warn = self._answers and line.startswith(_TELLING)
            log.log(logging.WARNING if warn else logging.DEBUG, "triton: %s", line)

    async def _supervise(self) -> None:
        delay_s = self._settings.restart_delay_s
        while True:
            started = asyncio.get_running_loop().time()
            reason = await self._until_it_is_broken()
            self._kill_group()
            await self._process.wait()
            await self._log_reader
            self._owned_name.remove_triton_regions()
            if asyncio.get_running_loop().time() - started > 10 * self._settings.max_restart_delay_s:
                delay_s = self._settings.restart_delay_s
            log.error("%s; starting it again in %.1f s", reason, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, self._settings.max_restart_delay_s)
            try:
                await self._start()
            except (PspsearchError, OSError) as error:
                log.error("Triton could not be started again: %s", error)  # noqa: TRY400 - a sentence, not a trace
                self._kill_group()
            for name, reason in self._failures.items():
                log.error("model %s is not served any more: %s", name, reason)

    async def _until_it_is_broken(self) -> str:
        """Waits until Triton or one of its Python processes has died, and says which.

        Triton never restarts a Python process. Each call that went to a dead one would wait for a second and fail.
        """
        exited = asyncio.create_task(self._process.wait())
        try:
            dead: set[str] = set()
            while not exited.done():
                await asyncio.wait([exited], timeout=_LOOK_S)
                before, dead = dead, await asyncio.to_thread(_dead_children, self._process.pid)
                if before & dead:  # dead twice in a row: Triton reaps one that ends in order at once
                    return "a Python process of Triton died"
            return f"Triton died ({self._process.returncode})"
        finally:
            exited.cancel()

    async def _stop(self) -> None:
        try:
            if hasattr(self, "_process"):
                await self._terminate()
        finally:
            self._owned_name.release()

    async def _terminate(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            ends = [asyncio.create_task(self._process.wait()), asyncio.create_task(self._finished.wait())]
            done, _ = await asyncio.wait(
                ends, timeout=self._settings.stop_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                log.warning("Triton did not stop within %g s: killing it", self._settings.stop_timeout_s)
            elif not ends[0].done():
                await asyncio.sleep(_SEND_S)
            for end in ends:
                end.cancel()
        self._kill_group()
        await self._process.wait()
        await self._log_reader

    def _kill_group(self) -> None:
        group, self._group = self._group, 0
        if group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def _dead_children(pid: int) -> set[str]:
    """The ids of the process's zombie children; none if the kernel does not tell."""
    dead: set[str] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
                if state == "Z":
                    dead.add(child)
    return dead


def _check_models(repository: Path, objection: Callable[[str], str]) -> tuple[list[str], dict[str, str]]:
    """The models that Triton may load, and why it may not load the others. Reads every file."""
    checked = check_repository(repository)
    failures = {name: str(error) for name, error in checked.broken.items()}
    for name in checked.sound:
        try:
            check_config(repository / name)
        except RepositoryError as error:
            failures[name] = str(error)
        if reason := objection(name):
            failures[name] = reason
    return [name for name in checked.sound if name not in failures], failures


def _command_line(
    bundle: Bundle, owned_name: OwnedName, settings: BundledTritonSettings, port: int
) -> tuple[list[str], dict[str, str]]:
    backends = bundle.assemble_backends(owned_name.folder)
    repository = settings.repository.absolute()
    python = assemble_python(owned_name.folder, repository)
    command = [
        *(sys.executable, "-I", "-S", str(Path(child.__file__)), str(os.getpid()), str(bundle.server)),
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",  # configs are complete; completing them took a third of the start
        "--exit-on-error=false",  # one model's failure must not stop the others
        f"--exit-timeout-secs={max(1, int(settings.stop_timeout_s) - 1)}",
        f"--backend-directory={backends}",
        owned_name.option,
        f"--backend-config=python,shm-default-byte-size={_REGION_BYTES}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
    ]
    environment = {
        **os.environ,
        # The stub embeds a Python, which takes its library from here and its packages from the first python3 on PATH.
        # It ignores PYTHONHOME and PYTHONPATH.
        "LD_LIBRARY_PATH": os.pathsep.join((str(bundle.libraries), str(bundle.python_library))),
        "PATH": os.pathsep.join((str(python), os.environ.get("PATH", os.defpath))),
    }
    return command, environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
