"""Input that is made to break something: pictures, headers, requests."""

import asyncio
import concurrent.futures
import io
import multiprocessing
import os
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.descriptor import Descriptor as MessageDescriptor
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from PIL import Image

from pspsearch.client import AsyncClient, ItemInput
from pspsearch.errors import BadImage, InvalidRequest
from pspsearch.images.box import Box
from pspsearch.images.pixels import ImageLimits, decode_pixels
from pspsearch.model.contract import InputShape
from pspsearch.v1 import (
    collection_service_pb2,
    item_service_pb2,
    model_service_pb2,
    resources_pb2,
    search_service_pb2,
)
from tests.faults.place import Place, fingerprint_of, item
from tests.pictures import encode, load_photo

SLOWEST_S = 1.0
BOMB_MS, BOMB_BYTES = 5.0, 10 << 20
CHUNK = 1_000
PROCESSES = 2
FRESH = multiprocessing.get_context("spawn")
"""Processes that share nothing with this one, whose threads a fork would break."""
SHAPE = InputShape(32, 32)
LIMITS = ImageLimits(1 << 20, 1 << 20)


async def pictures(place: Place, times: int) -> str:
    """Real pictures, changed, cut, doubled and spliced, give pixels or a sentence; in processes that may die."""
    seeds = range(0, times, CHUNK)
    counts = Counter[str]()
    slowest_s, memory = 0.0, 0
    with concurrent.futures.ProcessPoolExecutor(PROCESSES, FRESH) as pool:
        for found, slow_s, used in pool.map(_decode_mutants, seeds, [min(CHUNK, times - seed) for seed in seeds]):
            counts += found
            slowest_s, memory = max(slowest_s, slow_s), max(memory, used)
    assert counts.total() == times
    assert set(counts) <= {"decoded", "refused"}, counts
    assert min(counts.values()) > times / 50, counts
    place.within(slowest_s, SLOWEST_S, "the slowest picture")
    assert memory < 1 << 30
    return (
        f"{times} pictures: {counts['refused']} refused, {counts['decoded']} decoded, no crash; "
        f"slowest {1000 * slowest_s:.0f} ms, memory {memory >> 20} MiB"
    )


def _decode_mutants(seed: int, count: int) -> tuple[Counter[str], float, int]:
    chance = random.Random(seed)
    originals = _originals()
    counts = Counter[str]()
    slowest_s = 0.0
    for _ in range(count):
        mutant = _mutate(chance, originals)
        started = time.perf_counter()
        try:
            box = Box(0.25, 0, 0.75, 0.5) if chance.random() < 0.5 else None
            pixels = decode_pixels(mutant, SHAPE, LIMITS, box=box)
            counts["decoded" if pixels.shape == (32, 32, 3) else "misshapen"] += 1
        except InvalidRequest:
            counts["refused"] += 1
        except Exception as error:  # this is what the fuzzing looks for
            counts[repr(error)] += 1
        slowest_s = max(slowest_s, time.perf_counter() - started)
    return counts, slowest_s, _peak_bytes()


def _peak_bytes() -> int:
    """The peak memory of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _originals() -> list[bytes]:
    photo = load_photo(64, 48)
    found = [encode(photo, name) for name in ("JPEG", "PNG", "WEBP")]
    for mode, kind, options in (
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("P", "PNG", {}),
        ("LA", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True}),
    ):
        file = io.BytesIO()
        photo.convert(mode).save(file, kind, **options)
        found.append(file.getvalue())
    deep = io.BytesIO()
    photo.convert("L").convert("I;16").save(deep, "PNG")
    found.append(deep.getvalue())
    exif = photo.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    photo.save(file, "JPEG", exif=exif)
    return [*found, file.getvalue()]


def _mutate(chance: random.Random, originals: list[bytes]) -> bytes:
    content = bytearray(chance.choice(originals))
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(content)) if chance.random() < 0.5 else chance.randrange(min(len(content), 200))
        match chance.randrange(7):
            case 0:
                content[place] ^= 1 << chance.randrange(8)
            case 1:
                content[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                content[place : place + 4] = struct.pack(">I", chance.choice((0, 1, 1 << 16, 1 << 31, (1 << 32) - 1)))
            case 3:
                del content[place : place + chance.randrange(1, 64)]
            case 4:
                content[place:place] = content[place : place + chance.randrange(1, 64)]
            case 5:
                other = chance.choice(originals)
                content[place : place + 64] = other[place : place + 64]
            case _:
                del content[max(1, place) :]
        if not content:
            content = bytearray(b"\0")
    if content.startswith(b"\x89PNG") and chance.random() < 0.5:
        return _with_checksums(bytes(content))
    return bytes(content)


def _with_checksums(png: bytes) -> bytes:
    """Repairs a PNG's checksums, so that the decoder meets the error further in."""
    fixed, place = bytearray(png[:8]), 8
    while place + 12 <= len(png):
        (size,) = struct.unpack_from(">I", png, place)
        body = png[place + 4 : place + 8 + min(size, 1 << 16)]
        fixed += png[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + size
    return bytes(fixed)


async def bombs(place: Place, times: int) -> str:
    """Small files that claim to be huge are refused before memory is allocated for them."""
    with concurrent.futures.ProcessPoolExecutor(1, FRESH) as pool:
        slowest_ms, grown = await asyncio.get_running_loop().run_in_executor(pool, _refuse_bombs, times)
    place.within(slowest_ms / 1000, BOMB_MS / 1000, "the slowest bomb")
    assert grown < BOMB_BYTES
    return f"{len(list(_bombs()))} bombs, {times} times: refused in {slowest_ms:.2f} ms at most, {grown >> 10} KiB more"


def _bombs() -> Iterator[bytes]:
    for side in (20_000, 65_535):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        yield _png(header, zlib.compress(bytes(1 << 20)))
    huge = struct.pack(">IIBBBBB", (1 << 31) - 1, (1 << 31) - 1, 16, 6, 0, 0, 1)
    yield _png(huge, b"")
    jpeg = bytearray(encode(load_photo(64, 48)))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    yield bytes(jpeg)
    yield b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff" * 6
    yield b"RIFF" + struct.pack("<I", 17) + b"WEBPVP8L" + struct.pack("<I", 5) + b"\x2f\xff\xff\xff\x0f"


def _png(header: bytes, data: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _refuse_bombs(times: int) -> tuple[float, int]:
    limits = ImageLimits(20 << 20, 50_000_000)
    files = list(_bombs())
    decode_pixels(encode(load_photo(64, 48)), SHAPE, limits)  # loads once what must not count for the bombs
    before = _peak_bytes()
    slowest_ms = 0.0
    for _ in range(times):
        for file in files:
            started = time.perf_counter()
            try:
                decode_pixels(file, SHAPE, limits)
            except BadImage:
                slowest_ms = max(slowest_ms, 1000 * (time.perf_counter() - started))
            else:
                raise AssertionError(f"a bomb was decoded: {file[:40]!r}")
    return slowest_ms, _peak_bytes() - before


SERVICES = [
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
    item_service_pb2.DESCRIPTOR.services_by_name["ItemService"],
    collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
]
METHODS = [method for service in SERVICES for method in service.methods if method.name != "WatchRollout"]
TEXTS = [
    *("", "default", "a", "../../etc/passwd", "..", "/", "a\0b", "a" * 600, "é" * 300, "%s%n", "'; DROP TABLE items"),
    *("a = 1", "NOT", "((((((((", "a:*", "a = 'x' OR", "(" * 5_000, "a.b.c.d = -1e999", "-" * 3_000, "colour"),
    *("null", "{}", '{"a":' * 500, "AAAA", "eyJhIjoxfQ==", "\u202e", "x" * 70_000),
]
USUAL = {"collection": "default", "id": "there", "filter": "colour:*"}
"""The usual values, so that requests pass the first checks."""
RARE = {"box": 0.85}
"""How often fields are left out with which most requests would not pass the first checks."""
NUMBERS = (0, 1, -1, 10, 255, 256, 1000, 1001, (1 << 31) - 1, -(1 << 31))
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e38, -1e38, float("nan"), float("inf"))
WRONG = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


async def requests(place: Place, times: int) -> str:
    """Random fields, and bytes that are no message, are each refused for what they are."""
    codes = Counter[str]()
    data = place.new_folder("requests")
    secret = place.folder / "outside"
    secret.write_text("not to be touched")
    files = {path.name for path in place.folder.iterdir()}
    with place.serve(data, "--log-level", "error") as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await _put_in(server.address)
            chances = [random.Random(seed) for seed in range(8)]
            async with asyncio.TaskGroup() as group:
                for chance in chances:
                    group.create_task(_send(channel, chance, times // len(chances), codes))
            left = [code for code in codes if code.split()[0] in {one.name for one in WRONG}]
            assert left == [], {code: codes[code] for code in left}
        assert server.process.poll() is None
    assert {path.name for path in place.folder.iterdir()} == files
    assert secret.read_text() == "not to be touched"
    assert sorted(path.name for path in data.iterdir()) == ["catalog.sqlite3", "indexes", "lock"]
    told = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    return f"{codes.total()} requests: {told}"


async def _put_in(address: str) -> None:
    async with AsyncClient(address) as client:
        fingerprint = await fingerprint_of(client)
        await client.upsert([item("there", 1, fingerprint), ItemInput("colour", PICTURE, {"colour": "red"})])


async def _send(channel: grpc.aio.Channel, chance: random.Random, count: int, codes: Counter[str]) -> None:
    sent = 0
    while sent < count:
        method = chance.choice(METHODS)
        request = _message(method.input_type, chance, 0)
        if method.name == "DeleteCollection" and cast(Any, request).name == "default":
            continue  # otherwise there would soon be nothing to ask about
        sent += 1
        content = request.SerializeToString()
        if chance.random() < 0.15:
            content = _garble(content, chance)
        path = f"/{method.containing_service.full_name}/{method.name}"
        call: Any
        if method.client_streaming:

            async def one(content: bytes = content) -> AsyncIterator[bytes]:
                yield content

            call = cast(Any, channel.stream_stream(path))(one(), timeout=20)
        else:
            call = cast(Any, channel.unary_unary(path))(content, timeout=20)
        try:
            if method.client_streaming:
                async for _ in call:
                    pass
            else:
                await call
            codes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            wrong = error.code() in WRONG
            codes[f"{code} {method.name} {error.details()} {content[:60]!r}" if wrong else code] += 1


def _garble(content: bytes, chance: random.Random) -> bytes:
    garbled = bytearray(content or b"\x0a")
    for _ in range(chance.choice((1, 3, 10))):
        garbled[chance.randrange(len(garbled))] = chance.randrange(256)
    return bytes(garbled) + os.urandom(chance.choice((0, 0, 5)))


def _message(kind: MessageDescriptor, chance: random.Random, depth: int) -> Message:
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if chance.random() < RARE.get(field.name, 0.35 if depth else 0.2):
            continue
        if field.is_repeated:
            values = [_value(field, chance, depth) for _ in range(chance.choice((1, 1, 2, 5)))]
            if field.message_type is None:
                getattr(message, field.name).extend(values)
            elif not field.message_type.GetOptions().map_entry:
                for value in values:
                    getattr(message, field.name).add().CopyFrom(value)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_value(field, chance, depth))
        else:
            setattr(message, field.name, _value(field, chance, depth))
    return message


def _value(field: FieldDescriptor, chance: random.Random, depth: int) -> Any:
    if field.name == "box" and chance.random() < 0.5:
        return resources_pb2.Box(right=0.5, bottom=1)
    if field.message_type is not None:
        return _message(field.message_type, chance, depth + 1) if depth < 5 else GetMessageClass(field.message_type)()
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.name in USUAL and chance.random() < 0.8:
            return USUAL[field.name]
        case FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return chance.choice((b"", b"\xff", PICTURE, PICTURE[:200], os.urandom(50)))
            return chance.choice(TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return chance.choice(FLOATS)
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return abs(chance.choice(NUMBERS[:-1]))
        case FieldDescriptor.CPPTYPE_ENUM:
            return chance.choice((0, 1, 2, 3, 77))
        case _:
            return chance.choice(NUMBERS)


PICTURE = encode(Image.new("RGB", (16, 16), (200, 10, 30)))
