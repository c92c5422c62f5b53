"""Which files an import takes."""

import os
import unicodedata
from pathlib import Path

import pytest

from pspsearch.cli.image_files import find_images
from pspsearch.errors import InvalidRequest


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of photographs as people have them."""
    root = tmp_path / "photographs"
    for name in ["b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "shoes/1.webp", "shoes/.thumbs/1.jpg", "hats/1.webp"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ids(*arguments: Path | str, all_files: bool = False) -> list[str]:
    """The ids of the files that would be put in."""
    return [file.id for file in find_images(map(str, arguments), all_files=all_files).files]


def test_folder_is_taken_with_all_below_it(photographs: Path) -> None:
    """The order is fixed; hidden and other files are left out."""
    assert ids(photographs) == ["a.PNG", "b.jpg", "hats/1.webp", "shoes/1.webp"]


def test_all_files_means_all(photographs: Path) -> None:
    """Their names do not matter."""
    taken = ids(photographs, all_files=True)

    assert len(taken) == 7
    assert {"notes.txt", ".hidden.jpg", "shoes/.thumbs/1.jpg"} < set(taken)


def test_named_file_is_taken_whatever_its_name(photographs: Path) -> None:
    """Its id is its name."""
    assert ids(photographs / ".hidden.jpg", photographs / "notes.txt") == [".hidden.jpg", "notes.txt"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.PNG", "b.jpg", "hats/1.webp", "shoes/1.webp"]),
        ("**/*.webp", ["hats/1.webp", "shoes/1.webp"]),
        ("s*/*", ["shoes/1.webp"]),
        ("**/1.*", ["hats/1.webp", "shoes/1.webp"]),
    ],
)
def test_pattern_gives_ids_below_its_fixed_part(photographs: Path, pattern: str, expected: list[str]) -> None:
    """A quoted pattern works like a folder with fewer files; no file is taken twice."""
    assert ids(photographs / pattern) == expected


def test_file_with_the_signs_of_a_pattern_is_a_file(tmp_path: Path) -> None:
    """A file of exactly that name goes before the pattern."""
    (tmp_path / "a[1].jpg").touch()

    assert ids(tmp_path / "a[1].jpg") == ["a[1].jpg"]


def test_two_files_of_one_id_are_not_mixed_up(photographs: Path) -> None:
    """The second would silently replace the first, so it is refused, with the name of the first."""
    found = find_images([str(photographs / "shoes"), str(photographs / "hats")])

    assert [file.id for file in found.files] == ["1.webp"]
    assert [refusal.path for refusal in found.refused] == [str(photographs / "hats" / "1.webp")]
    assert str(photographs / "shoes" / "1.webp") in found.refused[0].reason


def test_ids_are_in_composed_form(tmp_path: Path) -> None:
    """A file from a system that decomposes names gets the id that people type."""
    decomposed = unicodedata.normalize("NFD", "Käfer.jpg")
    (tmp_path / decomposed).touch()

    assert ids(tmp_path) == [unicodedata.normalize("NFC", decomposed)]


def test_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """No id can hold such a name."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
    (tmp_path / "a.jpg").touch()

    found = find_images([str(tmp_path)])

    assert [file.id for file in found.files] == ["a.jpg"]
    assert [refusal.reason for refusal in found.refused] == ["its name is not UTF-8"]


@pytest.mark.parametrize("name", ["nothing.jpg", "*.gif"])
def test_argument_that_names_nothing_is_an_error(photographs: Path, name: str) -> None:
    """A mistyped path must not look like a finished import."""
    with pytest.raises(InvalidRequest, match=r"there is no file|nothing matches"):
        find_images([str(photographs / name)])
