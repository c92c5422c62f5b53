"""Makes the shipped model: the mean of three runs of default_model.toml that differ in their seed.

python build/recipes/default_model.py LISTS OUT

LISTS is what make_lists.py wrote, with the recipes and the weights beside the lists. OUT gets the three runs,
model.safetensors and model.onnx. All runs begin with the start that the first one makes. The recipe takes an hour on
two cores; restarted, it continues from the last 50 steps that it finished. At the end it prints R@1 and mAP of the
model on every validation of the recipe, and how far each is above its floor.
"""

import sys
from pathlib import Path

import msgspec

from pspsearch_build.evaluation.describers import PixelDescriber, of_outputs
from pspsearch_build.evaluation.sources import open_describer
from pspsearch_build.export import export_onnx
from pspsearch_build.forms import torch_form
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.training.blending import average
from pspsearch_build.training.fine_tuning import Figures, fine_tune
from pspsearch_build.training.run_folder import RunFolder
from pspsearch_build.training.settings import StartSettings, TrainingSettings, read_settings
from pspsearch_build.training.validation import gains, read_tasks, validate

SEEDS = (0, 1, 2)


def train(settings: TrainingSettings, out: Path) -> Checkpoint:
    """The mean of the networks that the runs end with. Validations do not influence where a run ends."""
    runs = [RunFolder(out / f"seed{seed}") for seed in SEEDS]
    settings = msgspec.structs.replace(settings, validation=(), floor="", validate_every=50)
    for seed, run in zip(SEEDS, runs, strict=True):
        print(f"seed {seed}")
        fine_tune(msgspec.structs.replace(settings, seed=seed), run, tell, lambda _: None)
        settings = msgspec.structs.replace(settings, start=StartSettings(checkpoint=str(runs[0].start)), network={})
    return average([Checkpoint.load(run.best) for run in runs])


def judge(settings: TrainingSettings, model: Checkpoint) -> None:
    """Prints every figure, and how far it is above its floor."""
    tasks, form = read_tasks(settings.validation), torch_form(model.network)
    figures = validate(PixelDescriber("the model", model.network.spec.input, of_outputs(form.run)), tasks)
    floor = validate(open_describer(settings.floor), tasks) if settings.floor else figures
    for name, gain in zip(floor, gains(figures, floor), strict=True):
        print(f"{name:40} {figures[name]:.3f} {gain:+.3f}")


def tell(step: int, told: Figures) -> None:
    """Prints a line for every tenth step."""
    if step % 10 == 0:
        print(f"step {step}: loss {told['loss']:.3f}", flush=True)


if __name__ == "__main__":
    lists, out = map(Path, sys.argv[1:])
    settings = read_settings(lists / "default_model.toml")
    model = train(settings, out)
    model.save(out / "model.safetensors")
    export_onnx(model.network, out / "model.onnx", Precision.FP16, model.provenance)
    judge(settings, model)
