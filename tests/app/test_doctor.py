"""`pspsearch doctor`: what it finds in a healthy set-up and in broken ones, and that it leaves no trace."""

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from pspsearch.callers.access import Access
from pspsearch.callers.tokens import create_token
from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.folder import FolderLock
from pspsearch.cli import commands
from pspsearch.model.repository import default_repository
from tests.fakes.catalog import SETTINGS, VERSION, picture
from tests.servers.rpc_server import has_ipv6


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A closed catalog with ten items."""
    data = tmp_path / "data"
    async with await SqliteCatalog.open(data) as catalog:
        _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
        await catalog.write(generation, [picture(str(number), b"%d" % number) for number in range(10)])
    return data


OF_THIS_MACHINE = ("account", "disk", "sync")
"""What is examined and differs from machine to machine."""


def examine(data: Path, *flags: str) -> tuple[int, dict[str, str]]:
    """The exit code, and for everything examined its grade and words."""
    arguments = ["doctor", "--json", "--data", str(data), "--port", "0", "--metrics-port", "0", *flags]
    done = CliRunner().invoke(commands, arguments)
    return done.exit_code, {one["what"]: f"{one['grade']} {one['words']}" for one in json.loads(done.output)}


def everything(folder: Path) -> dict[str, tuple[int, float]]:
    """Every file with its size and time."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime) for path in folder.rglob("*") if path.is_file()}


def test_healthy_set_up_is_good_and_left_as_it_is(data: Path) -> None:
    """All of it is good, and nothing is written."""
    before = everything(data)

    code, found = examine(data)

    assert code == 0, found
    assert {words.partition(" ")[0] for what, words in found.items() if what not in OF_THIS_MACHINE} == {"good"}
    assert found["catalog"] == "good sound, with 10 items"
    assert found["model"].startswith("good pspnet in ")
    assert everything(data) == before


def test_the_embedded_runtime_needs_openvino_and_the_model(data: Path, tmp_path: Path) -> None:
    """It needs no Triton and no shared memory, so neither is examined."""
    code, found = examine(data, "--runtime", "embedded")
    assert code == 0, found
    assert found["model"].endswith("is what was published; OpenVINO is there")
    assert "shared memory" not in found

    code, found = examine(data, "--runtime", "embedded", "--repository", str(tmp_path / "nowhere"))
    assert code == 1
    assert found["model"].startswith("bad ")


def test_folder_that_is_not_there_yet_is_good(tmp_path: Path) -> None:
    """It is good, and is not created."""
    code, found = examine(tmp_path / "new" / "data")

    assert code == 0
    assert found["data"] == f"good {tmp_path}/new/data is not there yet, and will be made"
    assert list(tmp_path.iterdir()) == []


def test_running_server_is_seen(data: Path) -> None:
    """Its port is taken, as it should be."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with FolderLock(data):
            code, found = examine(data, "--port", port)
        later_code, later = examine(data, "--port", port)

    assert (code, found["server"]) == (0, f"good one runs on {data}")
    assert found["port"] == f"good 127.0.0.1:{port} is taken, as it should be"
    assert (later_code, "server" in later) == (1, False)
    assert later["port"].startswith(f"bad 127.0.0.1:{port} cannot be bound (Address already in use)")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback, so that nothing is bound to it")
def test_port_of_an_ipv6_host_is_judged(data: Path, host: str) -> None:
    """The port is free, and then taken."""
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        port = str(taken.getsockname()[1])
        taken.listen()
        code, found = examine(data, "--host", host, "--port", port)
    later_code, later = examine(data, "--host", host, "--port", port)

    assert code == 1
    assert found["port"].startswith(f"bad [::1]:{port} cannot be bound (Address already in use)")
    assert (later_code, later["port"]) == (0, f"good [::1]:{port} is free")


@pytest.fixture
async def killed(data: Path) -> Path:
    """A copy of the data with five more items, in the log that a killed server left."""
    copy = data.with_name("killed")
    async with await SqliteCatalog.open(data) as catalog:
        ((_, generation),) = await catalog.collections()
        for number in range(10, 15):
            await catalog.write(generation, [picture(str(number), b"%d" % number)])
        shutil.copytree(data, copy, ignore=shutil.ignore_patterns("*-shm"))
    return copy


def test_log_of_a_killed_server_is_looked_through(killed: Path) -> None:
    """A server would not start on one that is damaged, either."""
    code, found = examine(killed)
    with (killed / "catalog.sqlite3-wal").open("r+b") as log:
        log.seek(100)
        log.write(b"damage")
    damaged_code, damaged = examine(killed)

    assert (code, found["catalog"]) == (0, "good sound, with 15 items")
    assert damaged_code == 1
    assert damaged["catalog"].startswith(f"bad {killed}/catalog.sqlite3-wal is damaged: 5 transactions")


def cut_catalog(data: Path) -> list[str]:
    """Cuts off half of the catalog."""
    os.truncate(data / "catalog.sqlite3", 6_000)
    return []


def lose_catalog(data: Path) -> list[str]:
    """Removes the catalog; naming the wrong folder looks the same."""
    (data / "catalog.sqlite3").unlink()
    (data / "indexes").mkdir()
    return []


def edit_model(data: Path) -> list[str]:
    """Changes one byte of the weights."""
    repository = Path(shutil.copytree(default_repository(), data.parent / "models"))
    with (repository / "pspnet" / "1" / "model.onnx").open("r+b") as file:
        file.write(b"\xff")
    return ["--repository", str(repository)]


def name_no_model(_: Path) -> list[str]:
    """Sets a model that is not in the repository."""
    return ["--model", "resnet"]


def call_nobody(_: Path) -> list[str]:
    """Sets the address of a Triton that is not there."""
    return ["--triton", "127.0.0.1:1"]


def ask_for_a_gpu(_: Path) -> list[str]:
    """Sets a GPU, which is not there."""
    return ["--device", "gpu"]


def mix_up_keys(data: Path) -> list[str]:
    """Sets a file that is no certificate."""
    (data.parent / "pem").write_text("nothing")
    return ["--tls-certificate", str(data.parent / "pem"), "--tls-key", str(data.parent / "pem")]


def certify(data: Path, days: float) -> list[str]:
    """Makes a certificate that is valid for so long."""
    leaf = trustme.CA().issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=days))
    leaf.private_key_pem.write_to_path(data.parent / "server.key")
    (data.parent / "server.key").chmod(0o600)
    leaf.cert_chain_pems[0].write_to_path(data.parent / "server.pem")
    return ["--tls-certificate", str(data.parent / "server.pem"), "--tls-key", str(data.parent / "server.key")]


def expire_certificate(data: Path) -> list[str]:
    """Makes a certificate that has expired."""
    return certify(data, -1)


def expire_tokens(data: Path) -> list[str]:
    """Makes all tokens expire."""
    path = data.parent / "tokens.json"
    create_token(path, Access("old"), datetime.now(UTC) - timedelta(days=1))
    return ["--tokens", str(path)]


def want_all_memory(_: Path) -> list[str]:
    """Sets more memory than there is."""
    return ["--index-memory-bytes", str(1 << 60)]


def put_a_file_in_the_way(data: Path) -> list[str]:
    """Puts a file where the folder should be."""
    (data.parent / "file").touch()
    return ["--data", str(data.parent / "file" / "data")]


def put_a_folder_where_the_audit_log_is(data: Path) -> list[str]:
    """Puts a folder at the path of the audit log, which was meant to be in it."""
    (data.parent / "audit").mkdir()
    return ["--audit-log", str(data.parent / "audit")]


def lose_the_folder_of_the_audit_log(data: Path) -> list[str]:
    """Sets an audit log in a folder that does not exist; the server creates none."""
    return ["--audit-log", str(data.parent / "nowhere" / "audit.jsonl")]


BREAKS: list[tuple[Callable[[Path], list[str]], str, str]] = [
    (cut_catalog, "catalog", "restore a backup"),
    (lose_catalog, "catalog", "but indexes: name the folder of the catalog, or restore a backup"),
    (edit_model, "model", "is not the file that was published"),
    (name_no_model, "model", "has no model resnet, but pspnet"),
    (call_nobody, "model", "127.0.0.1:1"),
    (ask_for_a_gpu, "FAISS", "pip install 'pspsearch[gpu]' where there is one"),
    (mix_up_keys, "certificate", "are not a certificate with its key"),
    (expire_certificate, "certificate", "put another in its place"),
    (expire_tokens, "tokens", "has no token that is good"),
    (want_all_memory, "memory", "lower it"),
    (put_a_folder_where_the_audit_log_is, "audit log", "audit is no file that this account can write to"),
    (lose_the_folder_of_the_audit_log, "audit log", "nowhere is no folder that this account can write to"),
    (put_a_file_in_the_way, "data", "is no folder that this account can write to"),
]


@pytest.mark.parametrize(("break_it", "what", "words"), BREAKS, ids=[one.__name__ for one, _, _ in BREAKS])
def test_what_is_broken_is_named(data: Path, break_it: Callable[[Path], list[str]], what: str, words: str) -> None:
    """The finding says what to do; the rest is examined all the same."""
    code, found = examine(data, *break_it(data))

    assert code == 1
    assert [one for one, told in found.items() if told.startswith("bad")] == [what], found
    assert words in found[what], found[what]
    assert "open files" in found


def test_traces_without_their_packages_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding says what the server would say; with the packages, it is good."""
    code, found = examine(data, "--traces", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    broken_code, broken = examine(data, "--traces", "http://127.0.0.1:1")

    assert (code, found["traces"]) == (0, "good go to http://127.0.0.1:1, which was not contacted")
    assert broken_code == 1
    assert broken["traces"].startswith("bad traces need packages that are not installed: pip install")


def test_audit_log_is_looked_at_and_not_made(data: Path) -> None:
    """It is examined, whether it exists already or not."""
    path = data.parent / "audit.jsonl"

    new = examine(data, "--audit-log", str(path))[1]["audit log"]
    was_made = path.exists()
    path.touch()
    there = examine(data, "--audit-log", str(path))[1]["audit log"]

    assert new == there == f"good {path} can be written"
    assert not was_made


def test_example_in_the_manual_is_in_order(tmp_path: Path) -> None:
    """The example is the set-up of a server that was never started."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    example = re.findall(r"^(\w[\w ]*?) {2,}(?:good|doubtful|bad) {2}", text, re.MULTILINE)
    found = [what for what in examine(tmp_path / "new")[1] if what != "account"]

    assert len(example) > 5
    assert [what for what in example if what not in {"port", "metrics"}] == found


def test_everything_is_examined_in_order(data: Path) -> None:
    """The folder comes first, then who is let in, the model and its index, and last what the machine gives."""
    tokens = data.parent / "tokens.json"
    create_token(tokens, Access("shop"), None)
    flags = ["--tokens", str(tokens), "--audit-log", str(data.parent / "audit"), "--traces", "http://127.0.0.1:1"]
    with FolderLock(data):
        _, found = examine(data, "--insecure", *flags, *certify(data, 300))

    assert [what for what in found if what != "account"] == [
        *("server", "file system", "disk", "sync", "catalog"),
        *("certificate", "tokens", "audit log", "traces"),
        *("model", "FAISS"),
        *("open files", "memory", "shared memory"),
    ]


def doubts(found: dict[str, str]) -> Iterator[str]:
    """The doubtful findings that do not come from this machine."""
    return (what for what, told in found.items() if told.startswith("doubtful") and what not in OF_THIS_MACHINE)


def test_doubts_do_not_fail(data: Path) -> None:
    """Doubtful are a token or certificate that soon expires, a file that others can read, a server that asks nobody."""
    path = data.parent / "tokens.json"
    create_token(path, Access("soon"), datetime.now(UTC) + timedelta(days=3))
    path.chmod(0o644)

    code, found = examine(data, "--tokens", str(path), "--insecure", "--host", "127.0.0.1")
    of_certificate = [examine(data, *certify(data, days))[1]["certificate"] for days in (3, 300)]

    assert code == 0
    assert set(doubts(found)) == {"tokens", "callers"}
    assert "insecure" in found["callers"]
    assert [told.split()[0] for told in of_certificate] == ["doubtful", "good"]
