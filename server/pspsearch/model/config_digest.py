"""One digest over all that a `config.pbtxt` says of what a model runs and answers, kept in the file itself.

Triton hands a model's configuration on to whoever asks, so the digest can be checked wherever a contract is read, at a
Triton on another machine, too. What an operator tunes (batching, instances, queues, warm-up, the version policy) is not
under it, and neither is what Triton fills in.
"""

import hashlib
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from pspsearch.errors import DigestMismatch

DIGEST_KEY = "pspsearch.digest"
"""The key in `config.pbtxt`'s parameters under which the digest stands."""

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
"""What Triton makes of a platform where no backend is named."""
_FILES = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
}
"""What Triton calls the file of a version where the configuration does not, by backend."""


def digest_of(config: Message) -> str:
    """Of Triton's ModelConfig, as it lies on disk or as Triton serves it: the same."""
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
    """Whether it carries a digest at all; DigestMismatch where that is not the digest of what it says."""
    raw: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    digest = raw.get("parameters", {}).get(DIGEST_KEY)
    if digest is not None and digest.get("string_value") != digest_of(config):
        raise DigestMismatch(
            f"the config.pbtxt of {raw.get('name', '')} is not the one that was published: its digest differs "
            "(where the change is meant, pspsearch-build seal writes the digest anew)"
        )
    return digest is not None
