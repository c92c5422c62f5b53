"""A softmax layer over descriptors, for callers who want a class instead of similar pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pspsearch_build.atomic_file import replacing
from pspsearch_build.data.pictures import PictureSet
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.classification import fit_softmax
from pspsearch_build.evaluation.retrieval import Descriptors
from pspsearch_build.network.weights import read_weights

_LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Classifier:
    """The layer for one kind of descriptor, without the network below it."""

    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    """[classes, dimension]"""
    bias: NDArray[np.float32]
    """[classes]"""

    @classmethod
    def fit(cls, descriptors: Descriptors, pictures: PictureSet) -> Self:
        """Fits the layer to the classes of the pictures. Raises BuildError if there is only one."""
        if len(pictures.labels) < 2:
            raise BuildError(f"{pictures.name} has one class only: there is nothing to tell apart")
        weight, bias = fit_softmax(descriptors, pictures.numbers)
        return cls(pictures.labels, weight, bias)

    def probabilities(self, descriptors: Descriptors) -> NDArray[np.float32]:
        """Probabilities [count, classes], in the order of `labels`; each row sums to 1."""
        logits = descriptors @ self.weight.T + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def accuracy(self, descriptors: Descriptors, pictures: PictureSet) -> float:
        """The share of pictures whose most probable class is right."""
        named = self.probabilities(descriptors).argmax(axis=1)
        right = [self.labels[place] == one.label for place, one in zip(map(int, named), pictures.pictures, strict=True)]
        return sum(right) / len(right)

    def save(self, path: Path) -> None:
        """Writes one safetensors file, atomically and durably."""
        with replacing(path) as temporary:
            tensors = {"weight": torch.from_numpy(self.weight), "bias": torch.from_numpy(self.bias)}
            temporary.write_bytes(save(tensors, metadata={_LABELS: json.dumps(self.labels)}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote. Raises BuildError for any other file."""
        tensors = read_weights(path)
        try:
            with safe_open(path, framework="pt") as file:
                labels = cast(list[str], json.loads((file.metadata() or {})[_LABELS]))
            weight, bias = (np.asarray(tensors[name].numpy(), np.float32) for name in ("weight", "bias"))
        except (SafetensorError, KeyError) as error:
            raise BuildError(f"{path} is no classifier: it has no {error}") from error
        return cls(tuple(labels), weight, bias)
