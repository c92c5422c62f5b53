"""A network's spec: it survives JSON, and refuses what cannot be built."""

from dataclasses import replace
from itertools import combinations, product
from typing import Any

import pytest

from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.errors import BuildError
from pspsearch_build.network.spec import BackboneName, ConvolutionKind, FusionName, HeadName, NetworkSpec, Padding
from tests.build.network_variants import FEW, VARIANTS


def test_a_spec_survives_json() -> None:
    """Every field comes back, including those that differ from the default."""
    spec = NetworkSpec(
        backbone=BackboneName.MOBILENET_V2,
        output_stride=8,
        padding=Padding.SAME,
        input=InputShape(96, 128, Fit.CROP),
        mean=(0.5, 0.5, 0.5),
        bins=(1, 4),
        fusion=FusionName.DILATED,
        bottleneck=ConvolutionKind.FULL,
        head=HeadName.GEM,
        dimension=512,
        cells=True,
        segmentation_classes=21,
    )

    read = NetworkSpec.from_json(spec.to_json())

    assert read == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output_stride": 64}, "output stride 64"),
        ({"dimension": 100}, "dimension 100"),
        ({"bins": ()}, "bins"),
        ({"bins": (1, 1)}, "bins"),
        ({"bins": (0, 2)}, "bins"),
        ({"std": (0.2, 0.0, 0.2)}, "std"),
        ({"mean": (float("nan"), 0.5, 0.5)}, "mean"),
        ({"dropout": 1.0}, "dropout"),
        ({"dilations": 0}, "dilated"),
        ({"width": 0}, "channels"),
        ({"fusion": FusionName.NONE, "shortcut": False}, "nothing for the head to see"),
        ({"segmentation_classes": 1}, "segmentation classes"),
        ({"input": InputShape(16, 224)}, "16x224 px"),
        ({"padding": Padding.SAME, "backbone": BackboneName.RESNET18}, "padding 'same'"),
    ],
)
def test_a_spec_that_cannot_be_built_is_refused(change: dict[str, Any], words: str) -> None:
    """The error names the field and the value."""
    with pytest.raises(BuildError, match=words):
        NetworkSpec(**change)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", '{"colour": 1}', '{"input": {}}', '{"input": {"height_px": 0, "width_px": 9, "fit": "crop"}}',
     '{"backbone": "vgg"}', '{"mean": [1, 2]}', '{"cells": 1}'],
)  # fmt: skip
def test_json_that_is_no_spec_is_refused(text: str) -> None:
    """Whatever the text holds, the error is a BuildError."""
    with pytest.raises(BuildError, match="spec"):
        NetworkSpec.from_json(text)


def test_the_map_follows_from_input_and_stride() -> None:
    """A partial pixel of the map counts, because of the convolutions' padding."""
    spec = NetworkSpec(input=InputShape(224, 230), output_stride=16)

    assert spec.map_size == (14, 15)
    assert replace(spec, output_stride=8).map_size == (28, 29)


def test_the_variants_cover_every_choice() -> None:
    """Each pair of fusion, head, bottleneck, stride and cells occurs, and every backbone, padding and dimension."""
    paired = {
        "fusion": list(FusionName),
        "head": list(HeadName),
        "bottleneck": list(ConvolutionKind),
        "output_stride": [8, 16],
        "cells": [False, True],
    }
    seen = {
        (left, getattr(spec, left), right, getattr(spec, right))
        for spec in VARIANTS.values()
        for left, right in combinations(paired, 2)
    }
    wanted = {
        (left, a, right, b) for left, right in combinations(paired, 2) for a, b in product(paired[left], paired[right])
    }

    assert wanted - seen == set()
    assert {spec.backbone for spec in VARIANTS.values()} == set(BackboneName)
    assert {spec.padding for spec in VARIANTS.values()} == set(Padding)
    assert {spec.dimension for spec in VARIANTS.values()} == {128, 256, 512}


@pytest.mark.parametrize(
    "field", ["fusion", "head", "bottleneck", "output_stride", "padding", "dimension", "cells", "segmentation_classes"]
)
def test_few_variants_hold_every_choice(field: str) -> None:
    """FEW alone cover each value that occurs in all variants."""
    of_few = {getattr(VARIANTS[name], field) for name in FEW}

    assert of_few == {getattr(spec, field) for spec in VARIANTS.values()}
