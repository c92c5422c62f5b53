"""`pspsearch-build`: from weights to a model version, one command per step."""

import importlib
import sys

import click

from pspsearch.errors import PspsearchError

COMMANDS = {
    "export": "Write a network as ONNX.",
    "adapt": "Give another maker's ONNX our interface.",
    "parity": "Compare the forms of one network on photographs.",
    "engine": "Compile ONNX to a TensorRT FP16 engine.",
    "publish": "Write a model version into a repository.",
    "adopt": "Write a contract for another maker's Triton model.",
    "seal": "Write the digest of a config.pbtxt that was changed.",
    "train": "Train a network.",
    "evaluate": "Measure how well descriptors find similar pictures.",
}


class _LazyGroup(click.Group):
    """Imports a command only when it is called, so that `--help` does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"pspsearch_build.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup)
def commands() -> None:
    """From weights to a model version: export, adapt, parity, engine, publish, adopt, seal, train, evaluate."""


def main() -> None:
    """Runs the command line. An expected failure prints one sentence and exits with code 1."""
    try:
        commands()
    except PspsearchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
