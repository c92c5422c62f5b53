"""Draws the sample gallery into the archive that ships with the server.

python build/recipes/draw_sample.py server/pspsearch/app/sample.zip

The archive is the same to the byte if its pictures are; see `draw_gallery`.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from pspsearch_build.sample.gallery import Picture, draw_gallery


def write_archive(path: Path, pictures: Iterable[Picture]) -> None:
    """Writes `ID.jpg` for each picture, uncompressed and undated, and then `items.jsonl` with ids and attributes."""
    lines: list[str] = []
    with ZipFile(path, "w") as archive:
        for picture in pictures:
            archive.writestr(ZipInfo(f"{picture.id}.jpg"), picture.image)
            lines.append(json.dumps({"id": picture.id, **picture.attributes}) + "\n")
        archive.writestr(ZipInfo("items.jsonl"), "".join(lines))


if __name__ == "__main__":
    write_archive(Path(sys.argv[1]), draw_gallery())
