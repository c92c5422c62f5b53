"""Attributes from tables."""

from pathlib import Path

import pytest

from pspsearch.cli.attribute_files import read_attributes
from pspsearch.cli.image_files import ImageFile
from pspsearch.errors import InvalidRequest


def write(tmp_path: Path, name: str, content: str) -> Path:
    """Writes a table."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path / name


def test_cells_of_csv_have_types(tmp_path: Path) -> None:
    """Numbers and booleans are as in JSON, so that filters can compare them; everything else is text."""
    table = write(tmp_path, "t.csv", 'id,price,new,zip,name,gone,odd\na.jpg,3.5,true,01234,"Käfer, rot",,NaN\n')

    attributes = read_attributes(table).of(ImageFile("anywhere/a.jpg", "a.jpg"))

    assert attributes == {"price": 3.5, "new": True, "zip": "01234", "name": "Käfer, rot", "odd": "NaN"}


def test_lines_of_json_are_taken_as_they_are(tmp_path: Path) -> None:
    """Values may be nested; blank lines are ignored."""
    table = write(tmp_path, "t.jsonl", '{"id": "a.jpg", "tags": ["red"], "zip": "01234"}\n\n')

    assert read_attributes(table).of(ImageFile("a.jpg", "a.jpg")) == {"tags": ["red"], "zip": "01234"}


def test_file_is_seen_from_the_folder_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table beside its pictures works wherever the command is run."""
    (tmp_path / "shoes").mkdir()
    (tmp_path / "shoes" / "1.jpg").touch()
    table = write(tmp_path, "t.csv", "file,price\nshoes/1.jpg,3\n")
    monkeypatch.chdir(tmp_path / "shoes")

    assert read_attributes(table).of(ImageFile("1.jpg", "1.jpg")) == {"price": 3}


def test_rows_without_a_file_are_counted(tmp_path: Path) -> None:
    """A table for other pictures should not go unnoticed."""
    table = read_attributes(write(tmp_path, "t.csv", "id,price\na.jpg,3\nb.jpg,4\n"))

    assert table.of(ImageFile("a.jpg", "a.jpg")) is not None
    assert table.of(ImageFile("c.jpg", "c.jpg")) is None
    assert table.unused == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "name,price\na,3\n", "line 2 has no `id` and no `file`"),
        ("t.csv", "id,price\na,3\na,4\n", "line 3 is a second row for 'a'"),
        ("t.csv", "id,price\na,3,4\n", "line 2 does not have as many cells"),
        ("t.csv", "id,price\na\n", "line 2 does not have as many cells"),
        ("t.csv", 'id,price\n"a"b,4\n', "line 2 is not CSV"),
        ("t.jsonl", '{"id": "a"}\n{"id": \n', "line 2 is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("t.jsonl", '{"id": 7}\n', "line 1 has no `id`"),
        ("t.xlsx", "", r"is neither .csv nor .jsonl"),
    ],
)
def test_wrong_table_is_a_sentence(tmp_path: Path, name: str, content: str, words: str) -> None:
    """The sentence has the file and the line."""
    table = write(tmp_path, name, content)

    with pytest.raises(InvalidRequest, match=words) as raised:
        read_attributes(table)

    assert str(table) in str(raised.value)


def test_table_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """So is one that is not text."""
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        read_attributes(tmp_path / "t.csv")
    (tmp_path / "t.jsonl").write_bytes(b"\xff")
    with pytest.raises(InvalidRequest, match="is not UTF-8"):
        read_attributes(tmp_path / "t.jsonl")
