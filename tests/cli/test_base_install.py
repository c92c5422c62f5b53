"""What `pip install pspsearch` suffices for: programs run here without anything that it would not install."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from pspsearch.cli import commands
from tests.pictures import load_photo
from tests.servers.memory_server import MemoryServer

ROOT = Path(__file__).parents[2]
SERVER_COMMANDS = {
    "serve": [],
    "doctor": [],
    "triton": [],
    "describe": ["a.jpg"],
    "backup": ["data", "copy"],
    "restore": ["copy", "data"],
    "salvage": ["data", "rest"],
}
PROGRAM = """
import json, sys

class Absent:
    names = set(json.loads(sys.argv.pop(1)))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from pspsearch.cli import main
main()
"""


def brought(requirements: list[str]) -> set[str]:
    """All distributions that these requirements install, directly or not."""
    found: set[str] = set()
    wanted = [Requirement(one) for one in requirements]
    while wanted:
        one = wanted.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name in found or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        wanted.extend(Requirement(further) for further in metadata.requires(name) or ())
    return found


@pytest.fixture(scope="module")
def absent() -> list[str]:
    """The installed modules that the distribution without extras would not install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    there = brought(project["dependencies"]) | {"pspsearch"}
    owners = {
        module: {re.sub(r"[-_.]+", "-", name).lower() for name in names}
        for module, names in metadata.packages_distributions().items()
    }
    return [module for module, names in owners.items() if not names & there]


def run(absent: list[str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(absent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_calls_need_nothing_else(absent: list[str], tmp_path: Path) -> None:
    """A client puts items in, gets, finds, draws and deletes them."""
    image = tmp_path / "a.jpg"
    load_photo().save(image)
    assert {"apsw", "lark", "tritonclient", "prometheus_client", "grpc_health", "faiss"} <= set(absent)

    with MemoryServer() as server:
        for arguments in (
            ["import", tmp_path],
            ["search", image, "--montage", tmp_path / "hits.png"],
            ["compare", image, "id:a.jpg"],
            ["explain", image, "a.jpg", "--picture", tmp_path / "why.png"],
            ["get", "a.jpg"],
            ["list"],
            ["count"],
            ["collections", "list"],
            ["status"],
            ["delete", "a.jpg"],
        ):
            said = run(absent, *arguments, "--address", server.address)

            assert (said.returncode, said.stderr) == (0, ""), arguments


@pytest.mark.parametrize("command", SERVER_COMMANDS)
def test_servers_commands_name_the_extra(absent: list[str], command: str) -> None:
    """The error is one sentence without a traceback."""
    said = run(absent, command, *SERVER_COMMANDS[command])

    assert said.returncode == 1
    (sentence,) = said.stderr.splitlines()
    assert sentence.startswith("error: ")
    assert sentence.endswith("pip install 'pspsearch[cpu]', or 'pspsearch[gpu]'")


def test_help_lists_all_commands(absent: list[str]) -> None:
    """It lists the commands of servers too."""
    said = run(absent, "--help")

    listed = {line.split()[0] for line in said.stdout.splitlines() if re.match(r"  \w", line)}
    assert said.returncode == 0, said.stderr
    assert set(commands.list_commands(click.Context(commands))) <= listed
