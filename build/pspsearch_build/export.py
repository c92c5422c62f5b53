"""Exports a network as ONNX: pixels in, unit descriptors out, any batch size.

The same network gives the same bytes. The FP16 file is strongly typed, because TensorRT 11 takes the precision from
the file alone: weights and activations of backbone, pyramid and fusion are FP16; the input's cast and normalisation
and the whole head are FP32.
"""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch

from pspsearch.model.contract import CELLS, DESCRIPTOR, PIXELS
from pspsearch_build.atomic_file import replacing
from pspsearch_build.errors import WeightsMismatch
from pspsearch_build.network.batch_norm import fold_batch_norms
from pspsearch_build.network.centred_stem import centre_stem
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.network.onnx_facts import OnnxFacts, Precision, read_onnx_facts, write_onnx_facts
from pspsearch_build.network.spec import NetworkSpec
from pspsearch_build.network.weights import load_weights

OPSET = 17


def export_onnx(
    network: DescriptorNetwork, path: Path, precision: Precision, provenance: Mapping[str, str] | None = None
) -> None:
    """Writes the network as it answers in eval mode, atomically; leaves the network itself unchanged.

    Input: `pixels` uint8 [batch, height_px, width_px, 3]. Outputs, FP32: `descriptor` [batch, dimension] and, if the
    spec has cells, `cells` [batch, cells, dimension]. The file's metadata holds the spec, the precision and the
    provenance (`read_onnx_facts`).
    """
    with replacing(path) as temporary:
        _trace(_prepare(network, precision), temporary)
        model = onnx.load(temporary)
        _declare_sizes(model, network.spec)
        write_onnx_facts(model, OnnxFacts(network.spec, precision, provenance or {}))
        onnx.checker.check_model(model, full_check=True)
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def read_exported(path: Path) -> DescriptorNetwork:
    """Reads back the network that `export_onnx` wrote, prepared in the same way; its weights have the file's names."""
    facts = read_onnx_facts(path)
    network = _prepare(build_network(facts.spec), facts.precision)
    weights = network.state_dict()
    named = {one.name: one for one in onnx.load(path).graph.initializer if one.name in weights}
    tensors = {name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for name, one in named.items()}
    try:
        load_weights(network, tensors, path)
    except WeightsMismatch as error:
        raise WeightsMismatch(f"{error}; if an earlier release wrote the file, export the network again") from error
    return network


def _prepare(network: DescriptorNetwork, precision: Precision) -> DescriptorNetwork:
    """A copy for inference, rounded if asked. It folds BatchNorm and centres the stem in FP32, before rounding."""
    prepared = copy.deepcopy(network).cpu().float().eval()
    prepared.segmentation = None
    fold_batch_norms(prepared)
    centre_stem(prepared.trunk.backbone)
    if precision is Precision.FP16:
        prepared.trunk.half()
    return prepared


def _declare_sizes(model: onnx.ModelProto, spec: NetworkSpec) -> None:
    """Declares the outputs' sizes: the exporter loses them when a batch is split and joined."""
    sizes = {DESCRIPTOR: [spec.dimension], CELLS: [spec.cell_count, spec.dimension]}
    for output in model.graph.output:
        for dimension, size in zip(output.type.tensor_type.shape.dim[1:], sizes[output.name], strict=True):
            dimension.dim_value = size


def _trace(network: DescriptorNetwork, path: Path) -> None:
    spec = network.spec
    pixels = torch.zeros(1, spec.input.height_px, spec.input.width_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, but needs only torch and onnx; the new one needs onnxscript.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # The warning is about the amounts of SAME padding, which every runtime folds when it loads the file.
        warnings.filterwarnings("ignore", message="Constant folding - Only steps=1", category=UserWarning)
        torch.onnx.export(
            network,
            (pixels,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[PIXELS],
            output_names=list(spec.outputs),
            dynamic_axes={name: {0: "batch"} for name in (PIXELS, *spec.outputs)},
        )
