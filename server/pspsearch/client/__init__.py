"""The Python client of a pspsearch server. `Client` blocks and `AsyncClient` awaits; otherwise they are the same.

Put a folder in and search it:

>>> from pathlib import Path
>>> from pspsearch import Client
>>> from pspsearch.client import ItemInput
>>> with Client("127.0.0.1:8500") as client:
...     list(client.ingest(ItemInput(file.name, file) for file in Path("photographs").glob("*.jpg")))
...     print(client.search(Path("query.jpg"), limit=5).hits)

A query or an item's source is the `Path` of an image, its `bytes`, or a `Descriptor`; a query may also be an `ItemId`,
or a `Region` of an image.
The clients raise the errors of `pspsearch.errors` with the server's message, and two of their own: `ServerUnavailable`
and `ServerFailed`.
"""

from pspsearch.client.asynchronous.client import AsyncClient
from pspsearch.client.blocking.client import Client
from pspsearch.client.failures import ServerFailed, ServerUnavailable
from pspsearch.client.retries import Retries
from pspsearch.client.settings import Tls
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
    ItemId,
    ItemInput,
    ModelVersion,
    Origin,
    Query,
    Region,
    Rollout,
    SearchOptions,
    SearchResult,
    ServerStatus,
    Shares,
    Timing,
    Trial,
)
from pspsearch.domain import Area, CellPair

__all__ = [
    "Acknowledgement",
    "Area",
    "AsyncClient",
    "BatchResult",
    "CellPair",
    "Check",
    "Client",
    "Collection",
    "CollectionState",
    "Comparison",
    "Description",
    "Descriptor",
    "Explanation",
    "Generation",
    "Hit",
    "Item",
    "ItemId",
    "ItemInput",
    "ModelVersion",
    "Origin",
    "Query",
    "Region",
    "Retries",
    "Rollout",
    "SearchOptions",
    "SearchResult",
    "ServerFailed",
    "ServerStatus",
    "ServerUnavailable",
    "Shares",
    "Timing",
    "Tls",
    "Trial",
]
