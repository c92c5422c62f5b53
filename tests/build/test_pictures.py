"""Pictures and their classes, from folders and lists."""

from pathlib import Path

import numpy as np
import pytest

from pspsearch_build.data.pictures import read_list, read_pictures, read_unlabelled
from pspsearch_build.errors import BuildError


def make(root: Path, *names: str) -> None:
    """Makes files with those names, each with its own contents, which nobody decodes here."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name.rpartition("/")[2])


def make_list(root: Path, text: str) -> Path:
    """Writes a CSV beside the files."""
    path = root / "list.csv"
    path.write_text(text)
    return path


def test_class_of_a_picture_is_its_folder(tmp_path: Path) -> None:
    """Folders may be nested; files that are not pictures are ignored."""
    make(tmp_path, "fruit/apple/1.jpg", "fruit/pear/2.JPEG", "fruit/pear/3.png", "tool/4.webp", "tool/notes.txt")

    pictures = read_pictures(str(tmp_path))

    assert pictures.labels == ("fruit/apple", "fruit/pear", "tool")
    assert [(one.path.name, one.label) for one in pictures.pictures] == [
        ("1.jpg", "fruit/apple"),
        ("2.JPEG", "fruit/pear"),
        ("3.png", "fruit/pear"),
        ("4.webp", "tool"),
    ]
    assert pictures.numbers.tolist() == [0, 1, 1, 2]


def test_unlabelled_pictures_are_classes_of_their_own(tmp_path: Path) -> None:
    """Folders do not matter."""
    make(tmp_path, "a/1.jpg", "a/2.jpg", "3.jpg")

    pictures = read_unlabelled(tmp_path)

    assert np.unique(pictures.numbers).size == 3


def test_list_gives_paths_beside_itself_and_may_have_splits(tmp_path: Path) -> None:
    """A picture that is named twice with one class occurs once."""
    make(tmp_path, "p/1.jpg", "p/2.jpg", "p/3.jpg")
    path = make_list(tmp_path, "path,label,split\np/1.jpg,x,train\np/2.jpg,y,test\np/3.jpg,x,train\np/3.jpg,x,train\n")

    train, everything = read_pictures(f"{path}@train"), read_pictures(str(path))

    assert [(one.path, one.label) for one in train.pictures] == [
        (tmp_path / "p/1.jpg", "x"),
        (tmp_path / "p/3.jpg", "x"),
    ]
    assert everything.labels == ("x", "y")
    assert [one.label for one in everything.only(["y"]).pictures] == ["y"]


def test_digest_is_that_of_contents_and_classes(tmp_path: Path) -> None:
    """Places do not matter: a moved folder is the same data, and a changed byte or class is other data."""
    make(tmp_path, "one/x/1.jpg", "one/y/2.jpg", "two/x/1.jpg", "two/y/2.jpg")
    first, second = read_pictures(str(tmp_path / "one")), read_pictures(str(tmp_path / "two"))
    digest = first.digest()

    assert second.digest() == digest
    (tmp_path / "two/y/2.jpg").write_text("changed")
    assert second.digest() != digest
    (tmp_path / "one/x").rename(tmp_path / "one/z")
    assert read_pictures(str(tmp_path / "one")).digest() != digest


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label\nnowhere.jpg,x\n", r"line 2 of .*list.csv names .*nowhere.jpg, which is not a file"),
        ("path,label\n1.jpg,x\n1.jpg,y\n", r"line 3 of .*list.csv gives 1.jpg a second class, 'y'"),
        ("path,label\n1.jpg\n", r"line 2 of .*list.csv is not a path and a label"),
        ("path,label\n1.jpg,x,y\n", r"line 2 of .*list.csv is not a path and a label"),
        ("path,label\n,x\n", r"line 2 of .*list.csv is not a path and a label"),
        ("file,class\n1.jpg,x\n", r"begins with the columns \['file', 'class'\], and needs path, label\[, split\]"),
        ("", r"begins with the columns \[\], and needs"),
        ("path,label\n", r"list.csv holds no pictures"),
        ("path,label\n\x00\xff", r"list.csv"),
    ],
)
def test_bad_list_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """The error names the wrong line."""
    make(tmp_path, "1.jpg")
    path = make_list(tmp_path, text)

    with pytest.raises(BuildError, match=sentence):
        read_list(path)


def test_bad_folder_is_a_sentence(tmp_path: Path) -> None:
    """A missing folder, an empty one, an empty class, a picture without a class and a missing split are refused."""
    make(tmp_path, "good/x/1.jpg", "loose/1.jpg")
    (tmp_path / "good/y").mkdir()
    (tmp_path / "bare").mkdir()
    path = make_list(tmp_path, "path,label,split\ngood/x/1.jpg,x,train\n")
    for source, sentence in (
        (tmp_path / "nowhere", "the list .*nowhere cannot be read"),
        (tmp_path / "bare", "holds no pictures"),
        (tmp_path / "good", "the class folder .*y is empty"),
        (tmp_path / "loose", r"1\.jpg lies in no class folder"),
        (f"{path}@test", "list.csv@test holds no pictures"),
    ):
        with pytest.raises(BuildError, match=sentence):
            read_pictures(str(source))
