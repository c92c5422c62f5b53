"""A model's `config.pbtxt`, read with Triton's own message: Triton says of one that does not parse only that."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pspsearch.errors import RepositoryError, VersionPolicyRefused
from pspsearch.repository import CONFIG

_LEAST_VERSIONS = 2
"""The one that answers, and the one that comes."""


def read_config(model: Path) -> model_config_pb2.ModelConfig:
    """The configuration in a model's folder; RepositoryError, with line and column, where it is none."""
    path = model / CONFIG
    try:
        return text_format.Parse(path.read_text("utf-8"), model_config_pb2.ModelConfig())
    except (text_format.ParseError, OSError, ValueError) as error:
        raise RepositoryError(f"{path} is not a Triton model configuration: {error}") from error


def check_policy(config: model_config_pb2.ModelConfig, version: int) -> None:
    """VersionPolicyRefused where Triton would stop serving the version as soon as another one comes."""
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
