"""Makes NVIDIA's Python bindings of TensorRT importable on a machine without TensorRT, to inspect but not to call.

The wheel of the bindings holds one extension module, which needs three libraries that no package index has. We copy it,
mark every symbol that it imports as weak, and link the names of the three libraries to the copy itself. Then the loader
finds everything, and only a call that would reach TensorRT fails.
"""

import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DYNAMIC_SYMBOLS, _GLOBAL, _WEAK, _UNDEFINED = 11, 1, 2, 0
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_LIBRARY = re.compile(rb"lib(?:nvinfer|nvonnxparser)\w*\.so\.\d+")

_DESCRIBE = """
import json, tensorrt

def describe(kind):
    members = {name: getattr(kind, name) for name in dir(kind)}
    return {
        "doc": kind.__doc__ or "",
        "values": sorted(getattr(kind, "__members__", {})),
        "methods": {name: m.__doc__ for name, m in members.items() if callable(m) and not isinstance(m, type)},
        "readable": {name: m.fget.__doc__ for name, m in members.items() if isinstance(m, property)},
        "writable": [name for name, m in members.items() if isinstance(m, property) and m.fset],
        "nested": {name: describe(m) for name, m in members.items() if isinstance(m, type) and name[0] != "_"},
    }

classes = {name: describe(kind) for name, kind in vars(tensorrt).items() if isinstance(kind, type)}
print(json.dumps({"version": tensorrt.__version__, "classes": classes}))
"""


@dataclass(frozen=True, slots=True)
class RealClass:
    """What a class of the bindings says about itself. Signatures are text, as pybind11 writes them."""

    doc: str
    values: list[str]
    methods: dict[str, str | None]
    readable: dict[str, str]
    writable: list[str]
    nested: dict[str, Any] = field(default_factory=dict[str, Any])


def installed_bindings() -> Path | None:
    """The folder of the installed wheel; None if it is missing or not made for Linux."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder if folder and (folder / "tensorrt.so").is_file() else None


def make_importable(bindings: Path, folder: Path) -> None:
    """Puts the copy into `folder` as the package `tensorrt`."""
    package = folder / "tensorrt"
    shutil.copytree(bindings, package, ignore=shutil.ignore_patterns("__pycache__"))
    module = package / "tensorrt.so"
    content = bytearray(module.read_bytes())
    _weaken(content)
    module.write_bytes(content)
    for library in set(_LIBRARY.findall(content)):
        (package / library.decode()).symlink_to(module.name)


def _weaken(elf: bytearray) -> None:
    """Marks the undefined symbols of a 64-bit little-endian ELF file weak, in place."""
    assert elf[:6] == b"\x7fELF\x02\x01"
    (sections,) = struct.unpack_from("<Q", elf, 0x28)
    (count,) = struct.unpack_from("<H", elf, 0x3C)
    for section in range(count):
        _, kind, _, _, start, size, *_ = _SECTION.unpack_from(elf, sections + section * _SECTION.size)
        if kind == _DYNAMIC_SYMBOLS:
            for symbol in range(start, start + size, _SYMBOL.size):
                _, info, _, defined_in, _, _ = _SYMBOL.unpack_from(elf, symbol)
                if defined_in == _UNDEFINED and info >> 4 == _GLOBAL:
                    elf[symbol + 4] = _WEAK << 4 | info & 0xF


def run_with(folder: Path, program: str) -> str:
    """Runs a Python program that imports the copy in `folder` and sees no GPU; returns what it prints."""
    path = os.pathsep.join([str(folder), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_classes(folder: Path) -> dict[str, RealClass]:
    """Every class of the bindings, by name."""
    described = json.loads(run_with(folder, _DESCRIBE))
    return {name: RealClass(**kind) for name, kind in described["classes"].items()}
