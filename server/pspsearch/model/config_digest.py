"""A digest of all that a `config.pbtxt` says of what a model runs and answers, kept in the file itself.

Triton gives a model's configuration to any client, so the digest can be checked wherever a contract is read, even at a
Triton on another machine. The digest does not cover what an operator tunes (batching, instances, queues, warm-up, the
version policy) or what Triton fills in.
"""

import hashlib
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from pspsearch.errors import DigestMismatch

DIGEST_KEY = "pspsearch.digest"
"""The key of the digest in the parameters of `config.pbtxt`."""

_COVERED = (
    "cc_model_filenames",
    "input",
    "output",
    "batch_input",
    "batch_output",
    "ensemble_scheduling",
    "sequence_batching",
    "model_operations",
    "model_repository_agents",
)
_BACKENDS = {"tensorrt_plan": "tensorrt"}
"""The backend that Triton takes for a platform if none is named."""
_FILES = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
}
"""The file of a version that Triton takes if the configuration names none, by backend."""


def digest_of(config: Message) -> str:
    """The digest of a Triton ModelConfig; the same for the file on disk and for what Triton serves."""
    raw: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    platform: str = raw.get("platform", "")
    backend: str = raw.get("backend") or _BACKENDS.get(platform, platform)
    runtime = raw.get("runtime", "")
    covered = {
        **{key: raw[key] for key in _COVERED if raw.get(key)},
        "backend": backend,
        "default_model_filename": raw.get("default_model_filename") or _FILES.get(backend, ""),
        "runtime": "" if runtime in (f"libtriton_{backend}.so", "model.py") else runtime,
        "accelerators": raw.get("optimization", {}).get("execution_accelerators", {}),
        "parameters": {key: value for key, value in raw.get("parameters", {}).items() if key != DIGEST_KEY},
    }
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def check_digest(config: Message) -> bool:
    """Whether the config carries a digest at all; DigestMismatch if it is not the digest of the config."""
    raw: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    digest = raw.get("parameters", {}).get(DIGEST_KEY)
    if digest is not None and digest.get("string_value") != digest_of(config):
        raise DigestMismatch(
            f"the config.pbtxt of {raw.get('name', '')} is not the one that was published: its digest differs "
            "(if the change is meant, pspsearch-build seal writes a new digest)"
        )
    return digest is not None
