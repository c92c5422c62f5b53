"""`pspsearch doctor`: checks whether a server would start with the given settings."""

import asyncio
import os
import sys
from pathlib import Path

import click

from pspsearch.cli.connection import json_option
from pspsearch.cli.output import print_json, print_table
from pspsearch.cli.serve import settings_options
from pspsearch.config import Value, load_settings
from pspsearch.findings import Grade


@click.command()
@json_option
@settings_options
def doctor(as_json: bool, config: Path | None, **flags: Value | None) -> None:
    """Check everything that `pspsearch serve` needs with the same settings, and say what to do if something is wrong.

    It changes nothing. The exit code is 1 if a server would not start, or would soon fail.
    """
    from pspsearch.app.doctor import examine

    found = asyncio.run(examine(load_settings(config, os.environ, flags)))
    if as_json:
        print_json(found)
    else:
        print_table(["", "", ""], [(one.what, one.grade.value, one.words) for one in found])
    if any(one.grade is Grade.BAD for one in found):
        sys.exit(1)
