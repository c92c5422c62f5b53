"""`pspsearch import`, against a server that keeps everything in memory."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pspsearch.cli import commands
from tests.pictures import encode, load_photo
from tests.servers.memory_server import MemoryServer
from tests.servers.scripted_server import Requests, Responses, ScriptedServer, acknowledged


@pytest.fixture
def server() -> Iterator[MemoryServer]:
    """A server for one test."""
    with MemoryServer() as server:
        yield server


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Sixty small pictures in three folders, three of them broken."""
    root = tmp_path / "photographs"
    for number in range(60):
        folder = root / ("shoes", "hats", "coats")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        content = encode(load_photo(32 + number, 24, number % 2))
        (folder / f"{number}.jpg").write_bytes(content[:200] if number in {7, 19, 41} else content)
    return root


def run(server: MemoryServer, *arguments: str | Path) -> Result:
    """Runs `pspsearch import` to its end."""
    return CliRunner().invoke(commands, ["import", "--address", server.address, *map(str, arguments)])


def attributes(server: MemoryServer, item_id: str) -> Any:
    """The attributes of an item on the server."""
    return json.loads(server.stored["default"][item_id].item.attributes_json)


def test_broken_files_are_listed_and_the_rest_is_in(server: MemoryServer, photographs: Path, tmp_path: Path) -> None:
    """One in twenty is broken: the exit code says so, and the report has them all."""
    said = run(server, photographs, "--report", tmp_path / "refused.jsonl")

    assert said.exit_code == 1
    broken = {str(photographs / name) for name in ("hats/7.jpg", "hats/19.jpg", "coats/41.jpg")}
    assert {line.split(": ")[1] for line in said.stderr.splitlines()} == broken
    assert all(line.startswith("refused: ") and line.endswith("corrupt") for line in said.stderr.splitlines())
    assert "60 of 60 images" in said.stdout
    assert "57 created, 0 replaced, 0 unchanged, 3 refused" in said.stdout
    assert len(server.stored["default"]) == 57
    assert "shoes/0.jpg" in server.stored["default"]
    reported = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert {one["path"] for one in reported} == broken


def test_repeated_import_says_what_was_unchanged(server: MemoryServer, photographs: Path) -> None:
    """It continues where the last one stopped."""
    run(server, photographs / "shoes")
    Image.new("RGB", (16, 16)).save(photographs / "shoes" / "new.png")

    said = run(server, photographs / "shoes", "--json")

    assert said.exit_code == 0
    summary = json.loads(said.stdout)
    assert (summary["created"], summary["replaced"], summary["unchanged"], summary["refused"]) == (1, 0, 20, [])


def test_attributes_come_from_tables_and_folders(server: MemoryServer, photographs: Path) -> None:
    """The table goes before the folder, and a row without a file is reported."""
    table = photographs / "table.csv"
    table.write_text("file,price,kind\nshoes/0.jpg,3,\nshoes/3.jpg,4,boots\nshoes/nothing.jpg,5,\n")

    said = run(server, photographs / "shoes", "--attributes", table, "--attribute-from-folder", "kind")

    assert said.exit_code == 0, said.output
    assert said.stderr == "1 row of attributes found no file\n"
    assert attributes(server, "0.jpg") == {"kind": "shoes", "price": 3}
    assert attributes(server, "3.jpg") == {"kind": "boots", "price": 4}
    assert attributes(server, "6.jpg") == {"kind": "shoes"}


def test_missing_collection_is_made_where_asked_for(server: MemoryServer, photographs: Path) -> None:
    """Without the option a missing collection is an error; with it, an existing one is not."""
    refused = run(server, photographs / "shoes", "--collection", "shoes")
    made = [run(server, photographs / "shoes", "--collection", "shoes", "--create") for _ in range(2)]

    assert refused.exit_code == 1
    assert "error: there is no collection 'shoes'" in refused.stderr
    assert [said.exit_code for said in made] == [0, 0]
    assert len(server.stored["shoes"]) == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nothing"], "there is no file or folder nothing"), (["."], "no file's name ends in .jpg, .jpeg")],
)
def test_nothing_to_import_is_an_error(
    server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """It must not look like a successful import."""
    monkeypatch.chdir(tmp_path)

    said = run(server, *arguments)

    assert said.exit_code == 1
    assert said.stderr.startswith(f"error: {words}")


def test_many_refusals_are_cut_short(server: MemoryServer, tmp_path: Path) -> None:
    """A screenful suffices; the report has all of them."""
    for number in range(30):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"no image")

    said = run(server, tmp_path)

    lines = said.stderr.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 10 more; --report names them all"
    assert said.exit_code == 1


def test_interrupt_stops_with_a_summary(tmp_path: Path) -> None:
    """Ctrl-C while the server is slow: the summary says what is stored, without a traceback."""
    for number in range(20):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"image")
    two_are_in = threading.Event()

    def stall(requests: Requests, context: grpc.ServicerContext) -> Responses:
        for number, request in enumerate(requests):
            if number == 2:
                two_are_in.set()
                return_when_cancelled = threading.Event()
                context.add_callback(return_when_cancelled.set)
                return_when_cancelled.wait(30)
                return
            yield acknowledged(request)

    with ScriptedServer() as server:
        server.ingest = stall
        command = [sys.executable, "-m", "pspsearch", "import", "--address", server.address, str(tmp_path), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert two_are_in.wait(30)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    summary = json.loads(said)
    assert summary["interrupted"] is True
    assert summary["created"] <= 2
    assert "Traceback" not in errors
