"""The contract of a model version."""

from dataclasses import replace

import pytest

from pspsearch.errors import RepositoryError
from pspsearch.model.config import read_config
from pspsearch.model.contract import Contract, Fit, InputShape, Takes, parameter_key
from pspsearch.model.manifest import Manifest
from pspsearch.model.repository import default_repository

CONTRACT = Contract(
    input=InputShape(224, 192, Fit.PAD),
    dimension=256,
    precision="bf16",
    digest="ab" * 32,
    bins=(1, 2, 3, 6),
    checksums=True,
    provenance={"weights": "drawn by lot"},
)


def test_survives_json() -> None:
    """What is written into a Triton config reads back as the same contract."""
    assert Contract.from_json(CONTRACT.to_json()) == CONTRACT


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTRACT, digest="cd" * 32),
        replace(CONTRACT, precision="fp16"),
        replace(CONTRACT, input=InputShape(224, 192, Fit.CROP)),
        replace(CONTRACT, input=InputShape(192, 224, Fit.PAD)),
    ],
)
def test_fingerprint_tells_spaces_apart(other: Contract) -> None:
    """Weights, precision and preprocessing each make a space of their own."""
    assert other.fingerprint != CONTRACT.fingerprint


def test_fingerprint_ignores_provenance() -> None:
    """Words for people do not make a new space."""
    assert replace(CONTRACT, provenance={}).fingerprint == CONTRACT.fingerprint


def test_a_version_with_another_program_keeps_its_space() -> None:
    """Its files have another digest, and yet its descriptors compare with those that it made before."""
    renewed = replace(CONTRACT, digest="cd" * 32, earlier_digest=CONTRACT.digest)

    assert renewed.fingerprint == CONTRACT.fingerprint
    assert Contract.from_json(renewed.to_json()) == renewed


TOWER = Contract(None, 256, "fp32", "cd" * 32, Takes.TEXT, space="words and pictures")


def test_models_of_a_declared_space_compare() -> None:
    """They compare, whatever they take and in whatever precision; their fingerprints still tell the precision."""
    images = replace(CONTRACT, space=TOWER.space)

    assert images.fingerprint != TOWER.fingerprint
    assert images.compares_with(TOWER.fingerprint)
    assert TOWER.compares_with(images.fingerprint)
    assert replace(images, digest="ef" * 32).fingerprint == images.fingerprint
    assert Contract.from_json(TOWER.to_json()) == TOWER


def test_models_of_other_spaces_do_not_compare() -> None:
    """A model that declares no space compares with no other, either."""
    assert not CONTRACT.compares_with(TOWER.fingerprint)
    assert not TOWER.compares_with(replace(TOWER, space="others").fingerprint)
    assert not CONTRACT.compares_with(replace(CONTRACT, precision="fp16").fingerprint)
    assert CONTRACT.compares_with(CONTRACT.fingerprint)


def test_contract_of_an_earlier_release_reads() -> None:
    """It promises no checksums, its space is its own, and its program is its first."""
    text = CONTRACT.to_json().replace('"checksums":true,', "").replace(',"space":""', "")
    text = text.replace('"earlier_digest":"",', "")

    assert all(key not in text for key in ("checksums", "space", "earlier_digest"))
    assert Contract.from_json(text) == replace(CONTRACT, checksums=False)


def test_shipped_model_keeps_its_space() -> None:
    """Catalogs hold this fingerprint: under another one, nobody's items could be searched any more.

    Whoever ships another network says in docs/rollouts.md how collections get from the old one to it.
    """
    shipped = read_config(default_repository() / "pspnet").parameters[parameter_key(1)].string_value
    contract = Contract.from_json(shipped)

    assert contract.fingerprint == "3ff1f9b12b47fe14"
    assert contract.digest == Manifest.read(default_repository() / "pspnet" / "1").digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"input": 3}',
        CONTRACT.to_json().replace("pad", "stretch"),
        CONTRACT.to_json().replace("bf16", "float"),
        CONTRACT.to_json().replace('"pixels"', '"text"'),
        CONTRACT.to_json().replace("256", "0"),
        TOWER.to_json().replace('"text"', '"pixels"'),
    ],
)
def test_refuses_what_is_no_contract(text: str) -> None:
    """A parameter written by hand gives a clear error, not a stack trace."""
    with pytest.raises(RepositoryError, match="not a contract"):
        Contract.from_json(text)


def test_parameter_names_the_version() -> None:
    """Triton keeps one config for all versions of a model, so the key must tell them apart."""
    assert parameter_key(3) != parameter_key(4)
