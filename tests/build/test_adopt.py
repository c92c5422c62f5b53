"""Other makers' Triton models: the contract that is written for them, and what it cannot promise."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pspsearch.errors import DigestMismatch, RepositoryError
from pspsearch.model.config import check_config
from pspsearch.model.contract import Contract, Fit, InputShape, Takes, parameter_key
from pspsearch.model.repository import check_model
from pspsearch_build.cli.adopt import adopt as adopt_command
from pspsearch_build.errors import PublishRefused
from pspsearch_build.publish.adopt import Adoption, adopt
from pspsearch_build.publish.config import parse

PIXELS = 'name: "pixels" data_type: TYPE_UINT8 dims: [ 8, 12, 3 ]'
DESCRIPTOR = 'name: "descriptor" data_type: TYPE_FP32 dims: [ 5 ]'
CELLS = 'name: "cells" data_type: TYPE_FP32 dims: [ 5, 5 ]'


def write_model(repository: Path, taken: str = PIXELS, given: str = DESCRIPTOR, more: str = "") -> Path:
    """A version as its maker left it."""
    version = repository / "theirs" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text("# theirs\n")
    outputs = "".join(f"output {{ {one} }}\n" for one in (given, more) if one)
    (version.parent / "config.pbtxt").write_text(
        f'name: "theirs"\nbackend: "python"\nmax_batch_size: 4\ninput {{ {taken} }}\n{outputs}'
    )
    return version


def contract_of(version: Path) -> Contract:
    """The contract as the server reads it."""
    config = parse((version.parent / "config.pbtxt").read_text(), "config.pbtxt")
    return Contract.from_json(config.parameters[parameter_key(int(version.name))].string_value)


def test_a_model_of_pixels_is_adopted(tmp_path: Path) -> None:
    """The tensors come from its configuration, the rest from the caller. Its own files stay unchanged."""
    version = write_model(tmp_path, more=CELLS)

    contract = adopt(version, Adoption("fp16", Fit.PAD, bins=(1, 2), space="shared"))

    assert contract_of(version) == contract
    assert (contract.input, contract.dimension, contract.cells) == (InputShape(8, 12, Fit.PAD), 5, 5)
    assert (contract.precision, contract.space, contract.checksums) == ("fp16", "shared", False)
    assert (version / "model.py").read_text() == "# theirs\n"
    check_model(version.parent)
    check_config(version.parent)
    assert adopt(version, Adoption("fp16", Fit.PAD, bins=(1, 2), space="shared")) == contract


@pytest.mark.parametrize("takes", [Takes.IMAGE, Takes.TEXT])
def test_a_model_of_strings_is_adopted(tmp_path: Path, takes: Takes) -> None:
    """A model that decodes by itself, and one that takes texts."""
    version = write_model(tmp_path, f'name: "{takes}" data_type: TYPE_STRING dims: [ 1 ]')

    result = CliRunner().invoke(adopt_command, [str(version), "--space", "shared"])

    contract = contract_of(version)
    assert (contract.takes, contract.input, contract.precision) == (takes, None, "fp32")
    assert result.output == f"{version} takes {takes} and gives 5 numbers; {contract.fingerprint}\n"


@pytest.mark.parametrize(
    ("taken", "given", "more", "bins", "words"),
    [
        ('name: "x" data_type: TYPE_UINT8 dims: [ 8, 8, 3 ]', DESCRIPTOR, "", (), "theirs takes x, and pspsearch can"),
        ('name: "pixels" data_type: TYPE_FP32 dims: [ 8, 8, 3 ]', DESCRIPTOR, "", (), "and not TYPE_UINT8"),
        ('name: "pixels" data_type: TYPE_UINT8 dims: [ -1, 8, 3 ]', DESCRIPTOR, "", (), r"of \[lines, columns, 3\]"),
        ('name: "text" data_type: TYPE_STRING dims: [ 2 ]', DESCRIPTOR, "", (), r"and not TYPE_STRING of \[1\]"),
        (PIXELS, 'name: "logits" data_type: TYPE_FP32 dims: [ 5 ]', "", (), "has no output `descriptor`"),
        (PIXELS, 'name: "descriptor" data_type: TYPE_FP32 dims: [ -1 ]', "", (), "with one fixed dimension"),
        (PIXELS, 'name: "descriptor" data_type: TYPE_FP16 dims: [ 5 ]', "", (), "of TYPE_FP32"),
        (PIXELS, DESCRIPTOR, "", (1, 2), "has no output `cells` of TYPE_FP32 for the bins"),
        (PIXELS, DESCRIPTOR, CELLS, (1, 3), r"has `cells` of \[5, 5\], and its bins make \[10, 5\]"),
    ],
)
def test_what_no_contract_can_promise_is_refused(
    tmp_path: Path, taken: str, given: str, more: str, bins: tuple[int, ...], words: str
) -> None:
    """The error is one sentence, and nothing changes."""
    version = write_model(tmp_path, taken, given, more)
    before = (version.parent / "config.pbtxt").read_text()

    with pytest.raises(PublishRefused, match=words):
        adopt(version, Adoption("fp32", Fit.CROP, bins))

    assert (version.parent / "config.pbtxt").read_text() == before
    assert [path.name for path in version.iterdir()] == ["model.py"]


def test_other_bad_input_is_a_sentence(tmp_path: Path) -> None:
    """A missing folder, pixels without a fit, an unknown precision, and files changed since are refused."""
    version = write_model(tmp_path)
    with pytest.raises(PublishRefused, match="is no version of a Triton model"):
        adopt(version.parent / "2", Adoption("fp32", Fit.CROP))
    with pytest.raises(PublishRefused, match="say how an image of any shape is fitted"):
        adopt(version, Adoption("fp32"))
    with pytest.raises(RepositoryError, match="the precision 'float' is none of"):
        adopt(version, Adoption("float", Fit.CROP))
    (version / "tokenizer").mkdir()
    with pytest.raises(RepositoryError, match="tokenizer is not in the manifest"):
        adopt(version, Adoption("fp32", Fit.CROP))
    assert not (version / "manifest.json").exists()
    (version / "tokenizer").rmdir()
    config = version.parent / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 4", "max_batch_size: 0"))
    with pytest.raises(PublishRefused, match="takes no batches"):
        adopt(version, Adoption("fp32", Fit.CROP))
    config.write_text(config.read_text().replace("max_batch_size: 0", "max_batch_size: 4"))
    adopt(version, Adoption("fp32", Fit.CROP))
    config.write_text(config.read_text().replace("python", "others"))
    with pytest.raises(DigestMismatch):
        adopt(version, Adoption("fp32", Fit.CROP))
    config.write_text(config.read_text().replace("others", "python"))
    (version / "model.py").write_text("# others\n")
    with pytest.raises(PublishRefused, match="has a contract for other files"):
        adopt(version, Adoption("fp32", Fit.CROP))
