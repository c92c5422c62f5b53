"""The right that each method of the API takes, in one table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pspsearch.callers.access import Right
from pspsearch.domain import DEFAULT_COLLECTION

MODEL_PREFIX = "search."
"""What the model's name begins with under which callers who speak Triton's protocol know a collection."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The right that a call takes, and where."""

    right: Right
    collection: Callable[[Any], str | None]
    """Returns the collection that a request is about; None for the server as a whole."""


def _whole(_: object) -> None:
    return None


class _InCollection(Protocol):
    @property
    def collection(self) -> str: ...


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def _collection(request: _InCollection) -> str:
    return request.collection or DEFAULT_COLLECTION


def _name(request: _Named) -> str:
    return request.name or DEFAULT_COLLECTION


def _model(request: _Named) -> str:
    return request.name.removeprefix(MODEL_PREFIX)


def _model_or_all(request: _Named) -> str | None:
    return _model(request) or None


_INFER = Rule(Right.READ, lambda request: request.model_name.removeprefix(MODEL_PREFIX))

RULES: dict[str, Rule | None] = {
    "Search": Rule(Right.READ, _collection),
    "BatchSearch": Rule(Right.READ, _collection),
    "SearchStream": Rule(Right.READ, lambda request: _collection(request.request)),
    "Compare": Rule(Right.READ, _collection),
    "Describe": Rule(Right.READ, _collection),
    "Recommend": Rule(Right.READ, _collection),
    "Explain": Rule(Right.READ, _collection),
    "GetItem": Rule(Right.READ, _collection),
    "GetItemImage": Rule(Right.READ, _collection),
    "ListItems": Rule(Right.READ, _collection),
    "CountItems": Rule(Right.READ, _collection),
    "UpsertItems": Rule(Right.WRITE, _collection),
    "IngestItems": Rule(Right.WRITE, _collection),
    "DeleteItems": Rule(Right.WRITE, _collection),
    "CreateCollection": Rule(Right.ADMIN, lambda request: request.collection.name),
    "GetCollection": Rule(Right.READ, _name),
    "ListCollections": Rule(Right.READ, _whole),
    "DeleteCollection": Rule(Right.ADMIN, lambda request: request.name),
    "GetServerStatus": Rule(Right.READ, _whole),
    "ListModelVersions": Rule(Right.ADMIN, _whole),
    "StartRollout": Rule(Right.ADMIN, _collection),
    "GetRollout": Rule(Right.READ, _collection),
    "WatchRollout": Rule(Right.READ, _collection),
    "TryRollout": Rule(Right.ADMIN, _collection),
    "PromoteRollout": Rule(Right.ADMIN, _collection),
    "AbortRollout": Rule(Right.ADMIN, _collection),
    "Rollback": Rule(Right.ADMIN, _collection),
    "RetireGeneration": Rule(Right.ADMIN, _collection),
    "FollowModel": Rule(Right.ADMIN, _collection),
    "ListGenerations": Rule(Right.READ, _collection),
    "ServerLive": None,
    "ServerReady": None,
    "ServerMetadata": Rule(Right.READ, _whole),
    "ModelReady": Rule(Right.READ, _model),
    "ModelMetadata": Rule(Right.READ, _model),
    "ModelConfig": Rule(Right.READ, _model),
    "ModelStatistics": Rule(Right.READ, _model_or_all),
    "RepositoryIndex": Rule(Right.READ, _whole),
    "ModelInfer": _INFER,
    "ModelStreamInfer": _INFER,
}
"""A method with None is for anybody who can connect: whether the server lives and serves. Its request is not read."""

ALWAYS_OPEN = {"ServerLive", "ServerReady", "ModelReady", "GetServerStatus"}
"""The methods that are answered before everything is loaded, and while the server drains."""
