"""The ablation in docs/ablation.md: one factor at a time around the default, with three seeds each.

python build/recipes/ablation.py LISTS OUT [VARIANT...]

LISTS is what make_lists.py wrote, with the ImageNet weights beside the lists. The backbone stays frozen, so that the
whole ablation takes only hours on two cores: only the part after it differs. Networks learn from grocery's train split
and are judged by its val split against train, and by classes of Tiny-ImageNet that none of them learns. The test split
is not touched. OUT gets a JSON for every variant and seed. Existing ones are not made again, and all of them go into
the table that is printed at the end.
"""

import contextlib
import json
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.data.pictures import PictureSet, read_pictures
from pspsearch_build.evaluation.bootstrap import estimate, estimate_difference
from pspsearch_build.evaluation.describers import Describer
from pspsearch_build.evaluation.measuring import Task
from pspsearch_build.evaluation.retrieval import Descriptors, rank, rank_leaving_one_out
from pspsearch_build.evaluation.sources import open_describer
from pspsearch_build.export import export_onnx
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.network.spec import FusionName, HeadName, NetworkSpec, Padding
from pspsearch_build.training.fine_tuning import fine_tune
from pspsearch_build.training.run_folder import RunFolder
from pspsearch_build.training.settings import TrainingSettings

SEEDS = (0, 1, 2)
ROUNDS = 5
ALL_BLOCKS = 19
HALF = (0.5, 0.5, 0.5)
DEFAULT = NetworkSpec(
    cells=False,
    padding=Padding.SAME,
    mean=HALF,
    std=HALF,
)
AVERAGE = replace(DEFAULT, fusion=FusionName.NONE, head=HeadName.PARTS, bins=(1,))
VARIANTS: dict[str, tuple[str, NetworkSpec]] = {
    "default": ("", DEFAULT),
    "average": ("average pooling, no pyramid", AVERAGE),
    "gem": ("GeM, no pyramid", replace(AVERAGE, head=HeadName.GEM)),
    "weighted": ("weighted parts of the backbone's map, no fusion", replace(AVERAGE, bins=DEFAULT.bins)),
    "both": ("weighted parts and GeM of the backbone's map, no fusion", replace(DEFAULT, fusion=FusionName.NONE)),
    "sum_concat": ("fusion sum_concat", replace(DEFAULT, fusion=FusionName.SUM_CONCAT)),
    "dilated": ("fusion dilated", replace(DEFAULT, fusion=FusionName.DILATED)),
    "no_shortcut": ("without the shortcut", replace(DEFAULT, shortcut=False)),
    "parts_head": ("head parts", replace(DEFAULT, head=HeadName.PARTS)),
    "gem_head": ("head GeM", replace(DEFAULT, head=HeadName.GEM)),
    "width_512": ("fused map 512 wide", replace(DEFAULT, width=512)),
    "dim_128": ("128 dimensions", replace(DEFAULT, dimension=128)),
    "dim_512": ("512 dimensions", replace(DEFAULT, dimension=512)),
    "px_224": ("224 px", replace(DEFAULT, input=InputShape(224, 224))),
    "px_288": ("288 px", replace(DEFAULT, input=InputShape(288, 288))),
    "crop": ("crop instead of squash", replace(DEFAULT, input=InputShape(192, 192, Fit.CROP))),
    "pad": ("pad instead of squash", replace(DEFAULT, input=InputShape(192, 192, Fit.PAD))),
    "stride_8": ("output stride 8", replace(DEFAULT, output_stride=8)),
}


Judged = dict[str, dict[str, list[float]]]
"""For every task and every measure, one value per query."""


@dataclass(frozen=True)
class Ablation:
    """Where the ablation reads and writes."""

    lists: Path
    out: Path

    def run(self, name: str, seed: int) -> None:
        """Trains and judges one variant with one seed, unless its file exists."""
        path = self.out / f"{name}-{seed}.json"
        if path.is_file():
            return
        began = time.monotonic()
        with TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            fine_tune(self._settings(name, seed), run, lambda _, __: None, lambda _: None)
            trained = self._judge(run.best)
            figures = {"trained": trained}
            if seed == SEEDS[0]:
                figures["start"] = self._judge(run.start)
        path.write_text(json.dumps(figures) + "\n")
        print(name, seed, f"{time.monotonic() - began:.0f} s", _means(trained), flush=True)

    def weigh(self, names: Iterable[str]) -> None:
        """Measures what a picture costs.

        It uses untrained networks, because the cost does not depend on the weights, and measures them in turns, because
        a machine's speed varies.
        """
        picture = read_pictures(f"{self.lists / 'grocery.csv'}@val").pictures[0].path
        with contextlib.ExitStack() as stack:
            networks = {name: stack.enter_context(_served(build_network(VARIANTS[name][1]))) for name in names}
            rounds = [
                {name: describer.latency_ms(picture) for name, (describer, _) in networks.items()}
                for _ in range(ROUNDS)
            ]
            for name, (describer, size_bytes) in networks.items():
                cost = {
                    "ms": float(np.median([one[name] for one in rounds])),
                    "GFLOP": describer.gflop,
                    "MB": size_bytes / 1e6,
                }
                (self.out / f"{name}-cost.json").write_text(json.dumps(cost) + "\n")

    def tabulate(self) -> str:
        """A Markdown table with a row per variant that has run; intervals are over queries, of the mean over seeds."""
        columns = (
            "",
            "start R@1",
            "R@1",
            "mAP",
            "mAP over the default",
            "other pictures R@1",
            "ms",
            "GFLOP",
            "MB",
            "seeds",
        )
        lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        usual = self._read("default")
        for name, (words, _) in VARIANTS.items():
            runs = self._read(name)
            if runs:
                cost = json.loads((self.out / f"{name}-cost.json").read_text())
                cells = [words or "the default", *self._cells(runs, usual, cost), str(len(runs))]
                lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def _cells(self, runs: list[dict[str, Any]], usual: list[dict[str, Any]], cost: dict[str, float]) -> Iterator[str]:
        yield f"{_over_seeds([run for run in runs if 'start' in run], 'start', 'grocery', 'R@1').mean():.3f}"
        yield f"{estimate(_over_seeds(runs, 'trained', 'grocery', 'R@1'))}"
        precisions = _over_seeds(runs, "trained", "grocery", "mAP")
        yield f"{estimate(precisions)}"
        if runs == usual or not usual:
            yield ""
        else:
            yield f"{estimate_difference(precisions, _over_seeds(usual, 'trained', 'grocery', 'mAP')):+}"
        yield f"{estimate(_over_seeds(runs, 'trained', 'others', 'R@1'))}"
        yield from (f"{cost[name]:.{digits}f}" for name, digits in (("ms", 1), ("GFLOP", 2), ("MB", 1)))

    def _read(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.out.glob(f"{name}-[0-9]*.json"))]

    def _settings(self, name: str, seed: int) -> TrainingSettings:
        raw: dict[str, Any] = {
            "steps": 120,
            "batch_size": 32,
            "validate_every": 120,
            "seed": seed,
            "start": {"weights": str(self.lists / "mobilenet_v2_imagenet.safetensors"), "pictures": 1024},
            "network": json.loads(VARIANTS[name][1].to_json()),
            "optimiser": {"frozen_blocks": ALL_BLOCKS, "warm_up_steps": 10},
            "source": [{"name": "grocery", "pictures": f"{self.lists / 'grocery.csv'}@train"}],
            "loss": [{"name": "normalised_softmax"}],
        }
        return msgspec.convert(raw, TrainingSettings)

    def _judge(self, checkpoint: Path) -> Judged:
        grocery, tiny = self.lists / "grocery.csv", self.lists / "tiny.csv"
        with _served(Checkpoint.load(checkpoint).network) as (describer, _):

            def describe(pictures: PictureSet) -> Descriptors:
                return describer.describe([one.path for one in pictures.pictures], lambda _: None)

            task = Task(read_pictures(f"{grocery}@val"), gallery := read_pictures(f"{grocery}@train"))
            found = rank(describe(task.queries), task.number(task.queries), describe(gallery), task.number(gallery))
            others = read_pictures(f"{tiny}@watched")
            kept = rank_leaving_one_out(describe(others), others.numbers)
        return {
            name: {"R@1": list(map(float, ranks.recall_at(1))), "mAP": list(map(float, ranks.average_precision()))}
            for name, ranks in (("grocery", found), ("others", kept))
        }


@contextlib.contextmanager
def _served(network: DescriptorNetwork) -> Generator[tuple[Describer, int]]:
    """The network in OpenVINO, as it is served, and the size of its file."""
    with TemporaryDirectory() as folder:
        onnx = Path(folder, "model.onnx")
        export_onnx(network, onnx, Precision.FP16)
        yield open_describer(f"openvino:{onnx}"), onnx.stat().st_size


def _over_seeds(runs: list[dict[str, Any]], when: str, task: str, measure: str) -> NDArray[np.float64]:
    """The mean over the seeds, for every query."""
    return np.mean([run[when][task][measure] for run in runs], axis=0, dtype=np.float64)


def _means(judged: Judged) -> dict[str, float]:
    return {
        f"{task} {name}": round(float(np.mean(values)), 3)
        for task, measures in judged.items()
        for name, values in measures.items()
    }


if __name__ == "__main__":
    lists, out, *chosen = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    ablation = Ablation(Path(lists), Path(out))
    for seed in SEEDS:
        for name in chosen or VARIANTS:
            ablation.run(name, seed)
    ablation.weigh(chosen or VARIANTS)
    print(ablation.tabulate())
