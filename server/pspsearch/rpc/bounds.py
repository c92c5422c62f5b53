"""The table of how much each field of a request may hold. It is checked before a request is parsed.

A parser turns the two bytes of a repeated empty message into a hundred, and the Python objects take even more. So every
repeated field has a maximum count here, and every text a maximum length. The server does not start if one is missing.
"""

from dataclasses import dataclass

from pspsearch.ingest.request import MAX_DELETES, MAX_ITEMS
from pspsearch.query import MAX_EXAMPLES, MAX_QUERIES

MAX_NUMBERS = 16_384
"""How many numbers a descriptor may have: more than any model gives."""

MAX_UNKNOWN = 64
"""How many unknown fields a message may have; a later client may send some."""

_MAX_TEXT_BYTES = 1 << 17
_MAX_PATH_BYTES = 1024
_MAX_TENSORS = 16
"""How many inputs, outputs or contents a request may have. One or two make sense; a few more get a specific error."""
_MAX_PARAMETERS = 64


@dataclass(frozen=True, slots=True)
class Bound:
    """What one field of a message may hold."""

    count: int = 1
    """The most entries."""
    size_bytes: int | None = None
    """The most bytes in each entry that is text or bytes; None if only the size of the whole request bounds it."""


_TEXT = Bound(size_bytes=_MAX_TEXT_BYTES)
"""Longer than an id, a name or a filter may be, so that one that is too long still gets its own error."""
_ALONE = Bound()
"""The field's user checks its length first, so that one bad query or item of many is refused alone."""


def _many(count: int) -> Bound:
    return Bound(count)


_PARAMETERS = {"key": _TEXT}

_TABLE: dict[str, dict[str, Bound]] = {
    "pspsearch.v1.Descriptor": {"values": _many(MAX_NUMBERS), "fingerprint": _TEXT},
    "pspsearch.v1.Origin": {"model": _TEXT, "fingerprint": _TEXT},
    "pspsearch.v1.Collection": {"name": _TEXT, "model": _TEXT},
    "pspsearch.v1.CollectionState": {"index": _TEXT, "background": _TEXT},
    "pspsearch.v1.Query": {"image": _ALONE, "id": _ALONE},
    "pspsearch.v1.SearchOptions": {"filter": _TEXT, "group_by": Bound(size_bytes=_MAX_PATH_BYTES)},
    "pspsearch.v1.SearchRequest": {"collection": _TEXT},
    "pspsearch.v1.BatchSearchRequest": {"collection": _TEXT, "queries": _many(MAX_QUERIES)},
    "pspsearch.v1.SearchStreamRequest": {"tag": _TEXT},
    "pspsearch.v1.CompareRequest": {"collection": _TEXT},
    "pspsearch.v1.DescribeRequest": {"collection": _TEXT, "image": _ALONE},
    "pspsearch.v1.RecommendRequest": {
        "collection": _TEXT,
        "positives": _many(MAX_EXAMPLES),
        "negatives": _many(MAX_EXAMPLES),
    },
    "pspsearch.v1.ExplainRequest": {"collection": _TEXT, "id": _TEXT},
    "pspsearch.v1.ItemInput": {"id": _ALONE, "image": _ALONE, "attributes_json": _ALONE},
    "pspsearch.v1.UpsertItemsRequest": {"collection": _TEXT, "items": _many(MAX_ITEMS), "request_id": _TEXT},
    "pspsearch.v1.IngestItemsRequest": {"collection": _TEXT},
    "pspsearch.v1.GetItemRequest": {"collection": _TEXT, "id": _TEXT},
    "pspsearch.v1.GetItemImageRequest": {"collection": _TEXT, "id": _TEXT},
    "pspsearch.v1.DeleteItemsRequest": {
        "collection": _TEXT,
        "ids": Bound(MAX_DELETES, _MAX_TEXT_BYTES),
        "filter": _TEXT,
        "request_id": _TEXT,
    },
    "pspsearch.v1.ListItemsRequest": {"collection": _TEXT, "filter": _TEXT, "page_token": _TEXT},
    "pspsearch.v1.CountItemsRequest": {"collection": _TEXT, "filter": _TEXT},
    "pspsearch.v1.GetCollectionRequest": {"name": _TEXT},
    "pspsearch.v1.DeleteCollectionRequest": {"name": _TEXT},
    "pspsearch.v1.ListModelVersionsRequest": {"model": _TEXT},
    "pspsearch.v1.StartRolloutRequest": {"collection": _TEXT},
    "pspsearch.v1.GetRolloutRequest": {"collection": _TEXT},
    "pspsearch.v1.WatchRolloutRequest": {"collection": _TEXT},
    "pspsearch.v1.TryRolloutRequest": {"collection": _TEXT},
    "pspsearch.v1.PromoteRolloutRequest": {"collection": _TEXT},
    "pspsearch.v1.AbortRolloutRequest": {"collection": _TEXT},
    "pspsearch.v1.RollbackRequest": {"collection": _TEXT},
    "pspsearch.v1.RetireGenerationRequest": {"collection": _TEXT},
    "pspsearch.v1.FollowModelRequest": {"collection": _TEXT},
    "pspsearch.v1.ListGenerationsRequest": {"collection": _TEXT},
    "inference.ModelReadyRequest": {"name": _TEXT, "version": _TEXT},
    "inference.ModelMetadataRequest": {"name": _TEXT, "version": _TEXT},
    "inference.ModelConfigRequest": {"name": _TEXT, "version": _TEXT},
    "inference.ModelStatisticsRequest": {"name": _TEXT, "version": _TEXT},
    "inference.RepositoryIndexRequest": {"repository_name": _TEXT},
    "inference.InferParameter": {"string_param": _TEXT},
    "inference.ModelInferRequest": {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "parameters": _many(_MAX_PARAMETERS),
        "inputs": _many(_MAX_TENSORS),
        "outputs": _many(_MAX_TENSORS),
        "raw_input_contents": _many(_MAX_TENSORS),
    },
    "inference.ModelInferRequest.ParametersEntry": _PARAMETERS,
    "inference.ModelInferRequest.InferInputTensor": {
        "name": _TEXT,
        "datatype": _TEXT,
        "shape": _many(_MAX_TENSORS),
        "parameters": _many(_MAX_PARAMETERS),
    },
    "inference.ModelInferRequest.InferInputTensor.ParametersEntry": _PARAMETERS,
    "inference.ModelInferRequest.InferRequestedOutputTensor": {"name": _TEXT, "parameters": _many(_MAX_PARAMETERS)},
    "inference.ModelInferRequest.InferRequestedOutputTensor.ParametersEntry": _PARAMETERS,
    "inference.InferTensorContents": {
        "fp32_contents": _many(MAX_QUERIES * MAX_NUMBERS),
        "bytes_contents": _many(MAX_QUERIES),
        **dict.fromkeys(
            (f"{kind}_contents" for kind in ("bool", "int", "int64", "uint", "uint64", "fp64")),
            _many(_MAX_TENSORS),  # no input has these types
        ),
    },
}

BOUNDS = {f"{message}.{field}": bound for message, fields in _TABLE.items() for field, bound in fields.items()}
"""The bounds by full field name."""
