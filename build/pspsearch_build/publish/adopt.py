"""Writes a contract for another maker's Triton model, beside its own configuration.

The model must describe by itself what it takes: `pixels` (UINT8, lines x columns x 3), `image` (BYTES, one encoded
image each) or `text` (BYTES, one text each). It must answer with `descriptor` (FP32, unit length).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from pspsearch.model.config_digest import DIGEST_KEY, check_digest, digest_of
from pspsearch.model.contract import CELLS, DESCRIPTOR, Contract, Fit, InputShape, Takes, parameter_key
from pspsearch.model.manifest import MANIFEST, Manifest
from pspsearch_build.atomic_file import replacing, sync
from pspsearch_build.errors import PublishRefused
from pspsearch_build.model_lock import exclusive
from pspsearch_build.publish import config as triton_config


@dataclass(frozen=True, slots=True)
class Adoption:
    """What the model's configuration does not say."""

    precision: str
    fit: Fit | None = None
    """How an image is fitted; only for a model that takes pixels."""
    bins: tuple[int, ...] = ()
    """The bins of the pyramid behind the output `cells`, if the model has that output."""
    space: str = ""
    """The name of the descriptors' space; empty for a space of their own."""
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])


def adopt(version: Path, adoption: Adoption) -> Contract:
    """Writes manifest and contract of REPOSITORY/MODEL/N, so that pspsearch can use it; durable when this returns.

    Raises PublishRefused if a contract cannot promise the model's tensors, or if the version already has a contract for
    other files. Changes nothing but these two.
    """
    model, number = version.parent, version.name
    path = model / "config.pbtxt"
    if not version.is_dir() or not number.isdecimal() or int(number) < 1 or not path.is_file():
        raise PublishRefused(f"{version} is no version of a Triton model: REPOSITORY/MODEL/N with its config.pbtxt")
    with exclusive(model):
        config = triton_config.parse(path.read_text("utf-8"), str(path))
        check_digest(config)
        manifest = Manifest.of_files(version)
        manifest.verify(version)  # a manifest knows plain files alone, and the server refuses what it does not know
        contract = _contract(config, adoption, manifest.digest)
        key = parameter_key(int(number))
        had = config.parameters[key].string_value if key in config.parameters else ""
        if had and Contract.from_json(had).digest != contract.digest:
            raise PublishRefused(f"{version} has a contract for other files: publish a change under another number")
        manifest.write(version)
        sync(version / MANIFEST)
        sync(version)
        config.parameters[key].string_value = contract.to_json()
        config.parameters[DIGEST_KEY].string_value = digest_of(config)
        with replacing(path) as temporary:
            temporary.write_text(triton_config.to_text(config), "utf-8")
        sync(model)
    return contract


def _contract(config: pb.ModelConfig, adoption: Adoption, digest: str) -> Contract:
    takes, shape = _input(config, adoption.fit)
    outputs = {one.name: one for one in config.output}
    descriptor = outputs.get(DESCRIPTOR)
    dims = [] if descriptor is None or descriptor.data_type != pb.TYPE_FP32 else list(descriptor.dims)
    if len(dims) != 1 or dims[0] < 1:
        raise PublishRefused(f"{config.name} has no output `{DESCRIPTOR}` of TYPE_FP32 with one fixed dimension")
    if adoption.bins and (CELLS not in outputs or outputs[CELLS].data_type != pb.TYPE_FP32):
        raise PublishRefused(f"{config.name} has no output `{CELLS}` of TYPE_FP32 for the bins {adoption.bins}")
    if config.max_batch_size < 1:
        raise PublishRefused(f"{config.name} takes no batches: its max_batch_size must be at least 1")
    contract = Contract(
        input=shape,
        dimension=dims[0],
        precision=adoption.precision,
        digest=digest,
        takes=takes,
        bins=adoption.bins,
        space=adoption.space,
        provenance=adoption.provenance,
    )
    if contract.cells and list(outputs[CELLS].dims) != [contract.cells, contract.dimension]:
        wanted = [contract.cells, contract.dimension]
        raise PublishRefused(f"{config.name} has `{CELLS}` of {list(outputs[CELLS].dims)}, and its bins make {wanted}")
    return contract


def _input(config: pb.ModelConfig, fit: Fit | None) -> tuple[Takes, InputShape | None]:
    inputs = {one.name: one for one in config.input}
    if len(inputs) != 1 or next(iter(inputs)) not in list(Takes):
        raise PublishRefused(
            f"{config.name} takes {', '.join(inputs) or 'nothing'}, and pspsearch can give it one of "
            f"{', '.join(f'`{one}`' for one in Takes)}"
        )
    ((name, tensor),) = inputs.items()
    takes, dims = Takes(name), list(tensor.dims)
    if takes is not Takes.PIXELS:
        if tensor.data_type != pb.TYPE_STRING or dims != [1]:
            raise PublishRefused(f"{config.name} takes `{name}` of {dims}, and not TYPE_STRING of [1]")
        return takes, None
    if tensor.data_type != pb.TYPE_UINT8 or len(dims) != 3 or dims[2] != 3 or min(dims) < 1:
        raise PublishRefused(f"{config.name} takes `{name}` of {dims}, and not TYPE_UINT8 of [lines, columns, 3]")
    if fit is None:
        raise PublishRefused(f"{config.name} takes pixels: say how an image of any shape is fitted to them")
    return takes, InputShape(dims[0], dims[1], fit)
