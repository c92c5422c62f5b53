"""OpenVINO without its telemetry: whoever needs OpenVINO imports it from here.

On its import, OpenVINO tells Google Analytics of it, from a forked copy of this process, and asks nobody. But a process
with threads must not be forked, and nobody's server may call anybody else. If the module that does it cannot be found,
OpenVINO does neither.
"""

import sys

sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType] - so an import of it fails

import openvino as ov  # noqa: E402 - only after the line above

__all__ = ["ov"]
