"""The parts of every program here: OpenCV's decoding, OpenVINO on the same network, and one of two indexes."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from threading import local

import cv2
import numpy as np

SIDE_PX = 256
HITS = 10
BREADTH = 32
"""How widely the graphs are searched; USearch then finds .997 of the true ten, and FAISS .967."""


@dataclass(frozen=True)
class Arguments:
    """What the benchmark tells a program."""

    model: Path
    vectors: Path
    port: int
    hint: str
    address: str

    @classmethod
    def read(cls) -> "Arguments":
        """Reads the command line."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--model", type=Path)
        parser.add_argument("--vectors", type=Path)
        parser.add_argument("--port", type=int, default=0)
        parser.add_argument("--hint", default="THROUGHPUT", help="OpenVINO's PERFORMANCE_HINT")
        parser.add_argument("--address", default="", help="of a Triton")
        return cls(**vars(parser.parse_args()))


def decode(image: bytes) -> np.ndarray:
    """Pixels 256 x 256 x 3, RGB: the largest square in the middle."""
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return cv2.resize(pixels[top : top + side, left : left + side], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)


class Network:
    """One compiled network with an inference request for each thread."""

    def __init__(self, path: Path, hint: str, **options: object) -> None:
        import openvino as ov

        self._model = ov.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": hint, **options})
        self._local = local()

    def describe(self, pixels: np.ndarray) -> np.ndarray:
        """[batch, 256, 256, 3] to [batch, 256]."""
        if not hasattr(self._local, "request"):
            self._local.request = self._model.create_infer_request()
        self._local.request.infer([pixels], share_inputs=True)
        return self._local.request.get_output_tensor(0).data.copy()


class UsearchIndex:
    """USearch's graph."""

    def __init__(self, vectors: Path) -> None:
        from usearch.index import Index

        self._index = Index(ndim=256, metric="ip", dtype="f16", expansion_search=BREADTH)
        kept = vectors.with_suffix(".usearch")
        if kept.exists():
            self._index.load(str(kept))
        else:
            rows = np.load(vectors)
            self._index.add(np.arange(len(rows)), rows)
            self._index.save(str(kept))

    def search(self, descriptors: np.ndarray) -> list[list[tuple[str, float]]]:
        """Ids and scores, best first, for each descriptor."""
        found = self._index.search(descriptors, HITS)
        keys, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        return [
            [(f"p{key}", float(1 - distance)) for key, distance in zip(*row, strict=True)]
            for row in zip(keys, distances, strict=True)
        ]


class FaissIndex:
    """FAISS's graph."""

    def __init__(self, vectors: Path) -> None:
        import faiss

        kept = vectors.with_suffix(".faiss")
        if not kept.exists():
            rows = np.load(vectors)
            index = faiss.IndexHNSWFlat(256, 32, faiss.METRIC_INNER_PRODUCT)
            index.add(rows)
            faiss.write_index(index, str(kept))
        self._index = faiss.read_index(str(kept))
        self._index.hnsw.efSearch = BREADTH

    def search(self, descriptors: np.ndarray) -> list[list[tuple[str, float]]]:
        """Ids and scores, best first, for each descriptor."""
        scores, rows = self._index.search(descriptors, HITS)
        return [
            [(f"p{number}", float(score)) for number, score in zip(*row, strict=True)]
            for row in zip(rows, scores, strict=True)
        ]


def answer(hits: list[tuple[str, float]]) -> dict[str, list[dict[str, object]]]:
    """The hits as JSON."""
    return {"hits": [{"id": id_, "score": score} for id_, score in hits]}
