"""Publishing a model version: what is written, what is refused, and what a crash in between leaves."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from tritonclient.grpc import model_config_pb2 as pb

from pspsearch.errors import DigestMismatch, RepositoryError
from pspsearch.model.config import check_config
from pspsearch.model.config_digest import DIGEST_KEY, digest_of
from pspsearch.model.contract import Contract, parameter_key
from pspsearch.model.manifest import Manifest
from pspsearch.model.repository import check_model
from pspsearch_build.cli.publish import publish as publish_command
from pspsearch_build.errors import BuildError, PublishRefused
from pspsearch_build.network.onnx_facts import read_onnx_facts, write_onnx_facts
from pspsearch_build.publish import Batching, Flavour, Instances, Publication, publish
from pspsearch_build.publish.config import parse, to_text
from tests.build.colour_network import Fault, write_colour_network


@pytest.fixture
def publication(tmp_path: Path) -> Publication:
    """A sound network, and an empty repository to publish it into."""
    (tmp_path / "models").mkdir()
    onnx = write_colour_network(tmp_path / "network.onnx")
    return Publication(onnx, tmp_path / "models", "colour", flavour=Flavour.ONNXRUNTIME)


def read_config(publication: Publication) -> pb.ModelConfig:
    """The configuration as Triton reads it."""
    path = publication.repository / publication.model / "config.pbtxt"
    return parse(path.read_text(), str(path))


def contract_of(config: pb.ModelConfig, version: int) -> Contract:
    """The contract as the server reads it."""
    return Contract.from_json(config.parameters[parameter_key(version)].string_value)


def outputs_of(publication: Publication) -> list[str]:
    """The outputs that Triton offers."""
    return [output.name for output in read_config(publication).output]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("flavour", [Flavour.OPENVINO, Flavour.ONNXRUNTIME])
def test_version_carries_contract_and_manifest(publication: Publication, flavour: Flavour) -> None:
    """The first version has a sound folder, and a contract whose digest is that of the files."""
    publication = replace(publication, flavour=flavour)

    folder = publish(publication)

    check_model(folder.parent)
    contract = contract_of(read_config(publication), 1)
    assert folder == publication.repository / "colour" / "1"
    assert (contract.dimension, contract.shape.height_px, contract.cells) == (128, 32, 0)
    assert contract.digest == Manifest.of_files(folder).digest
    assert contract.precision == ("bf16" if flavour is Flavour.OPENVINO else "fp32")
    assert contract.provenance == {"weights": "drawn by lot, seed 0"}
    assert (folder / "model.py").exists() is contract.checksums is (flavour is Flavour.OPENVINO)
    assert ("checksum" in outputs_of(publication)) is contract.checksums


def test_config_says_what_was_asked_for(publication: Publication) -> None:
    """It has batching with a bounded queue that refuses, instances, warm-up, and a policy that serves every version."""
    batching = Batching(16, (4, 16), max_queue_delay_us=300, max_queue_size=40, queue_timeout_us=50_000)
    publish(replace(publication, batching=batching, instances=Instances(3)))

    config = read_config(publication)
    policy = config.dynamic_batching.default_queue_policy

    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 16
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 16]
    assert config.dynamic_batching.max_queue_delay_microseconds == 300
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (40, 50_000)
    assert policy.timeout_action == pb.ModelQueuePolicy.REJECT
    assert config.instance_group[0].count == 3
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 4]
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert [list(tensor.dims) for tensor in (*config.input, *config.output)] == [[32, 32, 3], [128]]


def test_second_version_keeps_the_first_and_the_operators_changes(publication: Publication, tmp_path: Path) -> None:
    """What an operator set in config.pbtxt stays; only the new contract is added."""
    first = publish(publication)
    before = contents(first)
    path = first.parent / "config.pbtxt"
    path.write_text(path.read_text().replace("max_queue_size: 256", "max_queue_size: 99"))
    other = write_colour_network(tmp_path / "other.onnx", seed=1)

    second = publish(replace(publication, onnx=other))

    config = read_config(publication)
    assert second.name == "2"
    assert contents(first) == before
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 99
    assert contract_of(config, 1).fingerprint != contract_of(config, 2).fingerprint


def test_published_config_has_its_digest_and_an_edited_one_is_not_published_into(publication: Publication) -> None:
    """Publishing does not seal somebody's change in passing."""
    folder = publish(publication)
    path = folder.parent / "config.pbtxt"
    check_config(folder.parent)
    path.write_text(path.read_text().replace("squash", "crop"))

    with pytest.raises(DigestMismatch, match="is not the one that was published"):
        publish(publication)

    assert not (folder.parent / "2").exists()


def test_versions_of_different_input_sizes_share_a_config(publication: Publication, tmp_path: Path) -> None:
    """Where the versions differ the config says -1, and the warm-up, which has one size, is removed."""
    publish(publication)
    larger = write_colour_network(tmp_path / "larger.onnx", side_px=64)

    publish(replace(publication, onnx=larger))

    config = read_config(publication)
    assert list(config.input[0].dims) == [-1, -1, 3]
    assert len(config.model_warmup) == 0
    assert [contract_of(config, version).shape.height_px for version in (1, 2)] == [32, 64]


def test_checksum_is_declared_when_every_version_can_tell_it(publication: Publication) -> None:
    """An earlier program would refuse the config, and Triton would stop serving the version that answers."""
    publication = replace(publication, flavour=Flavour.OPENVINO)
    first = publish(publication)
    path = first.parent / "config.pbtxt"
    config = read_config(publication)
    del config.output[1]
    earlier = replace(contract_of(config, 1), checksums=False)
    config.parameters[parameter_key(1)].string_value = earlier.to_json()
    config.parameters[DIGEST_KEY].string_value = digest_of(config)
    path.write_text(to_text(config))

    publish(publication)
    beside_the_first = outputs_of(publication)
    shutil.rmtree(first)
    publish(publication)

    assert beside_the_first == ["descriptor"]
    assert outputs_of(publication) == ["descriptor", "checksum"]
    assert [contract_of(read_config(publication), version).checksums for version in (1, 2, 3)] == [False, True, True]


def test_cells_are_offered_by_every_version_or_by_none(publication: Publication) -> None:
    """Beside versions without cells, a program does not offer its own, so that no rollout depends on them."""
    with_program = replace(publication, flavour=Flavour.OPENVINO)
    publish(publication)
    publish(replace(with_program, model="plain"))
    write_colour_network(publication.onnx, cells=True)

    with pytest.raises(PublishRefused, match="must all have the cells output, or none: export this one without cells"):
        publish(publication)
    publish(replace(with_program, model="plain"))
    publish(replace(with_program, model="celled"))
    write_colour_network(publication.onnx, seed=1)
    with pytest.raises(PublishRefused, match="must all have the cells output, or none: export this one with cells"):
        publish(replace(with_program, model="celled"))

    plain, celled = (replace(publication, model=name) for name in ("plain", "celled"))
    assert contract_of(read_config(plain), 2).cells == 0
    assert outputs_of(plain) == ["descriptor", "checksum"]
    assert contract_of(read_config(celled), 1).cells == 50
    assert outputs_of(celled) == ["descriptor", "cells", "checksum"]


def test_promised_cells_must_be_there(publication: Publication) -> None:
    """Otherwise, Triton could never start with this version."""
    facts, model = read_onnx_facts(publication.onnx), onnx.load(publication.onnx)
    write_onnx_facts(model, replace(facts, spec=replace(facts.spec, cells=True)))
    onnx.save(model, publication.onnx)

    for flavour in (Flavour.OPENVINO, Flavour.ONNXRUNTIME):
        with pytest.raises(PublishRefused, match="promises an output cells, and has none"):
            publish(replace(publication, flavour=flavour))


@pytest.mark.parametrize("flavour", [Flavour.OPENVINO, Flavour.ONNXRUNTIME])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.NAN, "not finite"),
        (Fault.NOT_UNIT, "of length 2, not 1"),
        (Fault.COLLAPSED, "same descriptor to two different images"),
        (Fault.OTHER_DIMENSION, r"of shape \(2, 512\) to two images, not \(2, 128\)"),
    ],
)
def test_useless_network_is_refused(publication: Publication, flavour: Flavour, fault: Fault, words: str) -> None:
    """A version that would poison an index is never written, and neither is anything else."""
    write_colour_network(publication.onnx, fault=fault)

    with pytest.raises(PublishRefused, match=words):
        publish(replace(publication, flavour=flavour))

    assert list(publication.repository.iterdir()) == []


def overwrite(publication: Publication) -> Publication:
    """Takes the number of an existing version."""
    return replace(publication, version=1)


def renumber(publication: Publication) -> Publication:
    """Takes a number that Triton does not accept."""
    return replace(publication, version=0)


def change_dimension(publication: Publication) -> Publication:
    """Takes a network of another dimension."""
    write_colour_network(publication.onnx, dimension=256)
    return publication


def change_flavour(publication: Publication) -> Publication:
    """Takes a flavour that the model's config cannot serve."""
    return replace(publication, flavour=Flavour.OPENVINO)


def forget_plan(publication: Publication) -> Publication:
    """Takes the TensorRT flavour without an engine."""
    return replace(publication, model="other", flavour=Flavour.TENSORRT)


def escape(publication: Publication) -> Publication:
    """Takes a name that leaves the repository."""
    return replace(publication, model="../other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (overwrite, "colour/1 exists, and a published version is never overwritten"),
        (renumber, "0 is not a version"),
        (change_dimension, r"dimension \[128\] and this one 256: say --allow-other-dimension"),
        (change_flavour, "holds onnxruntime versions, and Triton runs one flavour per model"),
        (forget_plan, "the tensorrt flavour needs a plan"),
        (escape, "cannot be the name of a model"),
    ],
)
def test_contradiction_is_refused(
    publication: Publication, change: Callable[[Publication], Publication], words: str
) -> None:
    """Each gives one sentence, and the repository stays the same, byte for byte."""
    publish(publication)
    before = contents(publication.repository.parent / "models")
    changed = change(publication)

    with pytest.raises(PublishRefused, match=words):
        publish(changed)

    assert contents(publication.repository.parent / "models") == before
    assert [path.name for path in publication.repository.iterdir()] == ["colour"]


def test_other_dimension_is_published_when_it_is_meant(publication: Publication) -> None:
    """The config then leaves the dimension open, and each contract has its own."""
    publish(publication)

    publish(replace(change_dimension(publication), allow_other_dimension=True))

    config = read_config(publication)
    assert list(config.output[0].dims) == [-1]
    assert [contract_of(config, version).dimension for version in (1, 2)] == [128, 256]


def test_foreign_file_is_refused(publication: Publication) -> None:
    """A file that `export` did not write has no contract to publish."""
    publication.onnx.write_bytes(b"GIF89a")

    with pytest.raises(BuildError, match=r"network\.onnx"):
        publish(publication)

    assert list(publication.repository.iterdir()) == []


def test_missing_repository_is_not_invented(publication: Publication, tmp_path: Path) -> None:
    """A mistyped path must not become a second repository that nobody serves."""
    with pytest.raises(RepositoryError, match="nowhere is not a folder"):
        publish(replace(publication, repository=tmp_path / "nowhere"))


def test_edited_config_that_does_not_parse_is_named(publication: Publication) -> None:
    """The error shows the place of the operator's mistake; nothing is written."""
    folder = publish(publication)
    (folder.parent / "config.pbtxt").write_text("max_batch_size: many")

    with pytest.raises(RepositoryError, match=r"config\.pbtxt is not a Triton model configuration: 1:17"):
        publish(publication)

    assert not (folder.parent / "2").exists()


_DIE_AT = """
import os, sys
from pathlib import Path
steps = 0
def count(act):
    def counted(*arguments, **options):
        global steps
        steps += 1
        if steps == int(sys.argv[1]):
            os._exit(9)
        return act(*arguments, **options)
    return counted
os.fsync, os.replace, os.rename, os.mkdir = map(count, (os.fsync, os.replace, os.rename, os.mkdir))
from pspsearch_build.publish import Flavour, Publication, publish
publish(Publication(Path(sys.argv[2]), Path(sys.argv[3]), "colour", flavour=Flavour.ONNXRUNTIME))
"""


def test_death_at_any_step_leaves_all_or_nothing(publication: Publication) -> None:
    """After a kill before each durable step in turn, version 2 is complete or absent, and the next try succeeds."""
    first = publish(publication)
    seen: list[bool] = []
    code = 9
    while code == 9:
        arguments = [str(len(seen) + 1), str(publication.onnx), str(publication.repository)]
        code = subprocess.run([sys.executable, "-c", _DIE_AT, *arguments], check=False).returncode
        check_model(first.parent)
        check_config(first.parent)
        seen.append((first.parent / "2").exists())
        if code == 9 and seen[-1]:
            shutil.rmtree(first.parent / "2")
    assert code == 0
    assert len(seen) > 5, "the steps were counted"
    assert set(seen) == {False, True}
    publish(publication)
    check_model(first.parent)
    assert not list(first.parent.glob(".incoming-*"))


def test_command_publishes_and_says_where(publication: Publication) -> None:
    """It prints one line with the folder; `main` turns a refusal into one sentence."""
    arguments = [str(publication.onnx), "--repository", str(publication.repository), "--model", "colour"]

    answer = CliRunner().invoke(publish_command, [*arguments, "--flavour", "onnxruntime", "--max-batch-size", "8"])

    assert answer.exit_code == 0, answer.output
    assert answer.output == f"published {publication.repository / 'colour' / '1'}\n"
    assert list(read_config(publication).dynamic_batching.preferred_batch_size) == [8]
