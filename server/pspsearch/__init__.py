"""pspsearch: find images by image."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pspsearch.client import AsyncClient as AsyncClient
    from pspsearch.client import Client as Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    """Imports the clients only when they are asked for: gRPC is slow to import, and not every part needs it."""
    if name not in __all__:
        raise AttributeError(f"module 'pspsearch' has no attribute {name!r}")
    from pspsearch import client

    return getattr(client, name)
