"""Turns the API's messages into the clients' types."""

import json
from collections.abc import Iterable
from datetime import UTC

import numpy as np

from pspsearch.client.failures import status_error
from pspsearch.client.types import (
    Acknowledgement,
    BatchResult,
    Check,
    Collection,
    CollectionState,
    Comparison,
    Description,
    Descriptor,
    Explanation,
    Generation,
    Hit,
    Item,
    ModelVersion,
    Origin,
    Rollout,
    SearchResult,
    ServerStatus,
    Shares,
    Timing,
    Trial,
)
from pspsearch.domain import Area, CellPair, GenerationState, ImageInfo, IndexKind, Outcome, RolloutStage
from pspsearch.errors import PspsearchError
from pspsearch.v1 import (
    collection_service_pb2,
    item_service_pb2,
    model_service_pb2,
    resources_pb2,
    search_service_pb2,
)

_OUTCOMES = {
    item_service_pb2.UPSERT_OUTCOME_CREATED: Outcome.CREATED,
    item_service_pb2.UPSERT_OUTCOME_REPLACED: Outcome.REPLACED,
    item_service_pb2.UPSERT_OUTCOME_UNCHANGED: Outcome.UNCHANGED,
}
INDEX_KINDS = {
    IndexKind.AUTO: resources_pb2.INDEX_KIND_AUTO,
    IndexKind.EXACT: resources_pb2.INDEX_KIND_EXACT,
    IndexKind.IVF: resources_pb2.INDEX_KIND_IVF,
    IndexKind.HNSW: resources_pb2.INDEX_KIND_HNSW,
}


def read_search(message: search_service_pb2.SearchResponse) -> SearchResult:
    """Reads the answer to one query."""
    return SearchResult(_hits(message.hits), read_origin(message.origin), _timing(message.timing))


def read_recommend(message: search_service_pb2.RecommendResponse) -> SearchResult:
    """Reads the answer to a recommendation."""
    return SearchResult(_hits(message.hits), read_origin(message.origin), _timing(message.timing))


def read_batch(message: search_service_pb2.BatchSearchResponse) -> BatchResult:
    """Reads the answers to several queries."""
    results = tuple(status_error(one.status) or _hits(one.hits) for one in message.results)
    return BatchResult(results, read_origin(message.origin), _timing(message.timing))


def read_streamed(message: search_service_pb2.SearchStreamResponse) -> tuple[str, SearchResult | PspsearchError]:
    """Reads one answer of a stream, with its tag."""
    return message.tag, status_error(message.status) or read_search(message.response)


def read_comparison(message: search_service_pb2.CompareResponse) -> Comparison:
    """Reads a comparison."""
    same = message.same if message.HasField("same") else None
    return Comparison(message.score, same, read_origin(message.origin), _timing(message.timing))


def read_explanation(message: search_service_pb2.ExplainResponse) -> Explanation:
    """Reads why an item has its score."""
    return Explanation(
        message.score,
        _shares(message.query) if message.HasField("query") else None,
        _shares(message.item) if message.HasField("item") else None,
        tuple(CellPair(_box(pair.query), _box(pair.item), pair.score) for pair in message.pairs),
        read_origin(message.origin),
        _timing(message.timing),
    )


def _shares(message: search_service_pb2.Shares) -> Shares:
    shares = np.fromiter(message.shares, np.float32, len(message.shares))
    return Shares(shares.reshape(-1, message.columns), message.remainder, _box(message.seen))


def _box(message: resources_pb2.Box) -> Area:
    return Area(message.left, message.top, message.right, message.bottom)


def read_description(message: search_service_pb2.DescribeResponse) -> Description:
    """Reads an image's descriptor."""
    return Description(_descriptor(message.descriptor), read_origin(message.origin), _timing(message.timing))


def read_acknowledgement(message: item_service_pb2.UpsertResult) -> Acknowledgement:
    """Reads the result of one item."""
    return Acknowledgement(message.id, _OUTCOMES.get(message.outcome), message.sequence, status_error(message.status))


def read_item(message: item_service_pb2.GetItemResponse) -> Item:
    """Reads an item, with its descriptor if that was requested."""
    return _item(message.item, _descriptor(message.descriptor) if message.HasField("descriptor") else None)


def read_page(message: item_service_pb2.ListItemsResponse) -> tuple[tuple[Item, ...], str]:
    """Reads one page of items, and the token of the next page; "" at the end."""
    return tuple(_item(item) for item in message.items), message.next_page_token


def read_collection(message: resources_pb2.Collection) -> Collection:
    """Reads a collection with its state."""
    kinds = {value: kind for kind, value in INDEX_KINDS.items()}
    return Collection(
        message.name,
        message.model,
        message.keep_images,
        kinds.get(message.index_kind, IndexKind.AUTO),
        message.target_recall,
        message.create_time.ToDatetime(UTC),
        _collection_state(message.state),
        message.follows_model,
    )


def read_server_status(message: collection_service_pb2.GetServerStatusResponse) -> ServerStatus:
    """Reads the server's state."""
    return ServerStatus(
        message.version,
        message.serving,
        message.uptime_s,
        message.triton,
        tuple(read_origin(model) for model in message.models),
        tuple(read_collection(collection) for collection in message.collections),
        message.memory_bytes,
        message.catalog_bytes,
        message.requests_in_flight,
    )


def read_model_version(message: model_service_pb2.ModelVersion) -> ModelVersion:
    """Reads one version in the model repository."""
    return ModelVersion(
        message.model,
        message.version,
        message.reason,
        message.fingerprint,
        message.dimension,
        tuple(message.collections),
    )


def read_rollout(message: model_service_pb2.Rollout) -> Rollout:
    """Reads the state of a rollout."""
    stage = model_service_pb2.RolloutStage.Name(message.stage).removeprefix("ROLLOUT_STAGE_")
    return Rollout(
        message.collection,
        read_origin(message.origin),
        RolloutStage[stage],
        message.described_count,
        message.total_count,
        message.per_second,
        message.eta_s,
        message.missing_count,
        _checks(message.checks),
        message.reason,
        message.canary,
        message.shadow,
        _trial(message.trial),
    )


def _trial(message: model_service_pb2.Trial) -> Trial:
    return Trial(
        message.answered_count,
        message.passed_on_count,
        message.mirrored_count,
        message.failed_count,
        message.overlap,
        message.ms,
        message.active_ms,
    )


def read_generation(message: model_service_pb2.Generation) -> Generation:
    """Reads a generation."""
    state = model_service_pb2.GenerationState.Name(message.state).removeprefix("GENERATION_STATE_")
    return Generation(
        read_origin(message.origin),
        GenerationState[state],
        message.create_time.ToDatetime(UTC),
        message.change_time.ToDatetime(UTC),
        _checks(message.checks),
        message.reason,
    )


def _checks(messages: Iterable[model_service_pb2.Check]) -> tuple[Check, ...]:
    return tuple(Check(one.name, one.value, one.bound, one.passed, one.words) for one in messages)


def _hits(messages: Iterable[search_service_pb2.Hit]) -> tuple[Hit, ...]:
    return tuple(_hit(message) for message in messages)


def _hit(message: search_service_pb2.Hit) -> Hit:
    return Hit(
        message.id,
        message.score,
        json.loads(message.attributes_json) if message.attributes_json else None,
        message.image or None,
        _descriptor(message.descriptor) if message.HasField("descriptor") else None,
        json.loads(message.group) if message.group else None,
        tuple(message.duplicates),
    )


def _item(message: resources_pb2.Item, descriptor: Descriptor | None = None) -> Item:
    return Item(
        message.id,
        json.loads(message.attributes_json or "{}"),
        _image_info(message.image) if message.HasField("image") else None,
        message.create_time.ToDatetime(UTC),
        message.update_time.ToDatetime(UTC),
        message.sequence,
        descriptor,
    )


def _image_info(message: resources_pb2.ImageInfo) -> ImageInfo:
    return ImageInfo(
        message.media_type, message.width_px, message.height_px, message.size_bytes, message.sha256, message.kept
    )


def _descriptor(message: resources_pb2.Descriptor) -> Descriptor:
    return Descriptor(np.fromiter(message.values, np.float32, len(message.values)), message.fingerprint)


def read_origin(message: resources_pb2.Origin) -> Origin:
    """Reads where an answer comes from."""
    return Origin(message.model, message.model_version, message.fingerprint, message.generation)


def _timing(message: resources_pb2.Timing) -> Timing:
    return Timing(message.decode_ms, message.queue_ms, message.inference_ms, message.search_ms, message.total_ms)


def _collection_state(message: resources_pb2.CollectionState) -> CollectionState:
    return CollectionState(
        read_origin(message.origin),
        message.item_count,
        message.sequence,
        message.index,
        message.measured_recall,
        message.index_bytes,
        message.fresh_count,
        message.tombstone_count,
        message.background,
    )
