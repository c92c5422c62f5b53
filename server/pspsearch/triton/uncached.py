"""Stops the Python of Triton's Python backend from reading or writing compiled files in a model repository.

A compiled file beside a model's program is not part of what was published, but Python would run it instead of the
program if its time and size fit. The backend's Python ignores every PYTHON* variable, so `bundle.assemble_python` puts
a copy of this file among its packages. This file may therefore import only the standard library.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from types import CodeType


class UncachedLoader(SourceFileLoader):
    """Compiles the source each time, and ignores compiled files."""

    def get_code(self, fullname: str) -> CodeType:
        """Returns the code of the source."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def read_sources_only(root: str) -> None:
    """From now on, makes imports from folders under `root` read only sources, and write nothing there."""
    real_root = os.path.realpath(root)

    def find(path: str) -> FileFinder:
        if os.path.commonpath((real_root, os.path.realpath(path))) != real_root:
            raise ImportError(f"{path} is not in {root}")
        return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (UncachedLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, find)
