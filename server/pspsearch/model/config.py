"""Reads and checks a model's `config.pbtxt`, because Triton does not say where a bad one fails to parse."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pspsearch.errors import DigestMismatch, ModelMismatch, RepositoryError, VersionPolicyRefused
from pspsearch.model.config_digest import check_digest
from pspsearch.model.contract import CELLS, DESCRIPTOR, Contract, parameter_key
from pspsearch.model.manifest import Manifest
from pspsearch.model.repository import CONFIG, find_published

_LEAST_VERSIONS = 2
"""The version that answers, and the next one."""


def read_config(model: Path) -> model_config_pb2.ModelConfig:
    """Reads the configuration in a model's folder. Raises RepositoryError, with line and column, if it is bad."""
    path = model / CONFIG
    try:
        return text_format.Parse(path.read_text("utf-8"), model_config_pb2.ModelConfig())
    except (text_format.ParseError, OSError, ValueError) as error:
        raise RepositoryError(f"{path} is not a Triton model configuration: {error}") from error


def check_config(model: Path) -> None:
    """Raises RepositoryError if a model's configuration, or a contract in it, is not as published."""
    for error in find_broken_contracts(model).values():
        raise error


def find_broken_contracts(model: Path) -> dict[int, RepositoryError]:
    """Finds the published versions of a model whose files are not the ones that their contract names.

    Raises RepositoryError if the configuration as a whole is not as published.
    """
    config = read_config(model)
    published = find_published(model)
    if not check_digest(config) and published:
        raise RepositoryError(
            f"{model / CONFIG} carries no digest, as those that earlier releases wrote: see that it says what you "
            "mean, then have pspsearch-build seal write one"
        )
    broken: dict[int, RepositoryError] = {}
    for number, version in published.items():
        key = parameter_key(number)
        if key not in config.parameters:
            continue  # a version without a contract promises nothing, and is not used
        if Contract.from_json(config.parameters[key].string_value).digest != Manifest.read(version).digest:
            broken[number] = DigestMismatch(
                f"{version} is not what its contract in {CONFIG} was written for: publish a change under a number of "
                "its own"
            )
    return broken


def check_policy(config: model_config_pb2.ModelConfig, version: int) -> None:
    """Raises VersionPolicyRefused if Triton would stop serving the version when a newer one is published."""
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return
        case "specific":
            if version in policy.specific.versions:
                return
            words = f"names the versions {sorted(policy.specific.versions)}"
        case "latest" if policy.latest.num_versions >= _LEAST_VERSIONS:
            return
        case _:
            words = "keeps only the latest version"
    raise VersionPolicyRefused(
        f"the version_policy of {config.name} {words}, so that Triton would stop serving version {version} while it "
        "answers: write `version_policy { all { } }` into its config.pbtxt"
    )


def read_contract(config: model_config_pb2.ModelConfig, version: int) -> Contract:
    """Reads a version's contract from its config.

    Raises ModelMismatch if there is none or the config contradicts it, and RepositoryError if the config is not as
    published.
    """
    key = parameter_key(version)
    if key not in config.parameters:
        raise ModelMismatch(
            f"{config.name}/{version} carries no contract: its config.pbtxt has no parameter {key} "
            "(pspsearch-build publish writes it, and pspsearch-build adopt for a model of another maker)"
        )
    check_digest(config)
    contract = Contract.from_json(config.parameters[key].string_value)
    shape = contract.input
    wanted = [1] if shape is None else [shape.height_px, shape.width_px, 3]
    _agree(config, contract.takes.value, wanted, {i.name: list(i.dims) for i in config.input})
    outputs = {o.name: list(o.dims) for o in config.output}
    _agree(config, DESCRIPTOR, [contract.dimension], outputs)
    if contract.cells:
        _agree(config, CELLS, [contract.cells, contract.dimension], outputs)
    return contract


def _agree(config: model_config_pb2.ModelConfig, name: str, wanted: list[int], offered: dict[str, list[int]]) -> None:
    dims = offered.get(name)
    if dims is None or len(dims) != len(wanted) or any(d not in (-1, w) for d, w in zip(dims, wanted, strict=True)):
        raise ModelMismatch(
            f"the config of {config.name} has {name} {dims}, and its contract promises {wanted}: they disagree"
        )
