"""The whole server in a process of its own: real Triton, real gRPC, real FAISS, a catalog on disk."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from pspsearch.client import Client, Descriptor, ItemId, ItemInput
from pspsearch.domain import Outcome
from pspsearch.errors import BadFilter, InvalidRequest, ModelMismatch, NotFound
from pspsearch.triton.process import BundledTriton
from tests.pictures import encode, load_photo
from tests.servers.search_server import SearchServer, serve, wait_for_sample

ROOT = Path(__file__).parents[2]
PICTURES = 12


def picture(number: int) -> bytes:
    """Returns windows of two photographs, each overlapping the next but one."""
    left, top = 30 * (number // 2), 8 * (number // 2)
    return encode(load_photo(number=number % 2).crop((left, top, left + 240, top + 240)))


@pytest.fixture(scope="module")
def server(triton: BundledTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchServer]:
    """One server with some pictures in `default`, for the tests that leave them there."""
    with serve(tmp_path_factory.mktemp("data"), triton.address) as server:
        with Client(server.address) as client:
            inputs = [
                ItemInput(f"p/{number}", picture(number), {"photo": number % 2, "number": number})
                for number in range(PICTURES)
            ]
            assert [given.outcome for given in client.upsert(inputs)] == [Outcome.CREATED] * PICTURES
        yield server


@pytest.fixture
def client(server: SearchServer) -> Iterator[Client]:
    """A connection to the server."""
    with Client(server.address) as client:
        yield client


def test_finds_the_picture_itself_and_then_its_neighbours(client: Client) -> None:
    """The same bytes score 1; overlapping windows of the same photograph come next."""
    result = client.search(picture(4), limit=3, return_attributes=True)

    assert result.hits[0].id == "p/4"
    assert result.hits[0].score == pytest.approx(1, abs=2e-3)  # fp16 descriptors, bf16 inference
    assert [hit.attributes and hit.attributes["photo"] for hit in result.hits] == [0, 0, 0]
    assert result.timing.inference_ms > 0
    assert result.origin.model == "pspnet"


def test_search_by_item_leaves_the_item_out(client: Client) -> None:
    """Filters, limits and ids work together."""
    result = client.search(ItemId("p/4"), filter="photo = 1 AND number > 3", limit=100)

    assert sorted(hit.id for hit in result.hits) == ["p/11", "p/5", "p/7", "p/9"]


def test_described_image_finds_its_item(client: Client) -> None:
    """A descriptor travels to the client and back; one of another space is refused."""
    described = client.describe(picture(7)).descriptor

    assert client.search(described, limit=1).hits[0].id == "p/7"
    with pytest.raises(ModelMismatch, match="describe the image anew"):
        client.search(Descriptor(described.values, "0123456789abcdef"))
    with pytest.raises(InvalidRequest, match="has 255 numbers"):
        client.search(Descriptor(described.values[:255], described.fingerprint))
    with pytest.raises(InvalidRequest, match="not finite"):
        client.search(Descriptor(np.full(256, np.nan, np.float32), described.fingerprint))


def test_other_calls_answer(client: Client) -> None:
    """Compare, recommend, batches, groups, folding, listing and counting, over the real thing."""
    assert client.compare(picture(2), ItemId("p/2"), threshold=0.99).same is True
    assert client.recommend([ItemId("p/0")], [ItemId("p/1")], limit=1).hits[0].id in {
        "p/2",
        "p/4",
        "p/6",
        "p/8",
        "p/10",
    }
    hits, refused = client.search_batch([ItemId("p/0"), b"no image"], limit=1).results
    assert not isinstance(hits, Exception)
    assert isinstance(refused, InvalidRequest)
    assert len(client.search(picture(0), group_by="photo").hits) == 2
    assert len(client.search(picture(0), fold_above=-1).hits) == 1
    assert [item.id for item in client.list(filter="number >= 10", page_size=1)] == ["p/10", "p/11"]
    assert client.count(filter="photo:*") == PICTURES
    assert client.get_image("p/3") == picture(3)


def test_hits_are_ordered_by_more_than_their_score(server: SearchServer, client: Client) -> None:
    """The command and the client send the same; the photographs of the other kind come first only where they may."""
    options = ["--id", "p/0", "--expand", "3", "--rerank", "100", "--diversity", "0.9", "--limit", "2"]
    command = [sys.executable, "-m", "pspsearch", "search", "--address", server.address, "--json", *options]

    said = subprocess.run(command, capture_output=True, text=True, check=True)
    same = client.search(ItemId("p/0"), expand=3, rerank=100, diversity=0.9, limit=2).hits
    likest = client.search(ItemId("p/0"), expand=3, rerank=100, limit=5).hits

    assert [hit["id"] for hit in json.loads(said.stdout)["hits"]] == [hit.id for hit in same]
    assert [int(hit.id[2:]) % 2 for hit in same] == [0, 1]
    assert [int(hit.id[2:]) % 2 for hit in likest] == [0] * 5
    with pytest.raises(InvalidRequest, match="rerank must be 0 to 300, not 301"):
        client.search(ItemId("p/0"), rerank=301)


def test_bad_requests_are_sentences(client: Client) -> None:
    """The client gets the class and the sentence that the server raised."""
    with pytest.raises(BadFilter, match="at character 9 of the filter it ends") as caught:
        client.search(ItemId("p/0"), filter="photo = ")
    assert caught.value.position == 8
    with pytest.raises(NotFound, match="there is no item 'nobody'"):
        client.search(ItemId("nobody"))
    with pytest.raises(NotFound, match="there is no collection 'nowhere'"):
        client.count(collection="nowhere")
    with pytest.raises(InvalidRequest, match="limit must be 1 to 1000, not 100000"):
        client.search(ItemId("p/0"), limit=100_000)
    (refused,) = client.upsert([ItemInput("x", picture(0)[:2000])])
    assert isinstance(refused.error, InvalidRequest)
    assert client.count() == PICTURES


def test_health_and_reflection_need_no_code_of_ours(server: SearchServer) -> None:
    """A client that knows only the standard services finds the API by reflection and calls it."""
    with grpc.insecure_channel(server.address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        health = check(health_pb2.HealthCheckRequest(service="pspsearch.v1.SearchService"))
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("pspsearch.v1.ItemService").FindMethodByName("CountItems")
        request = message_factory.GetMessageClass(method.input_type)()
        ask = channel.unary_unary(
            "/pspsearch.v1.ItemService/CountItems",
            type(request).SerializeToString,
            message_factory.GetMessageClass(method.output_type).FromString,
        )
        count = ask(json_format.ParseDict({"filter": "photo = 1"}, request))

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert json_format.MessageToDict(count) == {"count": str(PICTURES // 2)}


def test_everything_is_there_after_a_restart(triton: BundledTriton, tmp_path: Path) -> None:
    """Items, images, collections and answers survive; SIGTERM ends with code 0."""
    with serve(tmp_path, triton.address) as server, Client(server.address) as client:
        client.create_collection("others")
        client.upsert([ItemInput(f"p/{number}", picture(number)) for number in range(4)], collection="others")
        before = client.search(picture(2), collection="others").hits
    assert server.process.returncode == 0

    with serve(tmp_path, triton.address) as server, Client(server.address) as client:
        after = client.search(picture(2), collection="others").hits
        kept = client.get_image("p/3", collection="others")

    assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
    assert kept == picture(3)


def test_sample_is_put_in_beside_the_answers(triton: BundledTriton, tmp_path: Path) -> None:
    """A new server finds the balls at once; if it is stopped early, the rest comes at the next start."""
    with serve(tmp_path, triton.address, "--sample") as server, Client(server.address) as client:
        ball = client.get_image("ball-03/6", collection="sample")
        hits = client.search(ball, collection="sample", limit=6).hits
    assert server.process.returncode == 0

    with serve(tmp_path, triton.address, "--sample") as server, Client(server.address) as client:
        wait_for_sample(client)
        same = client.search(ball, collection="sample", limit=6).hits

    assert {hit.id for hit in hits} == {f"ball-03/{view}" for view in range(1, 7)}
    assert [hit.id for hit in same] == [hit.id for hit in hits]


def test_backup_while_writing_restores_elsewhere(triton: BundledTriton, tmp_path: Path) -> None:
    """The copy is one moment of the source, and answers as the source did."""
    data, copy, elsewhere = tmp_path / "data", tmp_path / "copy", tmp_path / "elsewhere"
    with serve(data, triton.address) as server, Client(server.address) as client:
        client.upsert([ItemInput(f"p/{number}", picture(number)) for number in range(6)])
        expected = client.search(picture(1)).hits
        command = [sys.executable, "-m", "pspsearch"]
        backup = subprocess.Popen([*command, "backup", str(data), str(copy)], stdout=subprocess.DEVNULL)
        written = 0
        while backup.poll() is None:
            client.upsert([ItemInput("later", attributes={"n": written})])
            written += 1
        assert backup.returncode == 0
    subprocess.run([*command, "restore", str(copy), str(elsewhere)], check=True, stdout=subprocess.DEVNULL)

    with serve(elsewhere, triton.address) as server, Client(server.address) as client:
        restored = client.search(picture(1)).hits
        assert client.get_image("p/5") == picture(5)

    assert [(hit.id, hit.score) for hit in restored] == [(hit.id, hit.score) for hit in expected]


def test_second_server_is_refused(server: SearchServer, triton: BundledTriton, tmp_path: Path) -> None:
    """A taken port and a data folder in use are one sentence each, exit code 1."""
    port = server.address.rpartition(":")[2]
    command = [sys.executable, "-m", "pspsearch", "serve", "--triton", triton.address, "--metrics-port", "0"]

    taken = subprocess.run(
        [*command, "--data", str(tmp_path), "--port", port], capture_output=True, text=True, check=False
    )

    assert taken.returncode == 1
    assert f"error: 127.0.0.1:{port} cannot be bound" in taken.stderr
    assert "Traceback" not in taken.stderr


def test_programs_of_the_manual_run(server: SearchServer, tmp_path: Path) -> None:
    """The manual's Python runs on a real server, in a folder with photographs, with our client and with Triton's."""
    pages = "".join((ROOT / page).read_text() for page in ("README.md", "docs/kserve.md"))
    programs = re.findall(r"^```python\n(.*?)^```$", pages, re.MULTILINE | re.DOTALL)
    (tmp_path / "photographs").mkdir()
    for number in range(3):
        (tmp_path / "photographs" / f"{number}.jpg").write_bytes(picture(number))
    (tmp_path / "a.jpg").write_bytes(picture(1))

    said: list[str] = []
    for program in programs:
        command = [sys.executable, "-c", program.replace("127.0.0.1:8500", server.address)]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        said.append(ran.stdout)
    with Client(server.address) as client:
        client.delete(filter="album:*")

    by_ours, by_tritons = said
    assert by_ours.split()[0] == "1.jpg"
    assert len(by_ours.splitlines()) == 3
    assert by_tritons.startswith("[[b'1.jpg' ")
    assert "inference_count: 1" in by_tritons


def test_import_of_a_folder_with_broken_files(server: SearchServer, tmp_path: Path) -> None:
    """The rest is imported, the broken ones are listed with their reason, and the exit code shows it."""
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for number in range(38):
        (tmp_path / "pictures" / "deep" / f"{number}.jpg").write_bytes(picture(number % PICTURES))
    (tmp_path / "pictures" / "cut.jpg").write_bytes(picture(0)[:3000])
    (tmp_path / "pictures" / "empty.png").write_bytes(b"")
    command = [sys.executable, "-m", "pspsearch", "import", "pictures", "--address", server.address]
    command += ["--collection", "imported", "--create"]

    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    with Client(server.address) as client:
        count = client.count(collection="imported")

    assert (ran.returncode, again.returncode, count) == (1, 1, 38)
    told = ran.stdout + ran.stderr
    assert "38 created" in told
    assert "2 refused" in told
    assert re.search(r"cut\.jpg.*truncated|cut\.jpg.*damaged", told)
    assert re.search(r"empty\.png.*is empty", told)
    assert "38 unchanged" in again.stdout + again.stderr
