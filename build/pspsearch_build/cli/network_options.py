"""The options that say which network a command works on; `export` and `parity` share them."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce, wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.network.backbone import Weights
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.network.spec import BackboneName, ConvolutionKind, FusionName, HeadName, NetworkSpec, Padding
from pspsearch_build.network.untrained import make_untrained

_DEFAULT = NetworkSpec()
_CHOICES = {
    "backbone": BackboneName,
    "padding": Padding,
    "fusion": FusionName,
    "bottleneck": ConvolutionKind,
    "head": HeadName,
}
_FILE = click.Path(path_type=Path)
_UNTRAINED_ONLY = "With --untrained: "


def network_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command, which receives one `checkpoint: Checkpoint` instead of them."""

    @wraps(command)
    def with_checkpoint(
        checkpoint: Path | None,
        untrained: bool,
        weights: str | None,
        seed: int,
        **options: Any,  # noqa: ANN401 - click passes whatever the command declares
    ) -> None:
        fields = {name: options.pop(name) for name in (*_CHOICES, "output_stride", "mean", "std", "dimension", "cells")}
        size, fit = options.pop("size"), Fit(options.pop("fit"))
        if (checkpoint is not None) == untrained:
            raise click.UsageError("give either --checkpoint or --untrained")
        if checkpoint is not None:
            return command(checkpoint=_with_cells(Checkpoint.load(checkpoint), fields["cells"]), **options)
        if fields["cells"] is None:
            fields["cells"] = _DEFAULT.cells
        choices = {name: kind(fields.pop(name)) for name, kind in _CHOICES.items()}
        spec = NetworkSpec(input=InputShape(size, size, fit), **choices, **fields)
        with Console(stderr=True).status("calibrating an untrained network on procedural pictures"):
            made = make_untrained(spec, _weights(weights), seed)
        return command(checkpoint=made, **options)

    return reduce(lambda decorated, option: option(decorated), reversed(_options()), with_checkpoint)


def _with_cells(checkpoint: Checkpoint, cells: bool | None) -> Checkpoint:
    """The same network with or without the cells, which need no weights of their own."""
    network = checkpoint.network
    if cells is None or cells is network.spec.cells:
        return checkpoint
    made = build_network(replace(network.spec, cells=cells))
    made.load_state_dict(network.state_dict())
    return Checkpoint(made, checkpoint.provenance)


def _options() -> list[Callable[[Callable[..., None]], Callable[..., None]]]:
    choices = [
        click.option(
            f"--{name}",
            type=click.Choice([choice.value for choice in kind]),
            default=getattr(_DEFAULT, name).value,
            show_default=True,
        )
        for name, kind in _CHOICES.items()
    ]
    return [
        click.option(
            "--checkpoint", type=_FILE, help="The network's weights and spec; only --cells can change the spec."
        ),
        click.option("--untrained", is_flag=True, help="An untrained stand-in with the spec below."),
        click.option("--seed", default=0, show_default=True, help=_UNTRAINED_ONLY + "the seed of its random weights."),
        click.option("--weights", help=_UNTRAINED_ONLY + "the backbone's, a .safetensors or .pth, or `download`."),
        *choices,
        click.option("--output-stride", type=int, default=_DEFAULT.output_stride, show_default=True),
        click.option("--size", type=int, default=_DEFAULT.input.height_px, show_default=True, help="Input px a side."),
        click.option(
            "--fit",
            type=click.Choice([fit.value for fit in Fit]),
            default=_DEFAULT.input.fit.value,
            show_default=True,
            help="How an image becomes a square.",
        ),
        click.option("--mean", nargs=3, type=float, default=_DEFAULT.mean, show_default=True, help="RGB, 0 to 1."),
        click.option("--std", nargs=3, type=float, default=_DEFAULT.std, show_default=True, help="RGB, 0 to 1."),
        click.option("--dimension", type=int, default=_DEFAULT.dimension, show_default=True),
        click.option(
            "--cells/--no-cells",
            default=None,
            help="A second output with a descriptor per pyramid cell; by default as in the checkpoint, or with it.",
        ),
    ]


def _weights(given: str | None) -> Weights:
    if given is None or given == "download":
        return given
    return Path(given)
