"""`pspsearch-build train`."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pspsearch_build.data.pictures import PictureSet, read_pictures, write_list
from pspsearch_build.evaluation.describers import Describer
from pspsearch_build.evaluation.retrieval import Descriptors
from pspsearch_build.evaluation.sources import open_describer
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.training.blending import average, blend
from pspsearch_build.training.classifier import Classifier
from pspsearch_build.training.fine_tuning import Figures, fine_tune
from pspsearch_build.training.grouping import group_classes
from pspsearch_build.training.rewhitening import rewhiten
from pspsearch_build.training.run_folder import RunFolder
from pspsearch_build.training.settings import read_settings

_FILE = click.Path(path_type=Path)


@click.group()
def train() -> None:
    """Train a network; each stage can be used alone."""


@train.command("fine-tune")
@click.argument("settings", type=_FILE)
@click.option("--run", "folder", type=_FILE, required=True, help="The run's folder; a stopped run continues.")
def fine_tune_(settings: Path, folder: Path) -> None:
    """Train a network with the settings in SETTINGS, a TOML file.

    The folder will hold the best network so far (best.safetensors), the last checkpoint, the figures of every
    validation (figures.jsonl), and logs for TensorBoard.
    """
    read = read_settings(settings)
    run = RunFolder(folder)
    run.keep_settings(settings.read_text())
    columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        bar = progress.add_task("", total=read.last_step)

        def tell(step: int, told: Figures) -> None:
            progress.update(bar, completed=step, description=f"loss {told['loss']:.3f}")

        outcome = fine_tune(read, run, tell, lambda figures: console.print(_in_words(figures)))
    click.echo(f"{run.best}: {_in_words(outcome.figures)}")


@train.command("group-classes")
@click.argument("describer")
@click.argument("pictures")
@click.option("--groups", type=int, required=True, help="How many groups to make.")
@click.option("--out", type=_FILE, required=True, help="The CSV to write: the pictures with their group as class.")
def group_classes_(describer: str, pictures: str, groups: int, out: Path) -> None:
    """Group those classes of PICTURES that look alike to DESCRIBER.

    The list is another source for `fine-tune`, whose losses then learn the groups beside the classes. DESCRIBER and
    PICTURES are as for `evaluate`.
    """
    read = read_pictures(pictures)
    grouped = group_classes(read, _describe(open_describer(describer), read), groups)
    write_list(grouped, out)
    for label in grouped.labels:
        click.echo(label)


@train.command()
@click.argument("describer")
@click.argument("pictures")
@click.option("--out", type=_FILE, required=True, help="The layer, as a .safetensors.")
@click.option("--validation", metavar="PICTURES", help="Other pictures of the same classes, to measure the accuracy.")
def classify(describer: str, pictures: str, out: Path, validation: str | None) -> None:
    """Fit a softmax layer on top of DESCRIBER to name the classes of PICTURES.

    DESCRIBER and PICTURES are as for `evaluate`.
    """
    below, read = open_describer(describer), read_pictures(pictures)
    others = read_pictures(validation) if validation else read
    classifier = Classifier.fit(_describe(below, read), read)
    classifier.save(out)
    right = classifier.accuracy(_describe(below, others), others)
    click.echo(f"{right:.3f} of {others.name} named rightly, of {len(classifier.labels)} classes")


@train.command()
@click.argument("checkpoint", type=_FILE)
@click.argument("pictures")
@click.option("--out", type=_FILE, required=True, help="The new checkpoint, as a .safetensors.")
@click.option("--dimension", type=int, help="The new descriptors' dimension; by default the old one.")
@click.option("--shrinkage", default=1.0, show_default=True, help="0 whitens fully; more damps weak directions.")
@click.option("--within-classes", is_flag=True, help="Whiten how pictures of one class differ, not how all differ.")
def whiten(
    checkpoint: Path, pictures: str, out: Path, dimension: int | None, shrinkage: float, within_classes: bool
) -> None:
    """Whiten the final layer of CHECKPOINT with PICTURES, a folder of class folders or FILE.csv[@SPLIT]."""
    loaded, read = Checkpoint.load(checkpoint), read_pictures(pictures)
    with _describing(len(read.pictures)) as advance:
        whitened = rewhiten(
            loaded.network,
            read,
            advance,
            dimension=dimension or loaded.network.spec.dimension,
            shrinkage=shrinkage,
            within_classes=within_classes,
        )
    told = {"whitening": f"{read.name}, shrinkage {shrinkage:g}{', within classes' if within_classes else ''}"}
    Checkpoint(whitened, {**loaded.provenance, **told}).save(out)


@train.command("blend")
@click.argument("start", type=_FILE)
@click.argument("trained", type=_FILE)
@click.option("--share", type=float, required=True, help="0 is START, 1 is TRAINED.")
@click.option("--out", type=_FILE, required=True, help="The new checkpoint, as a .safetensors.")
def blend_(start: Path, trained: Path, share: float, out: Path) -> None:
    """Make the network that lies between START and TRAINED, two checkpoints of one run.

    It keeps more of what START finds in other kinds of pictures than TRAINED does.
    """
    before, after = Checkpoint.load(start), Checkpoint.load(trained)
    told = {"blend": f"{share:g} of the way from the start of the training to its end"}
    Checkpoint(blend(before.network, after.network, share), {**after.provenance, **told}).save(out)


@train.command("average")
@click.argument("checkpoints", type=_FILE, nargs=-1, required=True)
@click.option("--out", type=_FILE, required=True, help="The new checkpoint, as a .safetensors.")
def average_(checkpoints: tuple[Path, ...], out: Path) -> None:
    """Average CHECKPOINTS, networks that were trained from one start with different seeds.

    The mean keeps what they all learnt, and forgets less of what the start finds in other kinds of pictures.
    """
    average([Checkpoint.load(path) for path in checkpoints]).save(out)


def _describe(describer: Describer, pictures: PictureSet) -> Descriptors:
    with _describing(len(pictures.pictures)) as advance:
        return describer.describe([picture.path for picture in pictures.pictures], advance)


@contextmanager
def _describing(count: int) -> Generator[Callable[[int], None]]:
    columns = (TextColumn("describing pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=count)
        yield lambda more: progress.advance(bar, more)


def _in_words(figures: Figures) -> str:
    rest = [f"{name} {value:.3f}" for name, value in figures.items() if name != "step"]
    return f"step {figures['step']:.0f}: {', '.join(rest)}"


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "-/s")
