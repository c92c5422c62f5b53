"""`pspsearch status`: prints the state of the server."""

import sys
from datetime import timedelta

import click

from pspsearch.cli.collections import print_collections
from pspsearch.cli.connection import json_option, with_client
from pspsearch.cli.output import print_facts, print_json, size
from pspsearch.client import Client, ServerStatus


@click.command()
@json_option
@with_client
def status(client: Client, as_json: bool) -> None:
    """Print health, versions, sizes, memory and recall. The exit code is 1 while the server takes no searches."""
    found = client.status()
    if as_json:
        print_json(found)
    else:
        print_facts(_facts(client.address, found))
        if found.collections:
            click.echo()
            print_collections(found.collections)
    if not found.serving:
        sys.exit(1)


def _facts(address: str, found: ServerStatus) -> dict[str, object]:
    return {
        "server": f"pspsearch {found.version} at {address}",
        "health": "serving" if found.serving else "not serving",
        "up": timedelta(seconds=round(found.uptime_s)),
        "triton": found.triton,
        "models": ", ".join(f"{model.model}/{model.model_version}" for model in found.models),
        "memory": size(found.memory_bytes),
        "catalog": size(found.catalog_bytes),
        "in flight": found.requests_in_flight,
    }
