"""Backup, restore and salvage of catalogs for the command line, which names no adapter itself."""

from pspsearch.catalog.backup import back_up, restore
from pspsearch.catalog.salvage import salvage

__all__ = ["back_up", "restore", "salvage"]
