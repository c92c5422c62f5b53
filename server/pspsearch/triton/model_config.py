"""A model's `config.pbtxt`, read with Triton's own message: Triton says of one that does not parse only that."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pspsearch.errors import RepositoryError
from pspsearch.repository import CONFIG


def read_config(model: Path) -> model_config_pb2.ModelConfig:
    """The configuration in a model's folder; RepositoryError, with line and column, where it is none."""
    path = model / CONFIG
    try:
        return text_format.Parse(path.read_text("utf-8"), model_config_pb2.ModelConfig())
    except (text_format.ParseError, OSError, ValueError) as error:
        raise RepositoryError(f"{path} is not a Triton model configuration: {error}") from error
