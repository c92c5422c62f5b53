"""The digest in `config.pbtxt`: what it covers, and where it is checked."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from pspsearch.errors import DigestMismatch, RepositoryError
from pspsearch.model.config import check_config, read_config
from pspsearch.model.config_digest import check_digest
from pspsearch.model.manifest import Manifest
from pspsearch.model.repository import check_model, default_repository
from pspsearch.triton.describer import read_contract

SHIPPED = default_repository() / "pspnet"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "pspnet"))


def edit(model: Path, change: Callable[[pb.ModelConfig], object]) -> pb.ModelConfig:
    """Changes the configuration as somebody with an editor would."""
    config = read_config(model)
    change(config)
    (model / "config.pbtxt").write_text(text_format.MessageToString(config))
    return config


def test_the_shipped_model_is_what_its_digests_say() -> None:
    """Whoever changes the shipped model must publish or seal it."""
    check_model(SHIPPED)
    check_config(SHIPPED)

    assert check_digest(read_config(SHIPPED))


def set_precision(config: pb.ModelConfig) -> None:
    """Computes in another precision than the contract says."""
    config.parameters["inference_precision"].string_value = "f32"


def set_contract(config: pb.ModelConfig) -> None:
    """Fits images in another way than the network was trained with."""
    contract = config.parameters["pspsearch.contract.1"]
    contract.string_value = contract.string_value.replace("crop", "squash")


def set_program(config: pb.ModelConfig) -> None:
    """Runs another file."""
    config.default_model_filename = "../other.py"


def set_environment(config: pb.ModelConfig) -> None:
    """Brings packages of its own."""
    config.parameters["EXECUTION_ENV_PATH"].string_value = "/tmp/packages.tar.gz"


def set_backend(config: pb.ModelConfig) -> None:
    """Runs in another backend."""
    config.backend = "other"


def set_output(config: pb.ModelConfig) -> None:
    """Promises more than the network gives."""
    config.output.add(name="more", data_type=pb.TYPE_FP32, dims=[1])


def set_library(config: pb.ModelConfig) -> None:
    """Has Triton load a library."""
    config.model_operations.op_library_filename.append("evil.so")


@pytest.mark.parametrize(
    "change", [set_precision, set_contract, set_program, set_environment, set_backend, set_output, set_library]
)
def test_a_changed_config_is_refused_wherever_its_contract_is_read(
    model: Path, change: Callable[[pb.ModelConfig], None]
) -> None:
    """It is refused on this machine before Triton loads it, and in what a Triton elsewhere serves."""
    config = edit(model, change)

    for check in (lambda: check_config(model), lambda: read_contract(config, 1)):
        with pytest.raises(DigestMismatch, match=r"config\.pbtxt of pspnet is not the one that was published"):
            check()


def tune(config: pb.ModelConfig) -> None:
    """Changes what an operator may set."""
    config.max_batch_size = 8
    config.instance_group[0].count = 1
    config.dynamic_batching.default_queue_policy.max_queue_size = 9
    config.version_policy.specific.versions.append(1)
    del config.model_warmup[:]


def complete(config: pb.ModelConfig) -> None:
    """Adds what a Triton fills in."""
    config.instance_group[0].name = "pspnet_0"
    config.optimization.input_pinned_memory.enable = True
    config.optimization.output_pinned_memory.enable = True


@pytest.mark.parametrize("change", [tune, complete])
def test_what_decides_no_descriptor_may_change(model: Path, change: Callable[[pb.ModelConfig], None]) -> None:
    """Batching belongs to the operator, and Triton's additions to Triton."""
    config = edit(model, change)

    check_config(model)

    assert read_contract(config, 1).dimension == 256


def test_a_config_of_an_earlier_release_is_told_what_to_do(model: Path) -> None:
    """It has no digest; the error is one clear sentence with the command."""
    edit(model, lambda config: config.parameters.pop("pspsearch.digest"))

    with pytest.raises(RepositoryError, match=r"carries no digest.*pspsearch-build seal"):
        check_config(model)


def test_a_model_that_pspsearch_did_not_publish_needs_no_digest(model: Path) -> None:
    """Any Triton model that carries a contract plugs in."""
    config = edit(model, lambda config: config.parameters.pop("pspsearch.digest"))
    (model / "1" / "manifest.json").unlink()

    check_config(model)

    assert read_contract(config, 1).dimension == 256


def test_files_with_a_manifest_of_their_own_are_not_what_the_contract_was_written_for(model: Path) -> None:
    """Otherwise other weights would run in the space of those that were published."""
    (model / "1" / "model.onnx").write_bytes(b"other weights")
    Manifest.of_files(model / "1").write(model / "1")
    check_model(model)

    with pytest.raises(DigestMismatch, match="pspnet/1 is not what its contract"):
        check_config(model)
