"""One network in OpenVINO, compiled twice: for one image on one core, and for one image on all of them."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspsearch.errors import ModelLoadFailed
from pspsearch.model.contract import CELLS, DESCRIPTOR, Contract
from pspsearch.openvino import ov

Prepare = Callable[[NDArray[np.uint8]], None]
"""Writes the pixels of one image into the place that it is given; raises what is wrong with the image."""

Answer = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""A descriptor and, if asked for, the descriptors of the cells."""


class Network:
    """A network that several threads may use at the same time: each has an inference request of its own."""

    def __init__(self, path: Path, contract: Contract) -> None:
        """Raises ModelLoadFailed if the file cannot be read, or does not keep the contract."""
        try:
            self._load(path, contract)
        except RuntimeError as error:
            raise ModelLoadFailed(f"{path} cannot be run as a network: {error}") from error

    def _load(self, path: Path, contract: Contract) -> None:
        shape = contract.shape
        core = ov.Core()
        model = core.read_model(path)
        model.reshape([1, shape.height_px, shape.width_px, 3])
        _check_outputs(path, model, contract)
        can_halve = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = "bf16" if contract.precision == "bf16" and can_halve else "f32"
        cores = str(len(os.sched_getaffinity(0)))
        hints = {"INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False}
        alone = core.compile_model(model, "CPU", {**hints, "PERFORMANCE_HINT": "LATENCY"})
        # Pinned, because the kernel let two streams share a core for a fifth of the time while another core idled.
        streams = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": cores, "ENABLE_CPU_PINNING": True}
        together = core.compile_model(model, "CPU", {**hints, **streams})
        self._alone, self._turn = alone.create_infer_request(), threading.Lock()
        self._together, self._own = together, threading.local()
        # A first inference takes longer. And with it OpenVINO's binding looks up numpy's API: two threads that do that
        # at the same time can wait for one another for ever.
        _infer(self._alone, lambda place: place.fill(0), cells=bool(contract.cells))

    def describe(self, prepare: Prepare, *, cells: bool, on_all_cores: bool) -> Answer:
        """Describes the image that `prepare` decodes. `on_all_cores` is honoured for one image at a time."""
        if on_all_cores and self._turn.acquire(blocking=False):
            try:
                return _infer(self._alone, prepare, cells=cells)
            finally:
                self._turn.release()
        if not hasattr(self._own, "request"):
            self._own.request = self._together.create_infer_request()
        return _infer(self._own.request, prepare, cells=cells)


def _infer(request: ov.InferRequest, prepare: Prepare, *, cells: bool) -> Answer:
    prepare(request.get_input_tensor().data[0])
    request.infer(share_outputs=True)
    descriptor = np.array(request.get_tensor(DESCRIPTOR).data[0], np.float32)
    return descriptor, np.array(request.get_tensor(CELLS).data[0], np.float32) if cells else None


def _check_outputs(path: Path, model: ov.Model, contract: Contract) -> None:
    shapes = {name: output.get_partial_shape() for output in model.outputs for name in output.names}
    wanted = {DESCRIPTOR: [1, contract.dimension]}
    if contract.cells:
        wanted[CELLS] = [1, contract.cells, contract.dimension]
    for name, size in wanted.items():
        if name not in shapes or not shapes[name].compatible(ov.PartialShape(size)):
            raise ModelLoadFailed(f"{path} has {name} of {shapes.get(name)}, and its contract promises {size}")
