"""Translates between protobuf messages and the core's types."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from pspsearch import domain
from pspsearch.call import Call, Stage
from pspsearch.domain import Area, Generation, IndexKind
from pspsearch.errors import InvalidRequest
from pspsearch.filters import Filter
from pspsearch.images.box import part
from pspsearch.ingest.request import check_id
from pspsearch.live.live import Live
from pspsearch.query import CellPair, DescriptorQuery, Hit, ImageQuery, ItemQuery, Options, Query, Shares
from pspsearch.rollout.rollout import Rollout
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches

USUAL_LIMIT = 10
"""How many hits an answer has at most if the request sets no limit."""

_KINDS = {
    resources.INDEX_KIND_UNSPECIFIED: IndexKind.AUTO,
    resources.INDEX_KIND_AUTO: IndexKind.AUTO,
    resources.INDEX_KIND_EXACT: IndexKind.EXACT,
    resources.INDEX_KIND_IVF: IndexKind.IVF,
    resources.INDEX_KIND_HNSW: IndexKind.HNSW,
}


def read_query(query: searches.Query) -> Query:
    """Reads a query. Raises InvalidRequest if it is empty, or has an id that no item can have, or a wrong box."""
    kind = query.WhichOneof("by")
    if query.HasField("box") and kind != "image":
        raise InvalidRequest("a box is a part of an image, and the query has none")
    match kind:
        case "image":
            return read_image_query(query)
        case "id":
            check_id(query.id)
            return ItemQuery(query.id)
        case "descriptor":
            return read_descriptor(query.descriptor)
        case _:
            raise InvalidRequest("a query needs an image, an id or a descriptor")


def read_image_query(query: searches.Query | searches.DescribeRequest) -> ImageQuery:
    """Reads an image and, if it has one, its box. Raises InvalidRequest for a box that no image can have."""
    if not query.HasField("box"):
        return ImageQuery(query.image)
    box = query.box
    return ImageQuery(query.image, part(box.left, box.top, box.right, box.bottom, box.in_px))


def read_descriptor(descriptor: resources.Descriptor) -> DescriptorQuery:
    """Reads a descriptor, without checking that it fits a space."""
    return DescriptorQuery(_numbers(descriptor), descriptor.fingerprint)


def _numbers(descriptor: resources.Descriptor) -> NDArray[np.float32]:
    """Reads the numbers from the serialised message, where they are contiguous: three times as fast as from objects."""
    count = len(descriptor.values)
    if not count:
        return np.empty(0, np.float32)
    content = descriptor.SerializeToString()
    start = 1 + ((4 * count).bit_length() + 6) // 7  # after the field's number and the numbers' length
    assert content[0] == resources.Descriptor.VALUES_FIELD_NUMBER << 3 | 2, "fields are written in their order"
    return np.frombuffer(content, "<f4", count, start).astype(np.float32)


def read_options(options: searches.SearchOptions) -> Options:
    """Reads the options of a search. Raises InvalidRequest or BadFilter if they make no sense."""
    return Options(
        limit=options.limit if options.HasField("limit") else USUAL_LIMIT,
        offset=options.offset,
        where=read_filter(options.filter),
        min_score=options.min_score if options.HasField("min_score") else None,
        group_by=options.group_by,
        group_size=options.group_size or 1,
        fold_above=options.fold_above if options.HasField("fold_above") else None,
        expand=options.expand,
        expand_above=options.expand_above if options.HasField("expand_above") else None,
        rerank=options.rerank,
        diversity=options.diversity,
        attributes=options.return_attributes,
        images=options.return_images,
        descriptors=options.return_descriptors,
    )


async def prepare_filter(text: str) -> None:
    """Must precede `read_filter`: parses a long filter in another thread. Raises BadFilter."""
    await Filter.prepare(text)


def read_filter(text: str) -> Filter | None:
    """The parsed filter, or None for an empty one. Raises BadFilter."""
    return Filter.parse(text) if text else None


def read_kind(kind: resources.IndexKind.ValueType) -> IndexKind:
    """Reads an index kind. Raises InvalidRequest for an unknown number."""
    if kind not in _KINDS:
        raise InvalidRequest(f"there is no index kind {kind}")
    return _KINDS[kind]


def write_descriptor(values: NDArray[np.float32], generation: Generation) -> resources.Descriptor:
    """Writes a descriptor with the fingerprint of its space."""
    return resources.Descriptor(values=values.tolist(), fingerprint=generation.fingerprint)


_WithHits = TypeVar("_WithHits", searches.SearchResponse, searches.BatchSearchResult, searches.RecommendResponse)


def write_hits(hits: Sequence[Hit], generation: Generation, into: _WithHits) -> _WithHits:
    """Appends the hits to `into`, in order, and returns it.

    They are built inside `into`, because protobuf copies a message that is put into another, images included.
    """
    for hit in hits:
        into.hits.add(
            id=hit.id,
            score=max(-1.0, min(hit.score, 1.0)),  # stored descriptors are rounded and not quite of unit length
            attributes_json=hit.attributes,
            image=hit.image,
            descriptor=None if hit.descriptor is None else write_descriptor(hit.descriptor, generation),
            group=hit.group,
            duplicates=hit.duplicates,
        )
    return into


def write_shares(shares: Shares) -> searches.Shares:
    """Writes how a score is shared among the cells of one picture."""
    return searches.Shares(
        shares=shares.shares.ravel().tolist(),
        columns=shares.shares.shape[1],
        remainder=shares.remainder,
        seen=_write_area(shares.seen),
    )


def write_pair(pair: CellPair) -> searches.CellPair:
    """Writes two cells that are like each other."""
    return searches.CellPair(query=_write_area(pair.query), item=_write_area(pair.item), score=pair.score)


def _write_area(area: Area) -> resources.Box:
    return resources.Box(left=area.left, top=area.top, right=area.right, bottom=area.bottom)


def write_origin(generation: Generation) -> resources.Origin:
    """Writes which model version an answer comes from."""
    return resources.Origin(
        model=generation.model,
        model_version=generation.version,
        fingerprint=generation.fingerprint,
        generation=generation.key,
    )


def write_timing(call: Call) -> resources.Timing:
    """Writes the times that the call has taken until now."""
    return resources.Timing(
        decode_ms=call.stages_ms[Stage.DECODE],
        queue_ms=call.stages_ms[Stage.QUEUE],
        inference_ms=call.stages_ms[Stage.INFERENCE],
        search_ms=call.stages_ms[Stage.SEARCH],
        total_ms=1000 * call.elapsed_s(),
    )


def write_item(item: domain.Item) -> resources.Item:
    """Writes an item, without the bytes of its image."""
    return resources.Item(
        id=item.id,
        attributes_json=item.attributes,
        image=None if item.image is None else write_image_info(item.image),
        create_time=write_time(item.created),
        update_time=write_time(item.updated),
        sequence=item.sequence,
    )


def write_image_info(info: domain.ImageInfo) -> resources.ImageInfo:
    """Writes what is known about an image."""
    return resources.ImageInfo(
        media_type=info.media_type,
        width_px=info.width_px,
        height_px=info.height_px,
        size_bytes=info.size_bytes,
        sha256=info.sha256,
        kept=info.kept,
    )


def write_collection(live: Live, rollout: Rollout | None) -> resources.Collection:
    """Writes a collection with its present state and the rollout under way, if any."""
    settings, state = live.collection.settings, live.index.state
    return resources.Collection(
        name=live.collection.name,
        model=settings.model,
        keep_images=settings.keep_images,
        index_kind=resources.IndexKind.Value(f"INDEX_KIND_{settings.index_kind.name}"),
        target_recall=settings.target_recall,
        create_time=write_time(live.collection.created),
        follows_model=live.collection.follows,
        state=resources.CollectionState(
            origin=write_origin(live.generation),
            item_count=state.rows,
            sequence=state.sequence,
            index=state.plan,
            measured_recall=state.measured_recall,
            index_bytes=state.size_bytes,
            fresh_count=state.fresh,
            tombstone_count=state.tombstones,
            background="; ".join(filter(None, (state.background, rollout.words if rollout is not None else ""))),
        ),
    )


def write_time(moment: datetime) -> Timestamp:
    """Writes a time in UTC."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
