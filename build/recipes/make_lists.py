"""Lists of the pictures that the default model is trained on, out of the two public data sets as they come.

python build/recipes/make_lists.py GROCERY TINY_IMAGENET OUT

GROCERY is the folder `dataset` of GroceryStoreDataset (train.txt, val.txt and test.txt in it), TINY_IMAGENET a folder
of class folders with pictures of Tiny-ImageNet. OUT gets grocery.csv with the splits train, val and test, and
tiny.csv, where the last 20 classes by name are held back: a third of their pictures, `watched`, tell during training
how much is forgotten; the rest, `held`, is for the end.
"""

import csv
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HELD_CLASSES = 20
WATCHED_SHARE = 3

Row = tuple[Path, str, str]


def list_grocery(root: Path) -> Iterator[Row]:
    """By their 81 fine classes, numbered so that odd and even ones keep their places."""
    for split in ("train", "val", "test"):
        for line in (root / f"{split}.txt").read_text().splitlines():
            if line.strip():
                path, fine, _ = line.split(", ")
                yield root / path, f"{int(fine):02}", split


def list_tiny(root: Path) -> Iterator[Row]:
    """By their WordNet numbers."""
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir())
    for place, folder in enumerate(classes):
        held = place >= len(classes) - HELD_CLASSES
        for number, path in enumerate(sorted(folder.glob("*.JPEG"))):
            aside = "watched" if number % WATCHED_SHARE == 0 else "held"
            yield path, folder.name, aside if held else "train"


def write(path: Path, rows: Iterable[Row]) -> None:
    """One list."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((os.path.relpath(picture, path.parent), label, split) for picture, label, split in rows)


if __name__ == "__main__":
    grocery, tiny, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "grocery.csv", list_grocery(grocery))
    write(out / "tiny.csv", list_tiny(tiny))
