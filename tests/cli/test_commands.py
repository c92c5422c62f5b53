"""The commands that call a server, against one that keeps everything in memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pspsearch.cli import commands
from pspsearch.client import Client, ItemInput
from tests.pictures import encode, load_photo
from tests.servers.memory_server import MemoryServer

TEMPLE, FLOWER = (encode(load_photo(160, 120, number)) for number in (0, 1))
TEMPLE_AGAIN = encode(load_photo(150, 110, 0))


@pytest.fixture
def server() -> Iterator[MemoryServer]:
    """A server with three items."""
    with MemoryServer() as server, Client(server.address) as client:
        client.upsert(
            [
                ItemInput("temple", TEMPLE, {"kind": "building", "price": 3}),
                ItemInput("[red]flower[/red]", FLOWER, {"kind": "plant"}),
                ItemInput("temple again", TEMPLE_AGAIN, {"kind": "building"}),
            ]
        )
        yield server


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A photograph on disk."""
    (tmp_path / "query.jpg").write_bytes(TEMPLE_AGAIN)
    return tmp_path / "query.jpg"


def run(server: MemoryServer, *arguments: str | Path, answer: str = "") -> Result:
    """Runs a command to its end."""
    environment = {"PSPSEARCH_ADDRESS": server.address}
    return CliRunner().invoke(commands, [*map(str, arguments)], input=answer, env=environment)


def test_search_prints_a_table(server: MemoryServer, image: Path) -> None:
    """It has rank, score, id and attributes; an id is never taken for markup."""
    said = run(server, "search", image)

    lines = said.stdout.splitlines()
    assert said.exit_code == 0
    assert lines[0].split() == ["rank", "score", "id", "attributes"]
    assert lines[1].split() == ["1", "1.0000", "temple", "again", "kind=building"]
    assert lines[2].split()[2:] == ["temple", "kind=building", "price=3"]
    assert "[red]flower[/red]" in lines[3]


def test_search_prints_json(server: MemoryServer) -> None:
    """It is one object, with the origin and the timing of the answer."""
    said = run(server, "search", "--id", "temple", "--limit", "1", "--json")

    answer = json.loads(said.stdout)
    assert [(hit["id"], hit["attributes"]) for hit in answer["hits"]] == [("temple again", {"kind": "building"})]
    assert answer["hits"][0]["score"] > 0.99
    assert answer["origin"]["model_version"] == 1
    assert answer["timing"]["total_ms"] == 11


def test_search_options_choose_hits(server: MemoryServer, image: Path) -> None:
    """These are a filter, the best of each group, and a minimum score."""
    filtered = run(server, "search", image, "--filter", 'kind = "plant"', "--json")
    grouped = run(server, "search", image, "--group-by", "kind")
    near = run(server, "search", image, "--min-score", "0.99", "--json")

    assert [hit["id"] for hit in json.loads(filtered.stdout)["hits"]] == ["[red]flower[/red]"]
    assert len(grouped.stdout.splitlines()) == 3
    assert "group" in grouped.stdout
    assert len(json.loads(near.stdout)["hits"]) == 2


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A picture of the temple, and to the right of it the flower."""
    picture = Image.new("RGB", (320, 120))
    for number in (0, 1):
        picture.paste(load_photo(160, 120, number), (160 * number, 0))
    picture.save(tmp_path / "both.png")
    return tmp_path / "both.png"


def test_a_box_is_searched_for_and_compared(server: MemoryServer, both: Path, tmp_path: Path) -> None:
    """In fractions or in pixels, and the montage shows it."""
    fractions = run(server, "search", both, "--box", "0,0,0.5,1", "--limit", "1", "--json")
    montage = tmp_path / "hits.png"
    pixels = run(server, "search", both, "--box", "160,0,320,120px", "--limit", "1", "--json", "--montage", montage)
    same = run(server, "compare", both, both, "--box", "0,0,0.5,1", "--other-box", "0,0,160,120px")
    other = run(server, "compare", "id:temple", both, "--other-box", "0.5,0,1,1", "--threshold", "0.9")

    assert [hit["id"] for hit in json.loads(fractions.stdout)["hits"]] == ["temple"]
    assert [hit["id"] for hit in json.loads(pixels.stdout)["hits"]] == ["[red]flower[/red]"]
    assert montage.is_file()
    assert same.stdout == "1.0000\n"
    assert other.stdout.endswith(" different\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "a.jpg", "--box", "0,0,1"], "'0,0,1' is not four numbers, such as 0.1,0.2,0.5,0.9"),
        (["search", "a.jpg", "--box", "0,0,half,1"], "is not four numbers"),
        (["search", "a.jpg", "--box", "0,0,100,50"], "pixels need"),
        (["search", "a.jpg", "--box", "0.5,0,0.5,1"], "the box 0.5,0,0.5,1 is empty"),
        (["search", "--id", "temple", "--box", "0,0,1,1"], "--box is for an image"),
        (["compare", "id:temple", "a.jpg", "--box", "0,0,1,1"], "a box is for an image, not for id:temple"),
        (["describe", "a.jpg", "--box", "1,1,0,0"], "is empty"),
    ],
)
def test_a_box_that_makes_no_sense_is_a_usage_error(server: MemoryServer, arguments: list[str], words: str) -> None:
    """Nothing is sent."""
    said = run(server, *arguments)

    assert said.exit_code == 2
    assert words in " ".join(said.stderr.replace("│", " ").split())


@pytest.mark.parametrize("by_id", [False, True])
def test_montage_is_a_picture(server: MemoryServer, image: Path, tmp_path: Path, by_id: bool) -> None:
    """It shows the query and its hits."""
    query = ["--id", "temple"] if by_id else [str(image)]

    said = run(server, "search", *query, "--montage", tmp_path / "hits.png")

    assert said.exit_code == 0, said.output
    with Image.open(BytesIO((tmp_path / "hits.png").read_bytes())) as montage:
        montage.load()
        assert montage.format == "PNG"
        assert montage.width > 100


@pytest.mark.parametrize("arguments", [[], ["query.jpg", "--id", "temple"]])
def test_search_takes_one_query(server: MemoryServer, arguments: list[str]) -> None:
    """It takes neither none nor two."""
    said = run(server, "search", *arguments)

    assert said.exit_code == 2
    assert "either an image or --id" in said.stderr


def test_explain_prints_the_best_cells_and_draws_them(server: MemoryServer, image: Path, tmp_path: Path) -> None:
    """What it prints of each picture adds up to the score."""
    said = run(server, "explain", image, "temple", "--picture", tmp_path / "why.png")
    told = json.loads(run(server, "explain", "id:temple", "[red]flower[/red]", "--json").stdout)

    first, heading, *rows = said.stdout.splitlines()
    assert said.exit_code == 0
    assert heading.split() == ["picture", "cell", "share"]
    assert [row.split()[0] for row in rows] == ["query"] * 7 + ["item"] * 7
    assert sum(float(row.split()[-1]) for row in rows[:7]) == pytest.approx(float(first.split()[1]), abs=5e-4)
    with Image.open(tmp_path / "why.png") as drawn:
        assert drawn.format == "PNG"
    assert (len(told["query"]["shares"]), told["item"]["remainder"], told["pairs"][0]["score"]) == (8, 0.25, 0.75)


def test_compare_prints_score_and_verdict(server: MemoryServer, image: Path) -> None:
    """Files and items may come in any order."""
    same = run(server, "compare", image, "id:temple again", "--threshold", "0.9")
    different = run(server, "compare", "id:temple", "id:[red]flower[/red]", "--threshold", "0.9")
    unjudged = json.loads(run(server, "compare", image, image, "--json").stdout)

    assert same.stdout == "1.0000 same\n"
    assert different.stdout.endswith(" different\n")
    assert unjudged["same"] is None


def test_get_prints_an_item_and_writes_its_image(server: MemoryServer, tmp_path: Path) -> None:
    """The bytes are those that were put in."""
    said = run(server, "get", "temple", "--image", tmp_path / "temple.jpg")

    assert said.exit_code == 0
    assert "kind=building price=3" in said.stdout
    assert "image/jpeg 160x120" in said.stdout
    assert (tmp_path / "temple.jpg").read_bytes() == TEMPLE
    assert json.loads(run(server, "get", "temple", "--json").stdout)["image"]["width_px"] == 160


def test_list_prints_items(server: MemoryServer) -> None:
    """It prints a table, or one JSON object per line, up to the limit."""
    table = run(server, "list")
    lines = run(server, "list", "--json", "--filter", 'kind = "building"')
    one = run(server, "list", "--json", "--limit", "1")

    assert len(table.stdout.splitlines()) == 4
    assert [json.loads(line)["id"] for line in lines.stdout.splitlines()] == ["temple", "temple again"]
    assert len(one.stdout.splitlines()) == 1


def test_delete_asks_before_it_deletes_by_filter(server: MemoryServer) -> None:
    """It says how many there are; the answer no deletes nothing."""
    refused = run(server, "delete", "--filter", "*", answer="n\n")
    asked = run(server, "delete", "--filter", 'kind = "building"', answer="y\n")
    unasked = run(server, "delete", "[red]flower[/red]", "nobody")

    assert refused.exit_code == 1
    assert "Delete 3 items of default?" in refused.stdout
    assert "Delete 2 items of default?" in asked.stdout
    assert asked.stdout.endswith("deleted 2 items\n")
    assert unasked.stdout == "deleted 1 item\n"
    assert run(server, "count").stdout == "0\n"


def test_delete_needs_something_to_delete(server: MemoryServer) -> None:
    """It takes neither nothing nor both."""
    assert run(server, "delete").exit_code == 2
    assert run(server, "delete", "temple", "--filter", "*").exit_code == 2
    assert run(server, "count").stdout == "3\n"


def test_collections_are_made_shown_and_deleted(server: MemoryServer) -> None:
    """One collection goes through its whole life."""
    made = run(server, "collections", "create", "shoes", "--drop-images", "--index", "hnsw")
    listed = run(server, "collections", "list")
    shown = run(server, "collections", "show", "shoes")
    kept = run(server, "collections", "delete", "default", answer="n\n")
    deleted = run(server, "collections", "delete", "default", "--yes")
    left = json.loads(run(server, "collections", "list", "--json").stdout)

    assert made.stdout == "created shoes under thumbnails\n"
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["collection", "default", "shoes"]
    assert "exact fp16 (hnsw)" in shown.stdout
    assert "keeps images  no" in shown.stdout
    assert kept.exit_code == 1
    assert deleted.stdout == "deleted default with 3 items\n"
    assert [one["name"] for one in left] == ["shoes"]


def test_status_tells_health_by_its_exit_code(server: MemoryServer) -> None:
    """Scripts wait for it."""
    healthy = run(server, "status")
    server.serving = False
    warming = run(server, "status", "--json")

    assert healthy.exit_code == 0
    for words in ("pspsearch 1.2.3", "serving", "0:01:15", "3.0 GiB", "1.5 KiB", "thumbnails/1", "exact fp16"):
        assert words in healthy.stdout
    assert warming.exit_code == 1
    assert json.loads(warming.stdout)["serving"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", "nobody"], "error: there is no item 'nobody'"),
        (["explain", "id:temple", "nobody"], "error: there is no item 'nobody'"),
        (["count", "--collection", "nowhere"], "error: there is no collection 'nowhere'"),
        (["search", "nothing.jpg"], "error: nothing.jpg cannot be read: No such file or directory"),
        (["get", "\udcff"], "error: the request cannot be sent"),
        (["get", "temple", "--image", "no/such/folder.jpg"], "error: no/such/folder.jpg cannot be written"),
    ],
)
def test_errors_are_one_sentence(server: MemoryServer, arguments: list[str], words: str) -> None:
    """It goes to standard error, and the exit code is 1."""
    said = run(server, *arguments)

    assert said.exit_code == 1
    assert said.stderr.startswith(words)
    assert len(said.stderr.splitlines()) == 1
    assert said.stdout == ""


def test_nobody_there_is_a_sentence_with_a_hint() -> None:
    """It names the address, and says how to start a server."""
    said = CliRunner().invoke(commands, ["count", "--address", "127.0.0.1:1"])

    assert said.exit_code == 1
    assert said.stderr.startswith("error: the server at 127.0.0.1:1 cannot be reached: Connection refused")
    assert "pspsearch serve" in said.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell: str) -> None:
    """The script names the command and the variable that click reads."""
    said = CliRunner().invoke(commands, ["completion", shell])

    assert said.exit_code == 0
    assert "_PSPSEARCH_COMPLETE" in said.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["count"]])
def test_what_needs_no_adapter_imports_none(server: MemoryServer, arguments: list[str]) -> None:
    """Loading the libraries of the adapters would take longer than the command."""
    options = [] if arguments == ["--help"] else ["--address", server.address]
    command = [sys.executable, "-X", "importtime", "-m", "pspsearch", *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"apsw", "faiss", "tritonclient"}
