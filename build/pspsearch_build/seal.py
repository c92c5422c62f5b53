"""Writes the digest of a `config.pbtxt` that somebody changed on purpose, or that an earlier release wrote."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from pspsearch.errors import RepositoryError
from pspsearch.model.config_digest import DIGEST_KEY, digest_of
from pspsearch.model.contract import Contract, parameter_key
from pspsearch.model.manifest import MANIFEST, Manifest
from pspsearch_build.atomic_file import replacing
from pspsearch_build.errors import PublishRefused
from pspsearch_build.model_lock import exclusive


def seal(model: Path) -> str:
    """Writes the configuration's digest into it, and returns the digest; durable when this returns.

    Raises RepositoryError if a version's files are not the published ones, because a digest would hide that.
    """
    path = model / "config.pbtxt"
    with exclusive(model):
        try:
            config = text_format.Parse(path.read_text("utf-8"), pb.ModelConfig())
        except (text_format.ParseError, OSError, ValueError) as error:
            raise RepositoryError(f"{path} is not a Triton model configuration: {error}") from error
        for manifest in sorted(model.glob(f"[0-9]*/{MANIFEST}")):
            _check_version(config, manifest.parent)
        digest = digest_of(config)
        config.parameters[DIGEST_KEY].string_value = digest
        with replacing(path) as temporary:
            temporary.write_text(text_format.MessageToString(config), "utf-8")
    return digest


def _check_version(config: pb.ModelConfig, version: Path) -> None:
    manifest = Manifest.read(version)
    manifest.verify(version)
    key = parameter_key(int(version.name))
    if key in config.parameters and Contract.from_json(config.parameters[key].string_value).digest != manifest.digest:
        raise PublishRefused(f"{version} is not what its contract was written for: publish it under another number")
