"""Reads searches from the tensors of KServe v2 requests, and writes hits as tensors."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2

from pspsearch.domain import Generation
from pspsearch.errors import InvalidRequest
from pspsearch.images.box import Box, part
from pspsearch.query import MAX_LIMIT, MAX_QUERIES, DescriptorQuery, Hit, ImageQuery, Options, Query
from pspsearch.rpc.messages import prepare_filter, read_filter

IMAGE, DESCRIPTOR, BOX = "IMAGE", "DESCRIPTOR", "BOX"
"""The inputs: encoded images, perhaps each with a box of fractions, or descriptors of the collection's space."""

IDS, SCORES = "IDS", "SCORES"
"""The outputs. Each has one row per query; rows with fewer hits are padded with empty ids and NaN."""

FINGERPRINT = "fingerprint"
"""The parameter that names the space of descriptors: in a model's configuration, a request and an answer."""

_IGNORED = {
    *("priority", "timeout", "sequence_id", "sequence_start", "sequence_end"),
    "triton_enable_empty_final_response",
}
"""Triton's own parameters that a search ignores. Any other unknown parameter is refused."""

_Tensor = service_pb2.ModelInferRequest.InferInputTensor

_USUAL = Options()
_SIDES = 4
"""A box has left, top, right and bottom."""
_LENGTH = struct.Struct("<I")
_HIT_BYTES = 512
"""The most bytes of a hit: an id with its length, and a score."""


def write_config(name: str, generation: Generation) -> model_config_pb2.ModelConfig:
    """The model configuration, which Triton's clients read before they send a request."""
    config = model_config_pb2.ModelConfig(name=name, platform="pspsearch", max_batch_size=MAX_QUERIES)
    config.input.add(name=IMAGE, data_type=model_config_pb2.TYPE_STRING, dims=[1], optional=True)
    dims = [generation.dimension]
    config.input.add(name=DESCRIPTOR, data_type=model_config_pb2.TYPE_FP32, dims=dims, optional=True)
    config.input.add(name=BOX, data_type=model_config_pb2.TYPE_FP32, dims=[_SIDES], optional=True)
    config.output.add(name=IDS, data_type=model_config_pb2.TYPE_STRING, dims=[-1])
    config.output.add(name=SCORES, data_type=model_config_pb2.TYPE_FP32, dims=[-1])
    config.parameters[FINGERPRINT].string_value = generation.fingerprint
    return config


def write_metadata(name: str, generation: Generation) -> service_pb2.ModelMetadataResponse:
    """The model metadata: a short form of the configuration."""
    tensor = service_pb2.ModelMetadataResponse.TensorMetadata
    return service_pb2.ModelMetadataResponse(
        name=name,
        versions=[str(generation.version)],
        platform="pspsearch",
        inputs=[
            tensor(name=IMAGE, datatype="BYTES", shape=[-1, 1]),
            tensor(name=DESCRIPTOR, datatype="FP32", shape=[-1, generation.dimension]),
            tensor(name=BOX, datatype="FP32", shape=[-1, _SIDES]),
        ],
        outputs=[
            tensor(name=IDS, datatype="BYTES", shape=[-1, -1]),
            tensor(name=SCORES, datatype="FP32", shape=[-1, -1]),
        ],
    )


async def prepare_options(request: service_pb2.ModelInferRequest) -> None:
    """Must precede `read_options`: parses a long filter in another thread. Raises BadFilter."""
    if "filter" in request.parameters:
        await prepare_filter(request.parameters["filter"].string_param)


def read_options(request: service_pb2.ModelInferRequest) -> Options:
    """Reads the parameters `limit`, `offset`, `filter` and `min_score`, which mean the same as in SearchOptions.

    Raises InvalidRequest for any other parameter, or one of the wrong type.
    """
    given = _Parameters(request.parameters)
    options = Options(
        limit=given.whole("limit", _USUAL.limit),
        offset=given.whole("offset", _USUAL.offset),
        where=read_filter(given.text("filter")),
        min_score=given.number("min_score"),
    )
    given.text(FINGERPRINT)
    given.refuse_others()
    return options


def read_queries(request: service_pb2.ModelInferRequest, generation: Generation) -> list[Query]:
    """The queries in the inputs. Raises InvalidRequest if the tensors make no sense."""
    given = _inputs(request)
    if IMAGE in given:
        images = _images(*given[IMAGE])
        boxes = _boxes(*given[BOX], len(images)) if BOX in given else [None] * len(images)
        return [ImageQuery(image, box) for image, box in zip(images, boxes, strict=True)]
    tensor, raw = given[DESCRIPTOR]
    count = _rows(tensor, "FP32", generation.dimension)
    values = _floats(tensor, raw, count * generation.dimension)
    fingerprint = request.parameters[FINGERPRINT].string_param if FINGERPRINT in request.parameters else ""
    if not fingerprint and not request.model_version:
        raise InvalidRequest(
            f"descriptors need the parameter {FINGERPRINT} or a model_version, so that they meet none of another space"
        )
    space = fingerprint or generation.fingerprint
    return [DescriptorQuery(row, space) for row in values.reshape(count, generation.dimension)]


def _inputs(request: service_pb2.ModelInferRequest) -> dict[str, tuple[_Tensor, bytes | None]]:
    """The inputs by name, each with its raw content if it has one. They are those of one kind of query."""
    names = [tensor.name[:80] for tensor in request.inputs[:8]]
    if sorted(names) not in ([IMAGE], [BOX, IMAGE], [DESCRIPTOR]):
        raise InvalidRequest(
            f"the input is {IMAGE}, perhaps with {BOX}, or {DESCRIPTOR}, and got {', '.join(names) or 'none'}"
        )
    if any("shared_memory_region" in tensor.parameters for tensor in request.inputs):
        raise InvalidRequest("tensors are taken from the request only, not from shared memory")
    raws = request.raw_input_contents or [None] * len(names)
    if len(raws) != len(names):
        raise InvalidRequest(f"each input has one raw content, or none has: {len(names)} inputs, {len(raws)} contents")
    return dict(zip(names, zip(request.inputs, raws, strict=True), strict=True))


def write_answer(
    request: service_pb2.ModelInferRequest, hits: Sequence[Sequence[Hit]], generation: Generation
) -> service_pb2.ModelInferResponse:
    """The answer with the requested outputs, or with both if the request names none."""
    wanted = [output.name for output in request.outputs] or [IDS, SCORES]
    answer = service_pb2.ModelInferResponse(
        model_name=request.model_name, model_version=str(generation.version), id=request.id
    )
    answer.parameters[FINGERPRINT].string_param = generation.fingerprint
    answer.parameters["generation"].int64_param = generation.key
    width = max(map(len, hits))
    rows = [[*row, *[_NOTHING] * (width - len(row))] for row in hits]
    for name in wanted:
        answer.outputs.add(name=name, datatype="BYTES" if name == IDS else "FP32", shape=[len(hits), width])
        if name == IDS:
            ids = (hit.id.encode() for row in rows for hit in row)
            answer.raw_output_contents.append(b"".join(_LENGTH.pack(len(id_)) + id_ for id_ in ids))
        else:
            scores = np.clip(np.array([[hit.score for hit in row] for row in rows], "<f4"), -1, 1)  # NaN stays
            answer.raw_output_contents.append(scores.tobytes())
    return answer


def most_bytes(request: service_pb2.ModelInferRequest) -> int:
    """The most bytes that the answer can have, also for an invalid request."""
    rows = request.inputs[0].shape[0] if request.inputs and request.inputs[0].shape else 1
    try:
        limit = _Parameters(request.parameters).whole("limit", _USUAL.limit)
    except InvalidRequest:
        limit = 1  # the error that it gets is no longer than one hit
    return max(1, min(rows, MAX_QUERIES)) * max(1, min(limit, MAX_LIMIT)) * _HIT_BYTES


def check_outputs(request: service_pb2.ModelInferRequest) -> None:
    """Raises InvalidRequest if a requested output is unknown, named twice, or has parameters."""
    named = set[str]()
    for output in request.outputs:
        if output.name not in (IDS, SCORES):
            raise InvalidRequest(f"the outputs are {IDS} and {SCORES}, not {output.name[:80]!r}")
        if output.parameters:
            parameter = next(iter(output.parameters))
            raise InvalidRequest(f"outputs take no parameters, and {output.name} has {parameter[:80]}")
        if output.name in named:
            raise InvalidRequest(f"the output {output.name} is named twice")
        named.add(output.name)


_NOTHING = Hit("", float("nan"))


class _Parameters:
    """The parameters of a request. Reading one raises InvalidRequest if it has another type."""

    def __init__(self, parameters: Mapping[str, service_pb2.InferParameter]) -> None:
        self._given = parameters
        self._taken = set(_IGNORED)

    def whole(self, name: str, default: int) -> int:
        """Reads a whole number."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRequest(f"the parameter {name} is a whole number")
        return value

    def number(self, name: str) -> float | None:
        """Reads a number; None if the parameter is absent."""
        value = self._take(name)
        if isinstance(value, (bool, str)):
            raise InvalidRequest(f"the parameter {name} is a number")
        return value

    def text(self, name: str) -> str:
        """Reads a text; "" if the parameter is absent."""
        value = self._take(name)
        if not isinstance(value, str | None):
            raise InvalidRequest(f"the parameter {name} is text")
        return value or ""

    def refuse_others(self) -> None:
        """Raises InvalidRequest if a parameter was neither read nor is ignored."""
        unknown = next((name for name in self._given if name not in self._taken), None)
        if unknown is not None:
            raise InvalidRequest(f"there is no parameter {unknown[:80]!r}")

    def _take(self, name: str) -> float | str | None:
        self._taken.add(name)
        given = self._given.get(name)
        choice = None if given is None else given.WhichOneof("parameter_choice")
        return None if choice is None else getattr(given, choice)


def _images(tensor: _Tensor, raw: bytes | None) -> Sequence[bytes]:
    count = _rows(tensor, "BYTES", 1)
    images = tensor.contents.bytes_contents if raw is None else _split(raw, count)
    if len(images) != count:
        raise InvalidRequest(f"the shape of {IMAGE} promises {count} images, and there are {len(images)}")
    return images


def _boxes(tensor: _Tensor, raw: bytes | None, images: int) -> list[Box | None]:
    """One box for each image, or None if it is all of it."""
    count = _rows(tensor, "FP32", _SIDES)
    if count != images:
        raise InvalidRequest(f"each image has one box if any has: {images} images, {count} boxes")
    return [part(*row) for row in _floats(tensor, raw, count * _SIDES).reshape(count, _SIDES).tolist()]


def _rows(tensor: _Tensor, datatype: str, width: int) -> int:
    shape = tensor.shape
    if tensor.datatype != datatype or len(shape) != 2 or shape[1] != width or not 1 <= shape[0] <= MAX_QUERIES:
        raise InvalidRequest(
            f"{tensor.name} is {datatype} of the shape [1 to {MAX_QUERIES}, {width}], "
            f"not {tensor.datatype[:20]} {list(shape[:8])}"
        )
    return shape[0]


def _split(raw: bytes, count: int) -> list[bytes]:
    """Splits elements that each follow their length; stops at the first one too many."""
    parts: list[bytes] = []
    place = 0
    while place < len(raw):
        if len(parts) == count:
            raise InvalidRequest(f"the shape of {IMAGE} promises {count} images, and there are more")
        start = place + _LENGTH.size
        if start > len(raw):
            raise InvalidRequest(f"the raw content of {IMAGE} ends in the middle of a length")
        (length,) = _LENGTH.unpack_from(raw, place)
        place = start + length
        if place > len(raw):
            raise InvalidRequest(f"the raw content of {IMAGE} ends in the middle of an image")
        parts.append(raw[start:place])
    return parts


def _floats(tensor: _Tensor, raw: bytes | None, count: int) -> NDArray[np.float32]:
    """The `count` numbers of a tensor. Raises InvalidRequest for more or fewer, before converting any."""
    if raw is not None and len(raw) % 4:
        raise InvalidRequest(f"the raw content of {tensor.name} ends in the middle of a number")
    found = len(tensor.contents.fp32_contents) if raw is None else len(raw) // 4
    if found != count:
        raise InvalidRequest(f"the shape of {tensor.name} promises {count} numbers, and there are {found}")
    if raw is None:
        return np.array(tensor.contents.fp32_contents, np.float32)
    return np.frombuffer(raw, "<f4").astype(np.float32)
