"""`pspsearch-build evaluate` on drawn pictures, with every kind of describer that needs no server."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2

from pspsearch.errors import PspsearchError
from pspsearch.model.contract import InputShape
from pspsearch_build.cli.evaluate import evaluate
from pspsearch_build.data.pictures import read_pictures
from pspsearch_build.evaluation.describers import colour_histogram
from pspsearch_build.evaluation.measuring import Task, measure, select_labels
from pspsearch_build.evaluation.sources import open_describer
from pspsearch_build.export import export_onnx
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.network.spec import NetworkSpec

COLOURS = {"blue": (30, 40, 220), "green": (40, 200, 60), "grey": (128, 128, 128), "red": (220, 30, 30)}
SIDE_PX = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of noisy colours, in two splits."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    lines = ["path,label,split"]
    for label, colour in COLOURS.items():
        for number in range(6):
            samples = np.clip(np.array(colour) + random.normal(0, 12, (SIDE_PX, SIDE_PX, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(samples).save(root / f"{label}{number}.png")
            lines.append(f"{label}{number}.png,{label},{'train' if number % 2 else 'test'}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


def run(*arguments: str | Path) -> str:
    """What the command prints; its errors are raised."""
    result = CliRunner().invoke(evaluate, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_histogram_tells_colours_apart(folder: Path) -> None:
    """The histogram finds everything, and every figure says so."""
    task = Task(read_pictures(f"{folder}/list.csv@test"), read_pictures(f"{folder}/list.csv@train"))
    described = 0

    def advance(count: int) -> None:
        nonlocal described
        described += count

    evaluation = measure(colour_histogram(), task, advance)

    assert described == 24
    figures = {name: one.mean for name, one in evaluation.estimates().items()}
    assert figures == {
        "R@1": 1,
        "R@5": 1,
        "R@10": 1,
        "P@10": pytest.approx(0.3),
        "mAP": 1,
        "R-precision": 1,
        "kNN accuracy": 1,
        "softmax accuracy": 1,
    }
    assert evaluation.verification.area == 1
    assert evaluation.verification.equal_error_rate == 0
    assert (np.diag(evaluation.classifications["kNN"].confusion) == 3).all()
    assert (evaluation.hits[:, :3] // 3 == np.arange(12)[:, None] // 3).all()
    assert evaluation.gains_over(evaluation)["mAP"].high == 0


def test_page_holds_everything(folder: Path, tmp_path: Path) -> None:
    """The page has every figure of the table, curves that parse, and pictures that decode, each with its caption."""
    html, table = tmp_path / "page.html", tmp_path / "out.json"
    printed = run(
        *("hsv", "hsv", "--queries", f"{folder}/list.csv@test", "--gallery", f"{folder}/list.csv@train"),
        *("--html", html, "--json", table),
    )
    page = html.read_text()

    cells = re.findall(r"<td>(.*?)</td>", page)
    assert len(cells) == 2 * len(re.findall(r"<tr>", page)) - 2
    assert all(cell in printed for cell in cells)
    svgs = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(svgs) == 3 + 2
    assert all(ElementTree.fromstring(svg).tag.endswith("svg") for svg in svgs)  # noqa: S314 - our own text
    pictures = re.findall(r'<img src="data:image/jpeg;base64,(.*?)" alt="(.*?)"', page)
    assert len(pictures) == 2 * (8 + 4) * (1 + 10)
    for content, words in pictures:
        picture = Image.open(BytesIO(base64.b64decode(content)))
        colour = COLOURS[words.rpartition(": ")[2]]
        assert np.asarray(picture).mean(axis=(0, 1)) == pytest.approx(colour, abs=12)  # noise, clipped, and JPEG
    assert not re.search(r"(src|href)=.(?!data:|#)", page)


def test_groups_are_judged_apart(tmp_path: Path) -> None:
    """Dark tall busy pictures all look alike; light wide plain ones have a class that their colour tells.

    The first query has no other picture of its class, and is in no group.
    """
    kinds = [  # size, and the colours of even and odd columns
        ((SIDE_PX, 2 * SIDE_PX), [((0, 0, 0), (28, 28, 28))] * 2),
        ((SIDE_PX, SIDE_PX), [((128, 128, 128), (138, 138, 138))] * 2),
        ((2 * SIDE_PX, SIDE_PX), [((255, 200, 200),) * 2, ((200, 255, 200),) * 2]),
    ]
    for number in range(64):
        label = f"class{number % 2}" if number else "alone"
        (width, height), colours = kinds[(number - 1) // 21 if number else 1]
        even, odd = colours[number % 2]
        columns = np.where(np.arange(width)[:, None] % 2 == 0, even, odd).astype(np.uint8)
        (tmp_path / "pictures" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.tile(columns, (height, 1, 1))).save(tmp_path / "pictures" / label / f"{number:02}.png")

    run("hsv", "hsv", "--queries", tmp_path / "pictures", "--json", tmp_path / "out.json", "--html", tmp_path / "page")

    groups = json.loads((tmp_path / "out.json").read_text())["groups"]
    assert [told["queries"] for told in groups.values()] == [21] * 7
    assert groups["tall"] == groups["dark"] == groups["busy"]
    assert groups["wide"] == groups["light"] == groups["plain"]
    assert groups["tall"]["R@1"] == groups["square"]["R@1"] == [0, 0]
    assert groups["wide"]["R@1"] == [1, 1]
    assert "<th>tall, R@1, 21 queries</th><td>0.000</td>" in (tmp_path / "page").read_text()


def test_page_shows_what_got_better_and_worse(folder: Path, tmp_path: Path) -> None:
    """The queries that changed most are shown with the hits of both describers; unchanged queries are not shown."""
    torch.manual_seed(0)
    network = build_network(NetworkSpec(input=InputShape(SIDE_PX, SIDE_PX), width=32, dimension=128))
    Checkpoint(network).save(tmp_path / "net.safetensors")
    pictures = ("--queries", f"{folder}/list.csv@test", "--html", tmp_path / "page")

    run("hsv", f"checkpoint:{tmp_path}/net.safetensors", *pictures)
    page = (tmp_path / "page").read_text()
    better, worse = (re.split(f"<h2>What got {word} from", page)[1].split("<h2>")[0] for word in ("better", "worse"))
    rows = [re.findall(r'<figure class="(\w+)"><img src="(.*?)"', row) for row in worse.split('<div class="row">')[1:]]

    assert 'class="row"' not in better  # the histogram finds all
    assert len(rows) == 2 * 4
    for before, after in zip(rows[::2], rows[1::2], strict=True):
        assert before[0] == after[0]  # the query
        assert [kind for kind, _ in before[1:3]] == ["right", "right"]  # both others of its class
        assert [kind for kind, _ in after[1:3]] != ["right", "right"]


def test_every_form_of_a_network_is_evaluated(folder: Path, tmp_path: Path) -> None:
    """A checkpoint answers like its ONNX file in both runtimes and as a version; the JSON holds what is printed."""
    torch.manual_seed(0)
    network = build_network(NetworkSpec(input=InputShape(SIDE_PX, SIDE_PX), width=32, dimension=128))
    Checkpoint(network).save(tmp_path / "net.safetensors")
    version = tmp_path / "models/small/3"
    version.mkdir(parents=True)
    export_onnx(network, version / "model.onnx", Precision.FP16)
    save_file(mobilenet_v2().state_dict(), tmp_path / "weights.safetensors")
    spellings = [
        f"checkpoint:{tmp_path}/net.safetensors",
        f"onnx:{version}/model.onnx",
        f"openvino:{version}/model.onnx",
        f"version:{version}",
        f"average:{tmp_path}/weights.safetensors",
        "hsv",
    ]

    printed = run(*spellings, "--queries", f"{folder}/list.csv@test", "--json", tmp_path / "out.json")

    told = json.loads((tmp_path / "out.json").read_text())
    assert told["queries"]["pictures"] == 12
    assert told["gallery"] is None
    assert [one["dimension"] for one in told["describers"]] == [128, 128, 128, 128, 1280, 512]
    names = [one["name"] for one in told["describers"]]
    assert names[0] == "net.safetensors"
    assert names[3].startswith("small/3, openvino")
    assert names[4:] == ["mobilenet_v2, average pooling", "HSV histogram"]
    for one in told["describers"]:
        assert f"{one['measures']['mAP']['mean']:.3f}" in printed
        assert one["latency_ms"] > 0
    paths = [folder / "red0.png", folder / "blue1.png"]
    rows = [open_describer(spelling).describe(paths, lambda _: None) for spelling in spellings[:4]]
    for other in rows[1:]:
        assert (np.einsum("nd,nd->n", rows[0], other) > 0.99).all()  # bf16 against fp32
    for spelling in [*spellings, f"gem:{tmp_path}/weights.safetensors"]:
        lengths = np.linalg.norm(open_describer(spelling).describe(paths, lambda _: None), axis=1)
        assert lengths == pytest.approx(1, abs=1e-5)  # float32


def test_classes_can_be_split_in_two(folder: Path) -> None:
    """The halves share no class and omit none; a class is in the same half of queries and gallery."""
    pictures = read_pictures(f"{folder}/list.csv")

    odd, even = (select_labels(pictures, which, pictures.labels) for which in ("odd", "even"))

    assert (odd.labels, even.labels) == (("green", "red"), ("blue", "grey"))
    printed = run(
        "hsv", "--queries", f"{folder}/list.csv@test", "--gallery", f"{folder}/list.csv@train", "--classes", "odd"
    )
    assert "6 of" in printed
    assert "2 classes" in printed


@pytest.mark.parametrize(
    ("describer", "sentence"),
    [
        ("resnet", "'resnet' is no describer; these are: checkpoint:FILE, onnx:FILE"),
        ("hsv:8", "'hsv:8' is no describer"),
        ("onnx:", "'onnx:' is no describer"),
        ("onnx:nowhere.onnx", "nowhere.onnx: there is no such ONNX file"),
        ("checkpoint:nowhere", "nowhere"),
        ("version:nowhere/1", "nowhere/1 is no model version"),
        ("average:nowhere", "nowhere"),
    ],
)
def test_unknown_describer_is_a_sentence(folder: Path, describer: str, sentence: str) -> None:
    """The error comes before anything is described."""
    with pytest.raises(PspsearchError, match=sentence):
        run(describer, "--queries", folder / "list.csv")


def test_task_without_answers_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    """A picture that cannot be read is named, too."""
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    (tmp_path / "x/1.png").write_bytes((folder / "red0.png").read_bytes())
    (tmp_path / "y/2.png").write_bytes((folder / "red1.png").read_bytes())

    with pytest.raises(PspsearchError, match="no query has a picture of its own class to find"):
        run("hsv", "--queries", tmp_path)
    (tmp_path / "y/2.png").write_bytes(b"no picture")
    with pytest.raises(PspsearchError, match=r"2\.png cannot be used"):
        run("hsv", "--queries", tmp_path)
