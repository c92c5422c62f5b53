"""Copies of a catalog, and what is whole of a damaged one, for the command line: it names no adapter."""

from pspsearch.catalog.backup import back_up, restore
from pspsearch.catalog.salvage import salvage

__all__ = ["back_up", "restore", "salvage"]
