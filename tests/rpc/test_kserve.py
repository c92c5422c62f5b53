"""Triton's protocol on the search server, called by Triton's own client."""

import asyncio
import queue
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.json_format import MessageToDict
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from pspsearch.domain import Generation
from pspsearch.errors import BrokenModel, InvalidRequest
from pspsearch.rpc.kserve_tensors import most_bytes, read_options, read_queries
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import DIMENSION, VERSION
from tests.servers.rollout_place import Place, picture, reach
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, item, open_api, query

MODEL = "search.default"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with twenty pictures, of which every second one is red."""
    async with open_api() as api:
        await api.fill(
            *(
                item(f"item-{number}", picture(number), f'{{"red": {str(number % 2 == 0).lower()}}}')
                for number in range(20)
            )
        )
        yield api


@pytest.fixture
def client(api: Api) -> Iterator[triton.InferenceServerClient]:
    """Triton's blocking client."""
    with triton.InferenceServerClient(api.server.address) as client:
        yield client


def images(*contents: bytes) -> triton.InferInput:
    """A batch of images as an input."""
    tensor = triton.InferInput("IMAGE", [len(contents), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[content] for content in contents], np.object_))
    return tensor


def points(rows: NDArray[np.float32]) -> triton.InferInput:
    """A batch of descriptors as an input."""
    tensor = triton.InferInput("DESCRIPTOR", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


def boxes(*rows: tuple[float, float, float, float]) -> triton.InferInput:
    """A batch of boxes as an input."""
    tensor = triton.InferInput("BOX", [len(rows), 4], "FP32")
    tensor.set_data_from_numpy(np.array(rows, np.float32))
    return tensor


async def infer(
    client: triton.InferenceServerClient, *tensors: triton.InferInput, **options: Any
) -> triton.InferResult:
    """Sends one request."""
    return await asyncio.to_thread(client.infer, MODEL, [*tensors], **options)


def ids(result: triton.InferResult) -> list[list[str]]:
    """The ids of each query's hits."""
    array = result.as_numpy("IDS")
    assert array is not None
    return [[id_.decode() for id_ in row] for row in array]


def scores(result: triton.InferResult) -> NDArray[np.float32]:
    """The scores of each query's hits."""
    array = result.as_numpy("SCORES")
    assert array is not None
    return array


async def refuse(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[str, str]:
    """Sends a request that must be refused, and returns the code and the sentence."""
    with pytest.raises(InferenceServerException) as refused:
        await asyncio.to_thread(call, *arguments, **options)
    return refused.value.status().removeprefix("StatusCode."), refused.value.message()


async def search(api: Api, image: bytes, **options: Any) -> list[searches.Hit]:
    """Searches by the server's own protocol."""
    request = searches.SearchRequest(query=query(image=image), options=searches.SearchOptions(**options))
    return list((await api.search.Search(request)).hits)


async def test_a_collection_is_a_model(client: triton.InferenceServerClient) -> None:
    """It answers what Triton's clients ask before they send a request."""

    def ask() -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.is_model_ready(MODEL, "1")
        assert not client.is_model_ready(MODEL, "2")
        assert not client.is_model_ready("search.birds")
        assert not client.is_model_ready("default")
        assert client.get_server_metadata().name == "pspsearch"
        metadata = client.get_model_metadata(MODEL)
        assert (metadata.name, list(metadata.versions)) == (MODEL, ["1"])
        assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
            ("IMAGE", "BYTES", [-1, 1]),
            ("DESCRIPTOR", "FP32", [-1, DIMENSION]),
            ("BOX", "FP32", [-1, 4]),
        ]
        config = client.get_model_config(MODEL).config
        assert config.max_batch_size == 256
        assert [(one.name, list(one.dims), one.optional) for one in config.input] == [
            ("IMAGE", [1], True),
            ("DESCRIPTOR", [DIMENSION], True),
            ("BOX", [4], True),
        ]
        assert config.parameters["fingerprint"].string_value == VERSION.contract.fingerprint
        index = client.get_model_repository_index()
        assert [(one.name, one.version, one.state) for one in index.models] == [(MODEL, "1", "READY")]

    await asyncio.to_thread(ask)


async def test_images_are_searched_for_in_batches(api: Api, client: triton.InferenceServerClient) -> None:
    """The hits are the same as by the server's own protocol."""
    result = await infer(client, images(picture(3), picture(8)), request_id="seven", parameters={"limit": 4})

    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "1", "seven")
    assert answer.parameters["fingerprint"].string_param == VERSION.contract.fingerprint
    for row, near, number in zip(ids(result), scores(result), (3, 8), strict=True):
        hits = await search(api, picture(number), limit=4)
        assert row == [hit.id for hit in hits]
        assert near == pytest.approx([hit.score for hit in hits])
    single = await infer(client, images(picture(3)), parameters={"limit": 4})
    assert ids(single) == ids(result)[:1]


async def test_each_image_may_have_a_box(api: Api, client: triton.InferenceServerClient) -> None:
    """The hits are the same as by the server's own protocol. A box around everything is none."""
    whole, part = (0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.5, 0.9)

    for inputs in ((images(TEMPLE, TEMPLE), boxes(whole, part)), (boxes(whole, part), images(TEMPLE, TEMPLE))):
        result = await infer(client, *inputs)
        for row, near, box in zip(
            ids(result),
            scores(result),
            (None, resources.Box(left=part[0], top=part[1], right=part[2], bottom=part[3])),
            strict=True,
        ):
            answer = await api.search.Search(searches.SearchRequest(query=query(image=TEMPLE, box=box)))
            assert row == [hit.id for hit in answer.hits]
            assert near == pytest.approx([hit.score for hit in answer.hits])
        assert scores(result)[0] != pytest.approx(scores(result)[1])


async def test_parameters_are_those_of_a_search(client: triton.InferenceServerClient) -> None:
    """These are limit, offset, filter and minimum score; unknown parameters are refused."""
    usual = ids(await infer(client, images(picture(3))))[0]
    assert len(usual) == 10
    assert ids(await infer(client, images(picture(3)), parameters={"limit": 3, "offset": 2}))[0] == usual[2:5]
    red = await infer(client, images(picture(3)), parameters={"limit": 20, "filter": "red = true"})
    assert {int(id_.removeprefix("item-")) % 2 for id_ in ids(red)[0]} == {0}
    best = await infer(client, images(picture(3)), parameters={"min_score": 0.99})
    assert "item-3" in ids(best)[0]
    assert len(ids(best)[0]) < 10
    assert ids(await infer(client, images(picture(3)), priority=3, timeout=10**7))[0] == usual

    for parameters, words in (
        ({"limt": 3}, "there is no parameter 'limt'"),
        ({"limit": "three"}, "the parameter limit is a whole number"),
        ({"limit": 0}, "limit must be 1 to 1000, not 0"),
        ({"filter": 3}, "the parameter filter is text"),
        ({"min_score": "high"}, "the parameter min_score is a number"),
        ({"min_score": 7.0}, "min_score is a score"),
        ({"filter": "red ="}, "filter"),
    ):
        code, message = await refuse(client.infer, MODEL, [images(picture(3))], parameters=parameters)
        assert code == "INVALID_ARGUMENT"
        assert words in message


async def test_shorter_rows_end_in_nothing(client: triton.InferenceServerClient) -> None:
    """They end in empty ids and NaN. A batch without any hit has no columns."""
    result = await infer(client, images(picture(3), TEMPLE), parameters={"min_score": 0.999})
    row, other = ids(result)
    assert (row, other) == (["item-3"], [""])
    assert np.isnan(scores(result)).tolist() == [[False], [True]]

    none = await infer(client, images(FLOWER, TEMPLE), parameters={"min_score": 1.0})
    assert [list(output.shape) for output in none.get_response().outputs] == [[2, 0], [2, 0]]


async def test_descriptors_are_searched_for_in_their_space(api: Api, client: triton.InferenceServerClient) -> None:
    """The fingerprint or the version names the space; the server never guesses it."""
    described = await api.search.Describe(searches.DescribeRequest(image=picture(3)))
    rows = np.array([described.descriptor.values], np.float32)
    named = {"parameters": {"fingerprint": VERSION.contract.fingerprint}}

    assert ids(await infer(client, points(rows), **named))[0][0] == "item-3"
    assert ids(await infer(client, points(rows), model_version="1"))[0][0] == "item-3"
    code, message = await refuse(client.infer, MODEL, [points(rows)])
    assert (code, "fingerprint" in message) == ("INVALID_ARGUMENT", True)
    other = {"fingerprint": "0123456789abcdef"}
    code, message = await refuse(client.infer, MODEL, [points(rows)], parameters=other)
    assert (code, "0123456789abcdef" in message) == ("FAILED_PRECONDITION", True)


async def test_outputs_are_those_that_were_asked_for(client: triton.InferenceServerClient) -> None:
    """If none is requested, both are returned."""
    only = await infer(client, images(picture(3)), outputs=[triton.InferRequestedOutput("SCORES")])
    assert [output.name for output in only.get_response().outputs] == ["SCORES"]
    code, message = await refuse(
        client.infer, MODEL, [images(picture(3))], outputs=[triton.InferRequestedOutput("ANSWERS")]
    )
    assert (code, "'ANSWERS'" in message) == ("INVALID_ARGUMENT", True)
    code, _ = await refuse(
        client.infer, MODEL, [images(picture(3))], outputs=[triton.InferRequestedOutput("IDS", class_count=2)]
    )
    assert code == "INVALID_ARGUMENT"


def test_answer_is_counted_however_its_limit_is_written() -> None:
    """Triton's clients write whole numbers in one type, others may write them in another."""
    asked = [request() for _ in range(3)]
    asked[0].parameters["limit"].int64_param = 1000
    asked[1].parameters["limit"].uint64_param = 1000

    counted = [most_bytes(one) for one in asked]

    assert counted[0] == counted[1] == 100 * counted[2]


def request(name: str = "IMAGE", datatype: str = "BYTES", shape: tuple[int, ...] = (1, 1), *raw: bytes) -> Any:
    """A request that Triton's client would not make."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    return service_pb2.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=raw)


NO_INPUT = service_pb2.ModelInferRequest(model_name=MODEL)
TWO_INPUTS = request()
TWO_INPUTS.inputs.append(request().inputs[0])
TWO_IMAGES_ONE_BOX = request("IMAGE", "BYTES", (2, 1), bytes(8), bytes(16))
TWO_IMAGES_ONE_BOX.inputs.append(request("BOX", "FP32", (1, 4)).inputs[0])
BOX_ALONE = request("BOX", "FP32", (1, 4), bytes(16))
BOX_WITHOUT_NUMBERS = request("IMAGE", "BYTES", (1, 1), bytes(4), bytes(12))
BOX_WITHOUT_NUMBERS.inputs.append(request("BOX", "FP32", (1, 4)).inputs[0])
EMPTY_BOX = request("IMAGE", "BYTES", (1, 1), bytes(4), bytes(16))
EMPTY_BOX.inputs.append(request("BOX", "FP32", (1, 4)).inputs[0])
ELSEWHERE = request()
ELSEWHERE.inputs[0].parameters["shared_memory_region"].string_param = "ring"
TWICE = request()
for output in ("IDS", "SCORES", "IDS"):
    TWICE.outputs.add(name=output)
FINGERPRINTED = request("DESCRIPTOR", "FP32", (1, DIMENSION), bytes(4 * DIMENSION - 4))
FINGERPRINTED.parameters["fingerprint"].string_param = VERSION.contract.fingerprint


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (NO_INPUT, "the input is IMAGE, perhaps with BOX, or DESCRIPTOR, and got none"),
        (TWO_INPUTS, "and got IMAGE, IMAGE"),
        (request("PIXELS"), "and got PIXELS"),
        (BOX_ALONE, "and got BOX"),
        (TWO_IMAGES_ONE_BOX, "2 images, 1 boxes"),
        (BOX_WITHOUT_NUMBERS, "the shape of BOX promises 4 numbers, and there are 3"),
        (EMPTY_BOX, "the box 0,0,0,0 is empty"),
        (ELSEWHERE, "not from shared memory"),
        (request("IMAGE", "UINT8"), "IMAGE is BYTES of the shape [1 to 256, 1], not UINT8 [1, 1]"),
        (request("IMAGE", "BYTES", (1,)), "not BYTES [1]"),
        (request("IMAGE", "BYTES", (257, 1)), "not BYTES [257, 1]"),
        (request("IMAGE", "BYTES", (0, 1)), "not BYTES [0, 1]"),
        (request("IMAGE", "BYTES", (-1, 1)), "not BYTES [-1, 1]"),
        (request("IMAGE", "BYTES", (1, 1), b"\x01\x00\x00\x00a", b""), "1 inputs, 2 contents"),
        (request("IMAGE", "BYTES", (1, 1), b"\x01\x00"), "ends in the middle of a length"),
        (request("IMAGE", "BYTES", (1, 1), b"\xff\xff\xff\xffab"), "ends in the middle of an image"),
        (request("IMAGE", "BYTES", (2, 1), b"\x01\x00\x00\x00a"), "promises 2 images, and there are 1"),
        (request("IMAGE", "BYTES", (2, 1), bytes(4 * 3 + 1)), "promises 2 images, and there are more"),
        (TWICE, "the output IDS is named twice"),
        (request("IMAGE", "BYTES", (1, 1)), "promises 1 images, and there are 0"),
        (request("DESCRIPTOR", "FP32", (1, 3)), f"of the shape [1 to 256, {DIMENSION}], not FP32 [1, 3]"),
        (request("DESCRIPTOR", "FP32", (1, DIMENSION), b"abc"), "ends in the middle of a number"),
        (FINGERPRINTED, f"promises {DIMENSION} numbers, and there are {DIMENSION - 1}"),
        (request("IMAGE", "BYTES", (1, 1), b"\x02\x00\x00\x00no"), "image"),
    ],
)
async def test_requests_that_make_no_sense_are_refused(
    api: Api, asked: service_pb2.ModelInferRequest, words: str
) -> None:
    """Each gets its own sentence, even if a client would not have sent it."""
    stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(api.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ModelInfer(asked)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (refused.value.details() or "")


MANY_SIZES = request("IMAGE", "BYTES", tuple(range(300_000)))
MANY_INPUTS = service_pb2.ModelInferRequest(inputs=[service_pb2.ModelInferRequest.InferInputTensor()] * 100_000)
MANY_NUMBERS = request("DESCRIPTOR", "FP32", (1, DIMENSION))
MANY_NUMBERS.inputs[0].contents.fp32_contents.extend(range(300_000))
MANY_PARAMETERS = request()
for number in range(30_000):
    MANY_PARAMETERS.parameters[f"{number}"].int64_param = number


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (MANY_SIZES, r"BYTES \[0, 1, 2, 3, 4, 5, 6, 7\]"),
        (MANY_INPUTS, "the input is IMAGE"),
        (MANY_NUMBERS, f"promises {DIMENSION} numbers, and there are 300000"),
        (MANY_PARAMETERS, "there is no parameter"),
    ],
)
def test_what_is_too_much_is_not_read_before_it_is_refused(asked: service_pb2.ModelInferRequest, words: str) -> None:
    """Requests are read in the event loop, so reading one would hold up other calls."""
    generation = Generation(1, 1, "model", 1, VERSION.contract.fingerprint, DIMENSION)
    tracemalloc.start()

    with pytest.raises(InvalidRequest, match=words):
        _ = read_options(asked), read_queries(asked, generation)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100_000


async def test_contents_may_be_in_fields(api: Api) -> None:
    """Clients without raw contents send them like this."""
    stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(api.channel)
    asked = request()
    asked.inputs[0].contents.bytes_contents.append(picture(3))
    answer = await stub.ModelInfer(asked)
    assert answer.raw_output_contents[0][4:10] == b"item-3"

    described = await api.search.Describe(searches.DescribeRequest(image=picture(3)))
    asked = request("DESCRIPTOR", "FP32", (1, DIMENSION))
    asked.inputs[0].contents.fp32_contents.extend(described.descriptor.values)
    asked.model_version = "1"
    assert (await stub.ModelInfer(asked)).raw_output_contents == answer.raw_output_contents


async def test_what_is_not_there_is_not_found(client: triton.InferenceServerClient) -> None:
    """This is so for models, versions, and everything else that Triton can do."""
    for name, number in (("search.birds", ""), ("default", ""), ("search.", ""), (MODEL, "2"), (MODEL, "new")):
        code, _ = await refuse(client.infer, name, [images(picture(3))], model_version=number)
        assert code == "NOT_FOUND"
        code, _ = await refuse(client.get_model_config, name, number)
        assert code == "NOT_FOUND"
    code, _ = await refuse(client.get_inference_statistics, "search.birds")
    assert code == "NOT_FOUND"
    code, _ = await refuse(client.load_model, MODEL)
    assert code == "UNIMPLEMENTED"


async def test_one_bad_query_fails_its_request(client: triton.InferenceServerClient) -> None:
    """Triton does the same; the server's own BatchSearch answers the other queries."""
    code, _ = await refuse(client.infer, MODEL, [images(picture(3), b"no image")])
    assert code == "INVALID_ARGUMENT"


async def test_requests_may_overlap(client: triton.InferenceServerClient) -> None:
    """The client's asynchronous call is used for this."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def ask() -> list[tuple[Any, Any]]:
        for number in range(8):
            client.async_infer(
                MODEL,
                [images(picture(number))],
                lambda result, error: answers.put((result, error)),
                request_id=str(number),
            )
        return [answers.get(timeout=10) for _ in range(8)]

    for result, error in await asyncio.to_thread(ask):
        assert error is None
        assert ids(result)[0][0] == f"item-{result.get_response().id}"


async def test_a_stream_answers_in_order_and_goes_on_after_an_error(client: triton.InferenceServerClient) -> None:
    """Each answer and each error has the id of its request."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def ask() -> list[tuple[Any, Any]]:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(12):
            content = b"no image" if number == 5 else picture(number)
            client.async_stream_infer(MODEL, [images(content)], request_id=str(number))
        found = [answers.get(timeout=10) for _ in range(12)]
        client.stop_stream()
        return found

    found = await asyncio.to_thread(ask)

    assert [error is not None for _, error in found] == [number == 5 for number in range(12)]
    assert "image" in found[5][1].message()
    for number, (result, error) in enumerate(found):
        if error is None:
            assert result.get_response().id == str(number)
            assert ids(result)[0][0] == f"item-{number}"


async def test_statistics_are_those_of_the_calls(client: triton.InferenceServerClient) -> None:
    """They are counted by model and version, with the measured time of each stage."""
    assert not (await asyncio.to_thread(client.get_inference_statistics)).model_stats
    for _ in range(3):
        await infer(client, images(picture(3), picture(4)))
    await refuse(client.infer, MODEL, [images(b"no image")])

    (known,) = (await asyncio.to_thread(client.get_inference_statistics, MODEL, "1")).model_stats
    assert (known.name, known.version, known.inference_count, known.execution_count) == (MODEL, "1", 6, 3)
    stats = known.inference_stats
    assert (stats.success.count, stats.fail.count) == (3, 1)
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert all(part.count == 3 for part in parts)
    assert min(stats.compute_input.ns, stats.compute_infer.ns) > 0
    assert sum(part.ns for part in parts) == stats.success.ns
    assert not (await asyncio.to_thread(client.get_inference_statistics, MODEL, "2")).model_stats
    everything = MessageToDict(await asyncio.to_thread(client.get_inference_statistics))
    assert len(everything["modelStats"]) == 1


async def test_models_come_and_go_with_collections(api: Api, client: triton.InferenceServerClient) -> None:
    """Their statistics come and go with them."""
    wanted = collections.CreateCollectionRequest(collection=resources.Collection(name="birds"))
    await api.collections.CreateCollection(wanted)
    assert await asyncio.to_thread(client.is_model_ready, "search.birds")
    await asyncio.to_thread(client.infer, "search.birds", [images(picture(3))])
    assert (await asyncio.to_thread(client.get_inference_statistics)).model_stats

    await api.collections.DeleteCollection(collections.DeleteCollectionRequest(name="birds"))

    assert not await asyncio.to_thread(client.is_model_ready, "search.birds")
    assert not (await asyncio.to_thread(client.get_inference_statistics)).model_stats


async def test_a_version_that_is_named_is_the_one_that_answers() -> None:
    """This is so even if a rollout answers the caller otherwise, and after that version was promoted."""
    place = Place(None)
    async with place.open() as api:
        await api.fill(*(item(f"item-{number}", picture(number)) for number in range(20)))
        await api.models.StartRollout(models.StartRolloutRequest(canary=1))
        await reach(api, models.ROLLOUT_STAGE_READY)
        with triton.InferenceServerClient(api.server.address) as client:
            tried = await infer(client, images(picture(3)))
            assert tried.get_response().model_version == "2"
            pinned = await infer(client, images(picture(3)), model_version="1")
            assert pinned.get_response().model_version == "1"

            await api.models.PromoteRollout(models.PromoteRolloutRequest())
            code, message = await refuse(client.infer, MODEL, [images(picture(3))], model_version="1")
            assert (code, message) == ("NOT_FOUND", "search.default answers in version 2, and not in '1'")
            api.server.versions[2].failure = BrokenModel("it answers with nonsense")
            code, _ = await refuse(client.infer, MODEL, [images(picture(3))])
            assert code == "INTERNAL"
