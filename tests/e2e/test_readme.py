"""Every command block of the manual, run as a newcomer would: in order, in a tree like a fresh clone."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pspsearch.config import all_settings
from tests.pictures import load_photo

ROOT = Path(__file__).parents[2]
LINKED = (".venv", "Makefile", "README.md", "build", "docs", "protos", "pyproject.toml", "requirements.lock", "server")
PAGES = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")))
_FENCE = re.compile(r"(?:^<!-- (serves|not run): (.+?) -->\n)?^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EXPORT = ".venv/bin/pspsearch-build export --untrained --seed 7 --output new.onnx"
CHECKPOINT = " --save-checkpoint new.safetensors"
_EXPORT = re.compile(f"^{re.escape(EXPORT)}(?:{re.escape(CHECKPOINT)})?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One command block: plain, or serving until its section ends, or not run for a reason that it gives."""

    section: str
    kind: str
    words: str
    commands: str


def blocks() -> Iterator[Block]:
    """Yields the `sh` blocks, section by section."""
    for page in PAGES:
        for section in re.split(r"^(?=## )", (ROOT / page).read_text(), flags=re.MULTILINE):
            title = section.partition("\n")[0].strip("# ")
            for kind, words, commands in _FENCE.findall(section):
                yield Block(title, kind, words, commands)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The tree with photographs in it. What the commands change is a copy; the rest are links.

    Other things in the folder, such as a server's data and photographs, are their owner's: nothing may be written
    there.
    """
    # Otherwise, in a link to an outdated .venv, `make serve` would install the temporary tree.
    subprocess.run(["make", ".venv/.development"], cwd=ROOT, check=True)
    shutil.copytree(ROOT / "model_repository", tmp_path / "model_repository")
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    load_photo(number=0).save(tmp_path / "a.jpg")
    load_photo(number=1).save(tmp_path / "b.png")
    (tmp_path / "photographs").mkdir()
    lines = ["path,label,split"]
    for number in range(32):
        left, top = 12 * number, 6 * number
        window = load_photo(number=number % 2).crop((left, top, left + 224, top + 224))
        window.save(tmp_path / "photographs" / f"{number}.jpg")
        lines.append(f"photographs/{number}.jpg,{number % 2},{'query' if number < 8 else 'gallery'}")
    (tmp_path / "pictures.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two sections export alike, which takes half a minute."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    run(EXPORT + CHECKPOINT, folder)
    return folder


def run(commands: str, folder: Path) -> None:
    """Runs commands as a newcomer would, who stops at the first that fails."""
    ran = subprocess.run(["bash", "-euc", commands], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{commands}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("section", dict.fromkeys(block.section for block in blocks()))
def test_commands_of_section_run(section: str, clone: Path, request: pytest.FixtureRequest) -> None:
    """Each block exits with 0, and each that serves says so and stops when it is interrupted."""
    servers: list[subprocess.Popen[str]] = []
    try:
        for block in blocks():
            if block.section != section:
                continue
            if block.kind == "not run":
                assert block.words
            elif block.kind == "serves":
                servers.append(_serve(block, clone))
            else:
                commands = block.commands
                if _EXPORT.search(commands):
                    made: Path = request.getfixturevalue("exported")
                    commands = _EXPORT.sub(f"cp {made}/new.* .", commands)
                run(commands, clone)
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGINT)
        for server in servers:
            server.wait(timeout=60)
            assert server.stdout is not None
            server.stdout.close()


def test_every_command_is_run_or_says_why_not() -> None:
    """Commands in blocks of another kind would escape the test above."""
    text = "".join((ROOT / page).read_text() for page in PAGES)

    languages = re.findall(r"^```(\w+)$", text, re.MULTILINE)

    assert set(languages) == {"sh", "python", "toml"}
    assert languages.count("sh") == len(list(blocks()))


def test_every_setting_is_in_the_manual() -> None:
    """The table has everything that can be set."""
    text = (ROOT / "docs/settings.md").read_text()

    assert [one.name for one in all_settings() if f"`{one.group}.{one.name}`" not in text] == []


def _serve(block: Block, clone: Path) -> subprocess.Popen[str]:
    """Starts the block and returns when it says that it serves."""
    server = subprocess.Popen(
        ["bash", "-euc", block.commands],
        cwd=clone,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None
    said = ""
    for line in server.stdout:
        said += line
        if block.words in line:
            return server
    raise AssertionError(f"{block.commands} ended and said: {said}")
