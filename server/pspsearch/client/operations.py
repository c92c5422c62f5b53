"""Every unary call of the API: its request, and how its answer is read. Both clients use these."""

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
    Explanation,
    Generation,
    Item,
    ItemInput,
    ModelVersion,
    Origin,
    Query,
    Region,
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
    """The service and the method, such as `SearchService/Search`."""
    request: Message
    response: type[Response]
    read: Callable[[Response], Answer]
    repeatable: bool = True
    """Whether it may be sent again when an attempt that seemed to fail may have succeeded."""

    @property
    def path(self) -> str:
        """The method's name in gRPC."""
        return f"/pspsearch.v1.{self.method}"


@messages.checking("the request")
def search(query: Query, collection: str, options: SearchOptions) -> Operation[searches.SearchResponse, SearchResult]:
    """Finds the items nearest to one query."""
    request = search_request(query, collection, options)
    return Operation("SearchService/Search", request, searches.SearchResponse, answers.read_search)


@messages.checking("the request")
def search_request(query: Query, collection: str, options: SearchOptions) -> searches.SearchRequest:
    """Makes the request for one query, alone or in a stream."""
    return searches.SearchRequest(
        collection=collection, query=messages.query_message(query), options=messages.options_message(options)
    )


@messages.checking("the request")
def search_batch(
    queries: Sequence[Query], collection: str, options: SearchOptions
) -> Operation[searches.BatchSearchResponse, BatchResult]:
    """Searches for several queries at once."""
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
    """Compares two images, items or descriptors."""
    request = searches.CompareRequest(
        collection=collection,
        left=messages.query_message(left),
        right=messages.query_message(right),
        threshold=threshold,
    )
    return Operation("SearchService/Compare", request, searches.CompareResponse, answers.read_comparison)


@messages.checking("the request")
def explain(query: Query, item_id: str, collection: str) -> Operation[searches.ExplainResponse, Explanation]:
    """Explains the score of an item."""
    request = searches.ExplainRequest(collection=collection, query=messages.query_message(query), id=item_id)
    return Operation("SearchService/Explain", request, searches.ExplainResponse, answers.read_explanation)


@messages.checking("the request")
def describe(image: Path | bytes | Region, collection: str) -> Operation[searches.DescribeResponse, Description]:
    """Describes an image, or a part of it."""
    request = searches.DescribeRequest(collection=collection)
    if isinstance(image, Region):
        request.box.CopyFrom(messages.box_message(image))
        image = image.image
    request.image = messages.read_image(image)
    return Operation("SearchService/Describe", request, searches.DescribeResponse, answers.read_description)


@messages.checking("the request")
def recommend(
    positives: Sequence[Query], negatives: Sequence[Query], collection: str, options: SearchOptions
) -> Operation[searches.RecommendResponse, SearchResult]:
    """Finds the items near to some examples and far from others."""
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
    """Puts items in. The request id makes this repeatable."""
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
    """Reads one item."""
    request = items.GetItemRequest(collection=collection, id=item_id, return_descriptor=descriptor)
    return Operation("ItemService/GetItem", request, items.GetItemResponse, answers.read_item)


@messages.checking("the request")
def get_image(item_id: str, collection: str) -> Operation[items.GetItemImageResponse, bytes]:
    """Reads the encoded bytes of an item's image."""
    request = items.GetItemImageRequest(collection=collection, id=item_id)
    return Operation("ItemService/GetItemImage", request, items.GetItemImageResponse, lambda response: response.image)


@messages.checking("the request")
def delete(ids: Sequence[str], matching: str, collection: str) -> Operation[items.DeleteItemsResponse, int]:
    """Deletes items. The request id makes this repeatable."""
    request = items.DeleteItemsRequest(collection=collection, ids=ids, filter=matching, request_id=uuid.uuid4().hex)
    return Operation(
        "ItemService/DeleteItems", request, items.DeleteItemsResponse, lambda response: response.deleted_count
    )


@messages.checking("the request")
def list_page(
    matching: str, page_size: int, token: str, collection: str, not_in_generation: int
) -> Operation[items.ListItemsResponse, tuple[tuple[Item, ...], str]]:
    """Reads one page of items, and the token of the next page."""
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
    """Counts items."""
    request = items.CountItemsRequest(collection=collection, filter=matching)
    return Operation("ItemService/CountItems", request, items.CountItemsResponse, lambda response: response.count)


@messages.checking("the request")
def create_collection(
    name: str, model: str, *, keep_images: bool, index_kind: IndexKind, target_recall: float
) -> Operation[collections.CreateCollectionResponse, Collection]:
    """Creates a collection. Not repeatable: the second attempt would find it there already."""
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
    """Reads one collection."""
    return Operation(
        "CollectionService/GetCollection",
        collections.GetCollectionRequest(name=name),
        collections.GetCollectionResponse,
        lambda response: answers.read_collection(response.collection),
    )


def list_collections() -> Operation[collections.ListCollectionsResponse, tuple[Collection, ...]]:
    """Lists all collections."""
    return Operation(
        "CollectionService/ListCollections",
        collections.ListCollectionsRequest(),
        collections.ListCollectionsResponse,
        lambda response: tuple(answers.read_collection(one) for one in response.collections),
    )


@messages.checking("the request")
def delete_collection(name: str) -> Operation[collections.DeleteCollectionResponse, int]:
    """Deletes a collection. Not repeatable: the second attempt would not find it."""
    return Operation(
        "CollectionService/DeleteCollection",
        collections.DeleteCollectionRequest(name=name),
        collections.DeleteCollectionResponse,
        lambda response: response.deleted_count,
        repeatable=False,
    )


def server_status() -> Operation[collections.GetServerStatusResponse, ServerStatus]:
    """Reads the server's state."""
    return Operation(
        "CollectionService/GetServerStatus",
        collections.GetServerStatusRequest(),
        collections.GetServerStatusResponse,
        answers.read_server_status,
    )


@messages.checking("the request")
def list_model_versions(model: str) -> Operation[models.ListModelVersionsResponse, tuple[ModelVersion, ...]]:
    """Lists the versions of a model in the repository."""
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
    """Starts a rollout. Not repeatable: the second attempt would find it under way."""
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
    """Reads the rollout under way, or the last one."""
    return Operation(
        "ModelService/GetRollout",
        models.GetRolloutRequest(collection=collection),
        models.GetRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
    )


@messages.checking("the request")
def try_rollout(collection: str, *, canary: float, shadow: float) -> Operation[models.TryRolloutResponse, Rollout]:
    """Sets in which live searches a rollout takes part."""
    return Operation(
        "ModelService/TryRollout",
        models.TryRolloutRequest(collection=collection, canary=canary, shadow=shadow),
        models.TryRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
    )


@messages.checking("the request")
def promote_rollout(collection: str, *, drop_missing: bool) -> Operation[models.PromoteRolloutResponse, Rollout]:
    """Promotes a rollout. Not repeatable: the second attempt would find none under way."""
    return Operation(
        "ModelService/PromoteRollout",
        models.PromoteRolloutRequest(collection=collection, drop_missing=drop_missing),
        models.PromoteRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
        repeatable=False,
    )


@messages.checking("the request")
def abort_rollout(collection: str) -> Operation[models.AbortRolloutResponse, Rollout]:
    """Ends a rollout."""
    return Operation(
        "ModelService/AbortRollout",
        models.AbortRolloutRequest(collection=collection),
        models.AbortRolloutResponse,
        lambda response: answers.read_rollout(response.rollout),
        repeatable=False,
    )


@messages.checking("the request")
def rollback(collection: str) -> Operation[models.RollbackResponse, Origin]:
    """Makes the kept generation answer again. Not repeatable: a second rollback would undo the first."""
    return Operation(
        "ModelService/Rollback",
        models.RollbackRequest(collection=collection),
        models.RollbackResponse,
        lambda response: answers.read_origin(response.origin),
        repeatable=False,
    )


@messages.checking("the request")
def retire_generation(collection: str) -> Operation[models.RetireGenerationResponse, Origin]:
    """Drops the generation that is kept for a rollback."""
    return Operation(
        "ModelService/RetireGeneration",
        models.RetireGenerationRequest(collection=collection),
        models.RetireGenerationResponse,
        lambda response: answers.read_origin(response.origin),
        repeatable=False,
    )


@messages.checking("the request")
def follow_model(collection: str, *, follow: bool) -> Operation[models.FollowModelResponse, Collection]:
    """Sets whether a collection follows new versions of its model."""
    return Operation(
        "ModelService/FollowModel",
        models.FollowModelRequest(collection=collection, follow=follow),
        models.FollowModelResponse,
        lambda response: answers.read_collection(response.collection),
    )


@messages.checking("the request")
def list_generations(collection: str) -> Operation[models.ListGenerationsResponse, tuple[Generation, ...]]:
    """Lists a collection's generations, present and past."""
    return Operation(
        "ModelService/ListGenerations",
        models.ListGenerationsRequest(collection=collection),
        models.ListGenerationsResponse,
        lambda response: tuple(answers.read_generation(one) for one in response.generations),
    )
