"""`pspsearch-build publish`."""

from pathlib import Path

import click

from pspsearch_build.publish import Batching, Flavour, Instances, Publication
from pspsearch_build.publish import publish as publish_version

_BATCHING = Batching()
_INSTANCES = Instances()


@click.command()
@click.argument("onnx", type=click.Path(path_type=Path))
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"), show_default=True)
@click.option("--model", default="pspnet", show_default=True, help="The model's name in Triton.")
@click.option("--version", type=int, help="The version's number; by default the next free one.")
@click.option(
    "--flavour",
    type=click.Choice([flavour.value for flavour in Flavour]),
    default=Flavour.OPENVINO.value,
    show_default=True,
)
@click.option("--plan", type=click.Path(path_type=Path), help="The engine, for the tensorrt flavour.")
@click.option("--max-batch-size", default=_BATCHING.max_batch_size, show_default=True)
@click.option("--max-queue-size", default=_BATCHING.max_queue_size, show_default=True)
@click.option("--max-queue-delay-us", default=_BATCHING.max_queue_delay_us, show_default=True)
@click.option("--queue-timeout-us", default=_BATCHING.queue_timeout_us, show_default=True)
@click.option("--instances", default=_INSTANCES.count, show_default=True, help="Copies that work at the same time.")
@click.option("--allow-other-dimension", is_flag=True, help="The model's versions may differ in dimension.")
@click.option("--space", default="", help="The space of its descriptors; if none is named, one of its own.")
@click.option("--load", metavar="ADDRESS", help="Then ask the Triton at HOST:PORT to load the model.")
def publish(
    onnx: Path,
    repository: Path,
    model: str,
    version: int | None,
    flavour: str,
    plan: Path | None,
    max_batch_size: int,
    max_queue_size: int,
    max_queue_delay_us: int,
    queue_timeout_us: int,
    instances: int,
    allow_other_dimension: bool,
    space: str,
    load: str | None,
) -> None:
    """Write the network in ONNX as a version of a model in a Triton repository.

    Batching and instances count only for a model's first version; later ones keep what its config.pbtxt says.
    """
    batching = Batching(
        max_batch_size=max_batch_size,
        preferred_batch_sizes=tuple(size for size in _BATCHING.preferred_batch_sizes if size <= max_batch_size),
        max_queue_delay_us=max_queue_delay_us,
        max_queue_size=max_queue_size,
        queue_timeout_us=queue_timeout_us,
    )
    folder = publish_version(
        Publication(
            onnx=onnx,
            repository=repository,
            model=model,
            version=version,
            flavour=Flavour(flavour),
            plan=plan,
            batching=batching,
            instances=Instances(instances),
            allow_other_dimension=allow_other_dimension,
            space=space,
        )
    )
    click.echo(f"published {folder}")
    if load:
        _load(load, model)
        click.echo(f"loaded {model} at {load}")


def _load(address: str, model: str) -> None:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    from pspsearch.errors import ModelLoadFailed

    try:
        InferenceServerClient(address).load_model(model)
    except InferenceServerException as error:
        raise ModelLoadFailed(f"published, but the Triton at {address} does not load {model}: {error}") from error
