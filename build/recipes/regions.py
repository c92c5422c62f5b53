"""Are a network's cells worth anything? Each picture shows two things, and the search is for one of them.

python build/recipes/regions.py CHECKPOINT QUERIES GALLERY

Each query is pasted to the right of a picture of another class. The right one is searched for among the unchanged
gallery pictures: by the descriptor of the whole picture, by the cells of the right half, and by the right one alone.
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.data.pictures import PictureSet, read_pictures
from pspsearch_build.evaluation.bootstrap import estimate
from pspsearch_build.evaluation.describers import read_batches
from pspsearch_build.evaluation.measuring import Task
from pspsearch_build.evaluation.retrieval import Descriptors, rank
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork

_BATCH = 32


def paste(queries: PictureSet, shape: InputShape) -> NDArray[np.uint8]:
    """The middle half of each query's width, to the right of that of a picture of another class."""
    half = InputShape(shape.height_px, shape.width_px // 2, Fit.CROP)
    parts = [decode_pixels(picture.path.read_bytes(), half) for picture in queries.pictures]
    random = np.random.default_rng(0)
    pasted: list[NDArray[np.uint8]] = []
    for place, picture in enumerate(queries.pictures):
        others = [at for at, other in enumerate(queries.pictures) if other.label != picture.label]
        pasted.append(np.concatenate([parts[int(random.choice(others))], parts[place]], axis=1))
    return np.stack(pasted)


@torch.inference_mode()
def describe(network: DescriptorNetwork, pixels: NDArray[np.uint8]) -> dict[str, Descriptors]:
    """Descriptors of the whole picture and, for each level of the pyramid, of the right half: the sum of its cells."""
    cells_of_levels = [cells * cells for cells in network.spec.bins]
    made: dict[str, list[Descriptors]] = {}
    for start in range(0, len(pixels), _BATCH):
        fused = network.fuse(torch.from_numpy(pixels[start : start + _BATCH]))[1]
        made.setdefault("whole picture", []).append(_numbers(network.head.describe(network.head.pool(fused))))
        cells = _numbers(network.head.describe(network.head.pool_cells(fused)))
        for level, bins in zip(
            np.split(cells, np.cumsum(cells_of_levels)[:-1], axis=1), network.spec.bins, strict=True
        ):
            right = level.reshape(len(level), bins, bins, -1)[:, :, (bins + 1) // 2 :].sum(axis=(1, 2))
            if bins > 1:
                rows = right / np.linalg.norm(right, axis=1, keepdims=True)
                made.setdefault(f"{bins} x {bins} cells", []).append(rows)
    return {name: np.concatenate(parts) for name, parts in made.items()}


def _numbers(rows: torch.Tensor) -> Descriptors:
    return np.asarray(rows.numpy(), np.float32)


def main() -> None:
    """Prints how often each way finds the right thing, with 95 % intervals."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("queries")
    parser.add_argument("gallery")
    given = parser.parse_args()
    network = Checkpoint.load(given.checkpoint).network
    task = Task(read_pictures(given.queries), gallery := read_pictures(given.gallery))
    paths = [picture.path for picture in gallery.pictures]
    whole = np.concatenate([
        describe(network, pixels)["whole picture"] for pixels in read_batches(paths, network.spec.input)
    ])  # fmt: skip
    alone = [picture.path for picture in task.queries.pictures]
    asked = describe(network, paste(task.queries, network.spec.input))
    asked["the right one alone"] = np.concatenate([
        describe(network, pixels)["whole picture"] for pixels in read_batches(alone, network.spec.input)
    ])  # fmt: skip
    for name, rows in asked.items():
        ranks = rank(rows, task.number(task.queries), whole, task.number(gallery))
        print(f"{name:20}  R@1 {estimate(ranks.recall_at(1))}  mAP {estimate(ranks.average_precision())}")


if __name__ == "__main__":
    main()
