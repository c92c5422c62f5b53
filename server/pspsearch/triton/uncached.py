"""Keeps the Python of Triton's Python backend from reading or writing compiled files in a model repository.

A compiled file beside a model's program is no part of what was published, and Python would run it instead of the
program wherever its time and size fit. The backend's Python ignores every PYTHON* variable, so it is given a copy of
this file among its packages (`Bundle.assemble_python`), which may import the standard library only.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from types import CodeType


class UncachedLoader(SourceFileLoader):
    """Compiles the source each time, whatever compiled files there are."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the source, and of nothing else."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def read_sources_only(root: str) -> None:
    """From now on Python takes from the folders under `root` what their sources say, and writes nothing there."""
    real_root = os.path.realpath(root)

    def find(path: str) -> FileFinder:
        if os.path.commonpath((real_root, os.path.realpath(path))) != real_root:
            raise ImportError(f"{path} is not in {root}")
        return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (UncachedLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, find)
