"""`pspsearch model`: lists model versions, and moves a collection from one to another."""

import sys
from collections.abc import Iterable, Iterator

import click

from pspsearch.cli.connection import collection_option, json_option, with_client
from pspsearch.cli.output import plural, print_json, print_table
from pspsearch.client import Check, Client, Rollout
from pspsearch.domain import RolloutStage

drop_option = click.option(
    "--drop-missing", is_flag=True, help="Promote even if items without a kept image will no longer be found."
)
canary_option = click.option(
    "--canary", default=0.0, show_default=True, help="The share of callers that it answers once it is ready."
)
shadow_option = click.option(
    "--shadow", default=0.0, show_default=True, help="The share of other searches on which it is then compared."
)


@click.group()
def model() -> None:
    """List model versions; roll one out, promote it, roll it back."""


@model.command("list")
@click.option("--model", "name", default="", help="A model other than the server's default.")
@json_option
@with_client
def list_(client: Client, name: str, as_json: bool) -> None:
    """Load what is new in the model repository, and list the versions in it."""
    found = client.list_model_versions(name)
    if as_json:
        print_json(found)
    else:
        print_table(
            ["version", "space", "dimensions", "answers for", "can be used"],
            (
                (
                    f"{one.model}/{one.version}",
                    one.fingerprint,
                    one.dimension,
                    " ".join(one.collections),
                    f"no: {one.reason}" if one.reason else "yes",
                )
                for one in found
            ),
        )


@model.command()
@collection_option
@json_option
@with_client
def show(client: Client, collection: str, as_json: bool) -> None:
    """Print the generations of a collection, and the checks of the last one."""
    found = client.list_generations(collection=collection)
    if as_json:
        print_json(found)
        return
    print_table(
        ["generation", "version", "space", "state", "since", "why"],
        (
            (
                one.origin.generation,
                f"{one.origin.model}/{one.origin.model_version}",
                one.origin.fingerprint,
                one.state.value,
                one.changed,
                one.reason,
            )
            for one in found
        ),
    )
    checks = next((one.checks for one in reversed(found) if one.checks), ())
    if checks:
        click.echo()
        _print_checks(checks)
    if len(found) > 1:
        moment = client.get_rollout(collection=collection)
        if moment.canary or moment.shadow:
            click.echo()
            _print_trial(moment)


@model.command()
@click.argument("version", type=int, required=False)
@collection_option
@click.option("--share", default=0.5, show_default=True, help="The share of the model's time that describing may take.")
@click.option("--automatic", is_flag=True, help="Promote the version as soon as it has passed its checks.")
@drop_option
@canary_option
@shadow_option
@with_client
def rollout(
    client: Client,
    version: int | None,
    collection: str,
    share: float,
    automatic: bool,
    drop_missing: bool,
    canary: float,
    shadow: float,
) -> None:
    """Start moving a collection to VERSION of its model; by default, to the highest usable one."""
    begun = client.start_rollout(
        version or 0,
        collection=collection,
        share=share,
        automatic=automatic,
        drop_missing=drop_missing,
        canary=canary,
        shadow=shadow,
    )
    click.echo(f"{begun.collection} is on its way to {_version(begun)}: follow it with `pspsearch model watch`")


@model.command()
@collection_option
@json_option
@with_client
def watch(client: Client, collection: str, as_json: bool) -> None:
    """Follow a rollout until it is ready or has ended. The exit code is 1 if it has failed."""
    last: Rollout | None = None
    for moment in _until_ready(client.watch_rollout(collection=collection)):
        if as_json:
            print_json(moment)
        elif last is None or (moment.stage, moment.reason) != (last.stage, last.reason) or _is_far(moment, last):
            click.echo(_words(moment))
        else:
            continue
        last = moment
    assert last is not None, "the server tells at least one moment"
    if not as_json and last.checks:
        click.echo()
        _print_checks(last.checks)
    if last.stage is RolloutStage.FAILED:
        sys.exit(1)


@model.command("try")
@collection_option
@canary_option
@shadow_option
@with_client
def try_(client: Client, collection: str, canary: float, shadow: float) -> None:
    """Let a rollout take part in live searches. `pspsearch model show` prints the results. Zeros end the trial."""
    moment = client.try_rollout(collection=collection, canary=canary, shadow=shadow)
    words = f"answers {canary:.1%} of the callers, and is compared on {shadow:.1%} of the other searches"
    later = "" if moment.stage is RolloutStage.READY else " as soon as it is ready"
    click.echo(f"{_version(moment)} {words}{later}")


@model.command()
@collection_option
@with_client
def missing(client: Client, collection: str) -> None:
    """Print the ids of the items that the rollout cannot describe, because their images are not kept."""
    generation = client.get_rollout(collection=collection).origin.generation
    for item in client.list(not_in_generation=generation, collection=collection):
        if item.image is None or not item.image.kept:
            click.echo(item.id)


@model.command()
@collection_option
@drop_option
@with_client
def promote(client: Client, collection: str, drop_missing: bool) -> None:
    """Make the version that is ready the one that answers."""
    promoted = client.promote_rollout(collection=collection, drop_missing=drop_missing)
    click.echo(f"{promoted.collection} answers from {_version(promoted)}")


@model.command()
@collection_option
@with_client
def abort(client: Client, collection: str) -> None:
    """End the rollout under way. The present version keeps answering."""
    aborted = client.abort_rollout(collection=collection)
    click.echo(f"{aborted.collection} stays where it is, and {_version(aborted)} is dropped")


@model.command()
@collection_option
@with_client
def rollback(client: Client, collection: str) -> None:
    """Make the previous version answer again. The present one is kept."""
    origin = client.rollback(collection=collection)
    click.echo(f"{collection} answers from {origin.model}/{origin.model_version}")


@model.command()
@collection_option
@with_client
def retire(client: Client, collection: str) -> None:
    """Drop the version that is kept for a rollback, and free its memory and disk space."""
    origin = client.retire_generation(collection=collection)
    click.echo(f"{origin.model}/{origin.model_version} is kept no longer for {collection}")


@model.command()
@collection_option
@with_client
def follow(client: Client, collection: str) -> None:
    """Make the collection move to new versions of its model automatically."""
    followed = client.follow_model(collection=collection)
    click.echo(f"{followed.name} follows new versions of {followed.model}")


@model.command()
@collection_option
@with_client
def pin(client: Client, collection: str) -> None:
    """Keep the collection at the present version until you start a rollout."""
    pinned = client.follow_model(collection=collection, follow=False)
    click.echo(f"{pinned.name} stays at {pinned.model}/{pinned.state.origin.model_version}")


def _until_ready(moments: Iterator[Rollout]) -> Iterator[Rollout]:
    for moment in moments:
        yield moment
        if moment.stage is RolloutStage.READY:
            return


def _is_far(moment: Rollout, last: Rollout) -> bool:
    """Whether a tenth of the items was described since `last`."""
    return moment.total > 0 and moment.described - last.described >= moment.total / 10


def _words(moment: Rollout) -> str:
    words = f"{_version(moment)}: {moment.stage.value}"
    if moment.stage is RolloutStage.DESCRIBING and moment.total:
        words += f", {moment.described:,} of {plural(moment.total, 'item')}"
        if moment.eta_s:
            words += f", {moment.per_second:.0f}/s, {moment.eta_s:.0f} s left"
    if moment.missing:
        words += f", {plural(moment.missing, 'item')} without a kept image"
    return f"{words}: {moment.reason}" if moment.reason else words


def _version(moment: Rollout) -> str:
    return f"{moment.origin.model}/{moment.origin.model_version}"


def _print_trial(moment: Rollout) -> None:
    trial = moment.trial
    print_table(
        ["live searches", "", "what it is"],
        (
            ("answered", trial.answered, f"calls, of {moment.canary:.1%} of the callers"),
            ("passed on", trial.passed_on, "calls of theirs that it could not answer, and the version before did"),
            ("compared", trial.mirrored, f"calls, of {moment.shadow:.1%} of the other callers' searches"),
            ("failed", trial.failed, "calls that it could not answer for comparison"),
            ("overlap", trial.overlap, "the share of the hits that it finds, too"),
            ("time", trial.ms, f"milliseconds; {trial.active_ms:.1f} with the version before"),
        ),
    )


def _print_checks(checks: Iterable[Check]) -> None:
    print_table(
        ["check", "value", "bound", "", "what it is"],
        ((one.name, one.value, one.bound, "passed" if one.passed else "FAILED", one.words) for one in checks),
    )
