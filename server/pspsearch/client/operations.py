"""Every unary call of the API: what is sent, and how its answer is read. Both clients are made of these."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from google.protobuf.message import Message

from pspsearch.client import answers, messages
from pspsearch.client.types import (
    Acknowledgement,
    BatchResult,
    Collection,
    Comparison,
    Description,
    Generation,
    Item,
    ItemInput,
    ModelVersion,
    Origin,
    Query,
    Rollout,
    SearchOptions,
    SearchResult,
    ServerStatus,
)
from pspsearch.domain import IndexKind
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches

SEARCH_STREAM = "/pspsearch.v1.SearchService/SearchStream"
INGEST_ITEMS = "/pspsearch.v1.ItemService/IngestItems"
WATCH_ROLLOUT = "/pspsearch.v1.ModelService/WatchRollout"

Response = TypeVar("Response", bound=Message)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Operation(Generic[Response, Answer]):
    """One unary call."""

    method: str
    """Its service and its name: `SearchService/Search`."""
    request: Message
    response: type[Response]
    read: Callable[[Response], Answer]
    repeatable: bool = True
    """Whether it does no harm when an attempt that seemed to fail was carried out after all."""

    @property
    def path(self) -> str:
        """As gRPC names it."""
        return f"/pspsearch.v1.{self.method}"


@messages.checking("the request")
def search(query: Query, collection: str, options: SearchOptions) -> Operation[searches.SearchResponse, SearchResult]:
    """The items nearest to one query."""
    request = search_request(query, collection, options)
    return Operation("SearchService/Search", request, searches.SearchResponse, answers.read_search)


@messages.checking("the request")
def search_request(query: Query, collection: str, options: SearchOptions) -> searches.SearchRequest:
    """One query, alone or in a stream."""
    return searches.SearchRequest(
        collection=collection, query=messages.query_message(query), options=messages.options_message(options)
    )


@messages.checking("the request")
def search_batch(
    queries: Sequence[Query], collection: str, options: SearchOptions
) -> Operation[searches.BatchSearchResponse, BatchResult]:
    """Several queries at once."""
    request = searches.BatchSearchRequest(
        collection=collection,
        queries=[messages.query_message(query) for query in queries],
        options=messages.options_message(options),
    )
    return Operation("SearchService/BatchSearch", request, searches.BatchSearchResponse, answers.read_batch)


@messages.checking("the request")
def compare(
    left: Query, right: Query, collection: str, threshold: float | None
) -> Operation[searches.CompareResponse, Comparison]:
    """How alike two things are."""
    request = searches.CompareRequest(
        collection=collection,
        left=messages.query_message(left),
        right=messages.query_message(right),
        threshold=threshold,
    )
    return Operation("SearchService/Compare", request, searches.CompareResponse, answers.read_comparison)


@messages.checking("the request")
def describe(image: Path | bytes, collection: str) -> Operation[searches.DescribeResponse, Description]:
    """An image's descriptor."""
    request = searches.DescribeRequest(collection=collection, image=messages.read_image(image))
    return Operation("SearchService/Describe", request, searches.DescribeResponse, answers.read_description)


@messages.checking("the request")
def recommend(
    positives: Sequence[Query], negatives: Sequence[Query], collection: str, options: SearchOptions
) -> Operation[searches.RecommendResponse, SearchResult]:
    """The items near to some examples and far from others."""
    request = searches.RecommendRequest(
        collection=collection,
        positives=[messages.query_message(query) for query in positives],
        negatives=[messages.query_message(query) for query in negatives],
        options=messages.options_message(options),
    )
    return Operation("SearchService/Recommend", request, searches.RecommendResponse, answers.read_recommend)


@messages.checking("the request")
def upsert(
    inputs: Sequence[ItemInput], collection: str
) -> Operation[items.UpsertItemsResponse, tuple[Acknowledgement, ...]]:
    """Items to put in; the request id makes it repeatable."""
    request = items.UpsertItemsRequest(
        collection=collection, items=[messages.item_message(item) for item in inputs], request_id=uuid.uuid4().hex
    )
    return Operation(
        "ItemService/UpsertItems",
        request,
        items.UpsertItemsResponse,
        lambda response: tuple(answers.read_acknowledgement(result) for result in response.results),
    )


@messages.checking("the request")
def get(item_id: str, collection: str, *, descriptor: bool) -> Operation[items.GetItemResponse, Item]:
    """One item."""
    request = items.GetItemRequest(collection=collection, id=item_id, return_descriptor=descriptor)
    return Operation("ItemService/GetItem", request, items.GetItemResponse, answers.read_item)


@messages.checking("the request")
def get_image(item_id: str, collection: str) -> Operation[items.GetItemImageResponse, bytes]:
    """The encoded bytes as they came."""
    request = items.GetItemImageRequest(collection=collection, id=item_id)
    return Operation("ItemService/GetItemImage", request, items.GetItemImageResponse, lambda response: response.image)


@messages.checking("the request")
def delete(ids: Sequence[str], matching: str, collection: str) -> Operation[items.DeleteItemsResponse, int]:
    """Items to take out; the request id makes it repeatable."""
    request = items.DeleteItemsRequest(collection=collection, ids=ids, filter=matching, request_id=uuid.uuid4().hex)
    return Operation(
        "ItemService/DeleteItems", request, items.DeleteItemsResponse, lambda response: response.deleted_count
    )


@messages.checking("the request")
def list_page(
    matching: str, page_size: int, token: str, collection: str, not_in_generation: int
) -> Operation[items.ListItemsResponse, tuple[tuple[Item, ...], str]]:
    """One page of items, and the token of the next."""
    request = items.ListItemsRequest(
        collection=collection,
        filter=matching,
        page_size=page_size,
        page_token=token,
        not_in_generation=not_in_generation,
    )
    return Operation("ItemService/ListItems", request, items.ListItemsResponse, answers.read_page)


@messages.checking("the request")
def count(matching: str, collection: str) -> Operation[items.CountItemsResponse, int]:
    """How many items there are."""
    request = items.CountItemsRequest(collection=collection, filter=matching)
    return Operation("ItemService/CountItems", request, items.CountItemsResponse, lambda response: response.count)


@messages.checking("the request")
def create_collection(
    name: str, model: str, *, keep_images: bool, index_kind: IndexKind, target_recall: float
) -> Operation[collections.CreateCollectionResponse, Collection]:
    """A collection to make; made twice it would be there already, so it is not repeated."""
    collection = resources.Collection(
        name=name,
        model=model,
        keep_images=keep_images,
        index_kind=answers.INDEX_KINDS[index_kind],
        target_recall=target_recall,
    )
    return Operation(
        "CollectionService/CreateCollection",
        collections.CreateCollectionRequest(collection=collection),
        collections.CreateCollectionResponse,
        lambda response: answers.read_collection(response.collection),
        repeatable=False,
    )


@messages.checking("the request")
def get_collection(name: str) -> Operation[collections.GetCollectionResponse, Collection]:
    """One collection."""
    return Operation(
        "CollectionService/GetCollection",
        collections.GetCollectionRequest(name=name),
        collections.GetCollectionResponse,
        lambda response: answers.read_collection(response.collection),
    )


def list_collections() -> Operation[collections.ListCollectionsResponse, tuple[Collection, ...]]:
    """All collections."""
    return Operation(
        "CollectionService/ListCollections",
        collections.ListCollectionsRequest(),
        collections.ListCollectionsResponse,
        lambda response: tuple(answers.read_collection(one) for one in response.collections),
    )


@messages.checking("the request")
def delete_collection(name: str) -> Operation[collections.DeleteCollectionResponse, int]:
    """A collection to delete; deleted twice it would not be found, so it is not repeated."""
    return Operation(
        "CollectionService/DeleteCollection",
        collections.DeleteCollectionRequest(name=name),
        collections.DeleteCollectionResponse,
        lambda response: response.deleted_count,
        repeatable=False,
    )


def server_status() -> Operation[collections.GetServerStatusResponse, ServerStatus]:
    """How the server stands."""
    return Operation(
        "CollectionService/GetServerStatus",
        collections.GetServerStatusRequest(),
        collections.GetServerStatusResponse,
        answers.read_server_status,
    )


@messages.checking("the request")
def list_model_versions(model: str) -> Operation[models.ListModelVersionsResponse, tuple[ModelVersion, ...]]:
    """The versions that the repository has."""
    return Operation(
        "ModelService/ListModelVersions",
        models.ListModelVersionsRequest(model=model),
        models.ListModelVersionsResponse,
        lambda response: tuple(answers.read_model_version(one) for one in response.versions),
    )


@messages.checking("the request")
def start_rollout(
    collection: str,
    version: int,
    *,
    share: float,
    automatic: bool,
    drop_missing: bool,
    canary: float,
    shadow: float,
) -> Operation[models.StartRolloutResponse, Rollout]:
    """A rollout to begin; begun twice it would be under way, so it is not repeated."""
    return Operation(
        "ModelService/StartRollout",
        models.StartRolloutRequest(
            collection=collection,
            model_version=version,
            share=share,
            automatic=automatic,
            drop_missing=drop_missing,
            canary=canary,
            shadow=shadow,
        ),
        models.StartRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
        repeatable=False,
    )


@messages.checking("the request")
def get_rollout(collection: str) -> Operation[models.GetRolloutResponse, Rollout]:
    """The one under way, or the last one."""
    return Operation(
        "ModelService/GetRollout",
        models.GetRolloutRequest(collection=collection),
        models.GetRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
    )


@messages.checking("the request")
def try_rollout(collection: str, *, canary: float, shadow: float) -> Operation[models.TryRolloutResponse, Rollout]:
    """Live searches for a rollout to take part in."""
    return Operation(
        "ModelService/TryRollout",
        models.TryRolloutRequest(collection=collection, canary=canary, shadow=shadow),
        models.TryRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
    )


@messages.checking("the request")
def promote_rollout(collection: str, *, drop_missing: bool) -> Operation[models.PromoteRolloutResponse, Rollout]:
    """A rollout to promote; promoted twice it would be under way no more, so it is not repeated."""
    return Operation(
        "ModelService/PromoteRollout",
        models.PromoteRolloutRequest(collection=collection, drop_missing=drop_missing),
        models.PromoteRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
        repeatable=False,
    )


@messages.checking("the request")
def abort_rollout(collection: str) -> Operation[models.AbortRolloutResponse, Rollout]:
    """A rollout to end."""
    return Operation(
        "ModelService/AbortRollout",
        models.AbortRolloutRequest(collection=collection),
        models.AbortRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
        repeatable=False,
    )


@messages.checking("the request")
def rollback(collection: str) -> Operation[models.RollbackResponse, Origin]:
    """The way back; taken twice it would lead to where it began, so it is not repeated."""
    return Operation(
        "ModelService/Rollback",
        models.RollbackRequest(collection=collection),
        models.RollbackResponse,
        lambda response: answers.read_origin(response.origin),
        repeatable=False,
    )


@messages.checking("the request")
def retire_generation(collection: str) -> Operation[models.RetireGenerationResponse, Origin]:
    """The kept generation, to be let go of."""
    return Operation(
        "ModelService/RetireGeneration",
        models.RetireGenerationRequest(collection=collection),
        models.RetireGenerationResponse,
        lambda response: answers.read_origin(response.origin),
        repeatable=False,
    )


@messages.checking("the request")
def follow_model(collection: str, *, follow: bool) -> Operation[models.FollowModelResponse, Collection]:
    """Whether a collection follows."""
    return Operation(
        "ModelService/FollowModel",
        models.FollowModelRequest(collection=collection, follow=follow),
        models.FollowModelResponse,
        lambda response: answers.read_collection(response.collection),
    )


@messages.checking("the request")
def list_generations(collection: str) -> Operation[models.ListGenerationsResponse, tuple[Generation, ...]]:
    """All that there are and were."""
    return Operation(
        "ModelService/ListGenerations",
        models.ListGenerationsRequest(collection=collection),
        models.ListGenerationsResponse,
        lambda response: tuple(answers.read_generation(one) for one in response.generations),
    )
