"""Lists the pictures that train the default model and those that watch it, from public data sets as they come.

python build/recipes/make_lists.py OUT [--grocery DIR] [--tiny DIR] [--clothes CSV --clothes-pictures DIR]
    [--dishes DIR] [--imagenette DIR]

Each data set gives one list, NAME.csv. Held-back pictures are in no split `train`:

- grocery: the folder `dataset` of GroceryStoreDataset (train.txt, val.txt and test.txt in it), with its own splits.
- tiny: a folder of class folders with pictures of Tiny-ImageNet. The last 20 classes by name are held back: a third of
  their pictures, `watched`, shows during training how much is forgotten; the rest, `held`, is for the end.
- clothes: the file `images.csv` of clothing-dataset, or a part of it, and the folder of its pictures. Half of the
  senders are held back. Senders in `queries` are not in `gallery`, so that a search does not find a sofa or a wall
  instead of a shirt. One class in four is held back, too; `unseen queries` and `unseen gallery` hold only these.
- dishes: the folder `database` of pochih's CBIR. Never trained on: all are `watched`.
- imagenette: a folder with the class folders below `train` and `val`. A hundred pictures of each class are `watched`,
  the rest is `train`.

It also draws the sample gallery into OUT/sample: six views of each of sixty things, some of them partly hidden.
"""

import csv
import hashlib
import os
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path

from pspsearch_build.sample.gallery import draw_gallery

HELD_CLASSES = 20
WATCHED_SHARE = 3
WATCHED_OF_A_CLASS = 100
HELD_SHARE_OF_CLASSES = 4

Row = tuple[Path, str, str]


def list_grocery(root: Path) -> Iterator[Row]:
    """The pictures by their 81 fine classes, numbered so that odd and even ones keep their places."""
    for split in ("train", "val", "test"):
        for line in (root / f"{split}.txt").read_text().splitlines():
            if line.strip():
                path, fine, _ = line.split(", ")
                yield root / path, f"{int(fine):02}", split


def list_tiny(root: Path) -> Iterator[Row]:
    """The pictures by their WordNet numbers."""
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir())
    for place, folder in enumerate(classes):
        held = place >= len(classes) - HELD_CLASSES
        for number, path in enumerate(sorted(folder.glob("*.JPEG"))):
            aside = "watched" if number % WATCHED_SHARE == 0 else "held"
            yield path, folder.name, aside if held else "train"


def list_clothes(listed: Path, root: Path) -> Iterator[Row]:
    """The pictures by kind of clothing; `Not sure`, `Other` and `Skip` are no classes."""
    with listed.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] not in {"Not sure", "Other", "Skip"}]
    held = set(sorted({row["label"] for row in rows})[::HELD_SHARE_OF_CLASSES])
    for row in rows:
        path, label = root / f"{row['image']}.jpg", row["label"]
        split = _part_of(row["sender_id"])
        if path.is_file() and split != "train":
            yield path, label, split
            if label in held:
                yield path, label, f"unseen {split}"
        elif path.is_file() and label not in held:
            yield path, label, "train"


def list_dishes(root: Path) -> Iterator[Row]:
    """The pictures by the kinds that their folders are named after."""
    pictures = sorted(path for path in root.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return ((path, path.parent.name, "watched") for path in pictures)


def list_imagenette(root: Path) -> Iterator[Row]:
    """The pictures by their WordNet numbers, whatever folder they come in."""
    for label in sorted({folder.name for folder in root.glob("*/n*")}):
        for number, path in enumerate(sorted(root.glob(f"*/{label}/*.JPEG"))):
            yield path, label, "watched" if number < WATCHED_OF_A_CLASS else "train"


def draw_sample(root: Path) -> Iterator[Row]:
    """Draws each picture below `root`; its label is the thing that it shows."""
    for picture in draw_gallery():
        path = root / f"{picture.id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.image)
        yield path, path.parent.name, "watched"


def _part_of(sender: str) -> str:
    """The split of a sender: always the same, however many senders there are."""
    number = hashlib.sha256(sender.encode()).digest()[0] % 4
    return ("train", "train", "queries", "gallery")[number]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes one list."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((os.path.relpath(picture, path.parent), label, split) for picture, label, split in rows)


if __name__ == "__main__":
    parser = ArgumentParser(usage=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("out", type=Path)
    for name in ("grocery", "tiny", "clothes", "clothes-pictures", "dishes", "imagenette"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.grocery:
        write(given.out / "grocery.csv", list_grocery(given.grocery))
    if given.tiny:
        write(given.out / "tiny.csv", list_tiny(given.tiny))
    if given.clothes:
        write(given.out / "clothes.csv", list_clothes(given.clothes, given.clothes_pictures))
    if given.dishes:
        write(given.out / "dishes.csv", list_dishes(given.dishes))
    if given.imagenette:
        write(given.out / "imagenette.csv", list_imagenette(given.imagenette))
    write(given.out / "sample.csv", draw_sample(given.out / "sample"))
