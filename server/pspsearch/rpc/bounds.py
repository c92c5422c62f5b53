"""How much each field of a request may hold: the one table, looked at before a request is parsed.

A parser makes a hundred bytes of two where an empty message is repeated, and what is made of it in Python is more
still. So everything that can be repeated has its count here, and every text its length. A field that is not here keeps
the server from starting.
"""

from dataclasses import dataclass

from pspsearch.ingest.request import MAX_DELETES, MAX_ITEMS
from pspsearch.query import MAX_EXAMPLES, MAX_QUERIES

MAX_NUMBERS = 16_384
"""Of one descriptor: more than any model has."""

MAX_UNKNOWN = 64
"""Fields of one message that this server does not know, as a later client may send them."""

_MAX_TEXT_BYTES = 1 << 17
_MAX_PATH_BYTES = 1024
_MAX_TENSORS = 16
"""Inputs, outputs and contents of one request, of which one or two make sense: the others get their own sentence."""
_MAX_PARAMETERS = 64


@dataclass(frozen=True, slots=True)
class Bound:
    """Of one field in one message."""

    count: int = 1
    """Entries."""
    size_bytes: int | None = None
    """Of each entry that is text or bytes; None for as much as a whole request may have."""


_TEXT = Bound(size_bytes=_MAX_TEXT_BYTES)
"""What is longer than an id, a name or a filter may be still gets the sentence that says so."""
_ALONE = Bound()
"""Its length is looked at where it is used, before anything else is: one of many is refused alone."""


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
            _many(_MAX_TENSORS),  # no input is of these
        ),
    },
}

BOUNDS = {f"{message}.{field}": bound for message, fields in _TABLE.items() for field, bound in fields.items()}
"""By the full name of the field."""
