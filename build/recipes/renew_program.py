"""Gives a shipped version the program that `publish` writes today, under its number and in its space.

python build/recipes/renew_program.py model_repository/pspnet/1

Only for a program that describes as the one before did, to the bit: run tests/e2e/test_embedded.py afterwards.
Meanwhile, no server may use the version.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from pspsearch.model.config import read_config
from pspsearch.model.config_digest import DIGEST_KEY, digest_of
from pspsearch.model.contract import Contract, parameter_key
from pspsearch.model.manifest import Manifest
from pspsearch.model.repository import CONFIG
from pspsearch_build import publish
from pspsearch_build.atomic_file import replacing
from pspsearch_build.model_lock import exclusive
from pspsearch_build.publish.config import Flavour, to_text


def renew(version: Path) -> None:
    """Writes program, manifest and contract."""
    model, key = version.parent, parameter_key(int(version.name))
    with exclusive(model):
        shutil.copyfile(Path(publish.__file__).with_name(Flavour.OPENVINO.program), version / "model.py")
        manifest = Manifest.of_files(version)
        manifest.write(version)
        config = read_config(model)
        had = Contract.from_json(config.parameters[key].string_value)
        contract = replace(had, digest=manifest.digest, earlier_digest=had.earlier_digest or had.digest)
        config.parameters[key].string_value = contract.to_json()
        config.parameters[DIGEST_KEY].string_value = digest_of(config)
        with replacing(model / CONFIG) as temporary:
            temporary.write_text(to_text(config), "utf-8")


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
