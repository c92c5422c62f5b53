"""A model repository that an attacker has changed, and a server that requests try to make call elsewhere."""

import asyncio
import contextlib
import ipaddress
import os
import py_compile
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from pspsearch.client import AsyncClient, ItemInput
from pspsearch.errors import InvalidRequest, ModelMismatch
from pspsearch.model.manifest import MANIFEST
from tests.faults.place import MODEL, ONCE, Place
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve, why_refused

PICKLE = b"cos\nsystem\n(S'true'\ntR."


def _link(model: Path) -> None:
    """A file of the version is a link to elsewhere."""
    file = model / "1" / "model.onnx"
    file.rename(model.parent.parent / "elsewhere.onnx")
    file.symlink_to(model.parent.parent / "elsewhere.onnx")


def _link_version(model: Path) -> None:
    """The whole version is a link to elsewhere."""
    (model / "1").rename(model.parent.parent / "elsewhere")
    (model / "1").symlink_to(model.parent.parent / "elsewhere")


def _reach_outside(model: Path) -> None:
    """The version's manifest names a file above it."""
    manifest = model / "1" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"model.onnx"', '"../config.pbtxt"'))


def _change(model: Path) -> None:
    """One bit of the network differs."""
    file = model / "1" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _change_program(model: Path) -> None:
    """The program that Triton runs differs."""
    file = model / "1" / "model.py"
    file.write_text(f"import os; os.system('true')\n{file.read_text()}")


def _poison_cache(model: Path) -> None:
    """Adds what Python takes for the compiled `model.py`, because time and size match."""
    program = model / "1" / "model.py"
    published, status = program.read_bytes(), program.stat()
    times = status.st_atime_ns, status.st_mtime_ns
    program.write_bytes(b"import os; os.system('true')\n".ljust(len(published), b"#"))
    os.utime(program, ns=times)
    py_compile.compile(str(program), doraise=True)
    program.write_bytes(published)
    os.utime(program, ns=times)


def _change_config(model: Path) -> None:
    """Changes how Triton runs what was published."""
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "', 'string_value: "f', 1))


def _add_pickle(model: Path) -> None:
    """Adds a file beside those that were published."""
    (model / "1" / "weights.pkl").write_bytes(PICKLE)


def _open_up(model: Path) -> None:
    """Lets everybody write to the program that Triton runs."""
    (model / "1" / "model.py").chmod(0o666)


def _open_up_folder(model: Path) -> None:
    """Lets everybody add a version."""
    model.chmod(0o777)


ATTACKS: dict[Callable[[Path], None], str] = {
    _change: "its sha256 differs",
    _add_pickle: "weights.pkl",
    _link: "is a link",
    _link_version: "is a link",
    _reach_outside: "config.pbtxt",
    _change_program: "its sha256 differs",
    _open_up: "can be written by everybody",
    _open_up_folder: "can be written by everybody",
    _poison_cache: "__pycache__ is not in the manifest",
    _change_config: "its digest differs",
}


async def repository(place: Place, times: int) -> str:
    """Tries so many of the attacks; then checks what listens where, and who is called."""
    folder = place.new_folder("attacks")
    for number, (attack, words) in enumerate(list(ATTACKS.items())[:times]):
        root = folder / str(number) / "model_repository"
        shutil.copytree(place.repository, root)
        attack(root / MODEL)
        flags = ("--repository", str(root), "--model", MODEL)
        told = await asyncio.to_thread(why_refused, folder / "data", "", *flags)
        assert words in told, f"{attack.__name__}: {told}"
    listening = await _call_elsewhere(place, folder / "data")
    return f"{min(times, len(ATTACKS))} attacks refused; {listening} ports, all on loopback; nobody was called"


async def _call_elsewhere(place: Place, data: Path) -> int:
    """Sends requests that name a waiting port, which nobody may call; returns how many ports server and Triton open."""
    called: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as trap:
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/picture.jpg"
        trap.settimeout(0.2)
        stop = threading.Event()

        def wait() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    called.append(trap.accept())

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            with serve(data, "", "--repository", str(place.repository), "--model", MODEL) as server:
                async with AsyncClient(server.address, retries=ONCE) as client:
                    await _name(client, url)
                ours = [psutil.Process(server.process.pid)]
                ours += ours[0].children(recursive=True)
                connections = [one for process in ours for one in process.net_connections("inet")]
        finally:
            stop.set()
            thread.join()
    assert called == []
    listening = {one.laddr.port: one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert all(map(_is_loopback, listening.values())), listening
    assert all(_is_loopback(one.raddr.ip) for one in connections if one.raddr), connections
    return len(listening)


def _is_loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


async def _name(client: AsyncClient, url: str) -> None:
    """Puts the address in every text and bytes field."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'.encode()
    for content in (url.encode(), svg):
        with contextlib.suppress(InvalidRequest):
            await client.search(content)
            raise AssertionError(f"{content!r} is an image")
    (given,) = await client.upsert([ItemInput(url, encode(load_photo(64, 48)), {"url": url})])
    assert given.error is None
    assert (await client.search(encode(load_photo(64, 48)), filter=f'url = "{url}"')).hits[0].id == url
    for model in (url, f"../{MODEL}"):
        with contextlib.suppress(InvalidRequest, ModelMismatch):
            await client.create_collection("other", model=model)
            raise AssertionError(f"{model} is a model")
