"""What docs/rollouts.md prints, compared with the shipped model and with a rollout like the one that it shows."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pspsearch.client import Client
from pspsearch.domain import RolloutStage
from pspsearch.model.config import read_config
from pspsearch.model.repository import default_repository
from pspsearch.triton.describer import read_contract
from pspsearch_build.cli import commands
from tests.servers.search_server import serve, wait_for_sample

PAGE = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text()
TOLERANCES = {"unit length": 0.002, "collapse": 0.05, "self-retrieval": 0.01, "overlap": 0.03}
"""Processors round differently, and each machine's own arithmetic draws the untrained network."""


def test_the_page_shows_the_shipped_models_space() -> None:
    """If you change the model, this test shows the line that belongs on the page."""
    contract = read_contract(read_config(default_repository() / "pspnet"), 1)

    line = f"pspnet/1  {contract.fingerprint}  {contract.dimension:>10}  default         yes"

    assert line in PAGE.splitlines(), f"docs/rollouts.md must have the line\n{line}"


@pytest.mark.slow
def test_the_page_shows_what_such_a_rollout_measures(tmp_path: Path) -> None:
    """It takes the example's own steps on the sample gallery.

    The time for one image is the machine's, so it is not compared.
    """
    models, onnx = tmp_path / "models", tmp_path / "new.onnx"
    shutil.copytree(default_repository(), models)
    with (
        serve(tmp_path / "data", "", "--repository", str(models), "--gate-overlap", "0.02", "--sample") as server,
        Client(server.address) as client,
    ):
        for command in (
            ["export", "--untrained", "--seed", "7", "--output", str(onnx)],
            ["publish", str(onnx), "--repository", str(models)],
        ):
            answer = CliRunner().invoke(commands, command)
            assert answer.exit_code == 0, answer.output
        wait_for_sample(client)
        client.start_rollout(2, collection="sample")
        last = None
        for moment in client.watch_rollout(collection="sample"):
            last = moment
            if moment.stage is RolloutStage.READY:
                break

    assert last is not None
    assert last.stage is RolloutStage.READY, last.reason
    shown = {
        name.strip(): (float(value), float(bound))
        for name, value, bound in re.findall(r"^([a-z -]+?) +(\d\.\d{4}) +(\d+\.\d{4}) +passed", PAGE, re.MULTILINE)
    }
    measured = {check.name: (check.value, check.bound) for check in last.checks}
    assert shown.keys() == measured.keys()
    for name, tolerance in TOLERANCES.items():
        assert shown[name][0] == pytest.approx(measured[name][0], abs=tolerance), (
            f"{name}: the page must have {measured}"
        )
        assert shown[name][1] == pytest.approx(measured[name][1], abs=1e-4), f"{name}: the page must have {measured}"
