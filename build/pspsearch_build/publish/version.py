"""Publishes a model version: tries its files, then writes them at a stroke into a folder that Triton may load."""

import contextlib
import logging
import secrets
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from pspsearch.model.config_digest import DIGEST_KEY, check_digest, digest_of
from pspsearch.model.contract import CELLS, Contract, parameter_key
from pspsearch.model.manifest import Manifest
from pspsearch_build.atomic_file import sync
from pspsearch_build.errors import PublishRefused
from pspsearch_build.model_lock import exclusive
from pspsearch_build.promise import Promise, read_promise
from pspsearch_build.publish import config as triton_config
from pspsearch_build.publish.config import Batching, Flavour, Instances
from pspsearch_build.publish.trial import try_outputs

_CONFIG = "config.pbtxt"
_PRECISION = {Flavour.OPENVINO: "bf16"}  # the others compute in their file's precision

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish, and where."""

    onnx: Path
    """The network, as `export` or `adapt` wrote it; for the TensorRT flavour, the one that the plan was built from."""
    repository: Path
    model: str
    version: int | None = None
    """None takes the next free number."""
    flavour: Flavour = Flavour.OPENVINO
    plan: Path | None = None
    """The engine; only for the TensorRT flavour."""
    batching: Batching = field(default_factory=Batching)
    instances: Instances = field(default_factory=Instances)
    """Batching and instances count only for a model's first version; later versions keep its configuration."""
    allow_other_dimension: bool = False
    space: str = ""
    """The name of the descriptors' space; empty for a space of their own."""


def publish(publication: Publication) -> Path:
    """Writes the version and returns its folder, which is complete and durable when this returns.

    It replaces the configuration first, and renames the folder into place last. If it dies in between, it leaves a
    contract without a version, which does no harm and which the next try overwrites.
    """
    name, model = publication.model, publication.repository / publication.model
    if not name or name.startswith(".") or Path(name).name != name:
        raise PublishRefused(f"{name!r} cannot be the name of a model: it must be the name of a folder")
    promise = read_promise(publication.onnx)
    with exclusive(model), _incoming(model) as incoming:
        version = _free_version(model, publication.version)
        files = incoming / "version"
        files.mkdir()
        _copy_files(publication, files)
        try_outputs(publication.flavour, files, promise)
        manifest = Manifest.of_files(files)
        manifest.write(files)
        config = _config(publication, _contract(publication, promise, manifest), version)
        (incoming / _CONFIG).write_text(triton_config.to_text(config), "utf-8")
        for path in (*files.iterdir(), files, incoming / _CONFIG):
            sync(path)
        (incoming / _CONFIG).replace(model / _CONFIG)
        files.rename(model / str(version))
        sync(model)
    return model / str(version)


def _free_version(model: Path, wanted: int | None) -> int:
    taken = {int(path.name) for path in model.iterdir() if path.name.isdecimal()}
    if wanted is None:
        return max(taken, default=0) + 1
    if wanted < 1:
        raise PublishRefused(f"{wanted} is not a version: versions are numbers from 1 up")
    if wanted in taken:
        raise PublishRefused(f"{model / str(wanted)} exists, and a published version is never overwritten")
    return wanted


def _copy_files(publication: Publication, folder: Path) -> None:
    source = publication.onnx
    if publication.flavour is Flavour.TENSORRT:
        if publication.plan is None:
            raise PublishRefused("the tensorrt flavour needs a plan: pspsearch-build engine makes one on a GPU host")
        source = publication.plan
    try:
        shutil.copyfile(source, folder / publication.flavour.model_file)
    except OSError as error:
        raise PublishRefused(f"{source} cannot be copied into the repository: {error.strerror}") from error
    if publication.flavour.program:
        shutil.copyfile(Path(__file__).with_name(publication.flavour.program), folder / "model.py")


def _contract(publication: Publication, promise: Promise, manifest: Manifest) -> Contract:
    return Contract(
        input=promise.input,
        dimension=promise.dimension,
        bins=promise.bins,
        precision=_PRECISION.get(publication.flavour, promise.precision),
        digest=manifest.digest,
        checksums=bool(publication.flavour.program),
        space=publication.space,
        provenance=promise.provenance,
    )


def _config(publication: Publication, contract: Contract, version: int) -> pb.ModelConfig:
    path = publication.repository / publication.model / _CONFIG
    if not path.exists():
        config = triton_config.new_config(
            publication.model, publication.flavour, contract, publication.batching, publication.instances
        )
    else:
        config = triton_config.parse(path.read_text("utf-8"), str(path))
        check_digest(config)
        if contract.cells and not _offers_cells(config) and publication.flavour.program:
            log.warning("the versions of %s have no cells, and this one keeps its own to itself", publication.model)
            contract = replace(contract, bins=())  # a program answers only what the config names
        _refuse_contradictions(config, publication, contract)
    if contract.checksums and _all_tell_checksums(config, path.parent):
        triton_config.declare_checksum(config)
    triton_config.add_version(config, version, contract)
    config.parameters[DIGEST_KEY].string_value = digest_of(config)
    return config


def _refuse_contradictions(config: pb.ModelConfig, publication: Publication, contract: Contract) -> None:
    """Refuses a version that one config cannot serve together with the others; it belongs in another model."""
    model = publication.repository / publication.model
    flavour = triton_config.flavour_of(config)
    if flavour is not publication.flavour:
        raise PublishRefused(
            f"{model} holds {flavour or 'another'} versions, and Triton runs one flavour per model: "
            f"publish the {publication.flavour} flavour under another name"
        )
    dimensions = {had.dimension for had in _contracts_in_use(config, model)}
    if dimensions - {contract.dimension} and not publication.allow_other_dimension:
        raise PublishRefused(
            f"the versions of {model} have dimension {sorted(dimensions)} and this one {contract.dimension}: "
            "say --allow-other-dimension if that is meant"
        )
    if _offers_cells(config) != bool(contract.cells):
        raise PublishRefused(
            f"the versions of {model} must all have the cells output, or none: export this one "
            f"{'without' if contract.cells else 'with'} cells"
        )


def _offers_cells(config: pb.ModelConfig) -> bool:
    return any(output.name == CELLS for output in config.output)


def _all_tell_checksums(config: pb.ModelConfig, model: Path) -> bool:
    """Whether every existing version's program returns checksums; Triton would no longer load one that does not."""
    there = sum(path.name.isdecimal() for path in model.iterdir())
    return sum(contract.checksums for contract in _contracts_in_use(config, model)) == there


def _contracts_in_use(config: pb.ModelConfig, model: Path) -> Iterator[Contract]:
    for path in model.iterdir():
        if path.name.isdecimal() and parameter_key(int(path.name)) in config.parameters:
            yield Contract.from_json(config.parameters[parameter_key(int(path.name))].string_value)


@contextlib.contextmanager
def _incoming(model: Path) -> Generator[Path]:
    """A hidden folder beside the versions, which Triton and `check_repository` ignore."""
    for litter in model.glob(".incoming-*"):
        shutil.rmtree(litter)  # from a publisher that was killed: we hold the lock, so nobody uses it
    incoming = model / f".incoming-{secrets.token_hex(4)}"
    incoming.mkdir()
    try:
        yield incoming
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
