"""Which of Triton's version policies keep serving a version that answers."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pspsearch.errors import VersionPolicyRefused
from pspsearch.model.config import check_policy


def config(policy: str) -> model_config_pb2.ModelConfig:
    """A model's config with that policy."""
    return text_format.Parse(f'name: "birds" {policy}', model_config_pb2.ModelConfig())


@pytest.mark.parametrize(
    "policy",
    ["all { }", "latest { num_versions: 2 }", "latest { num_versions: 9 }", "specific { versions: 3 versions: 4 }"],
)
def test_policies_that_keep_it(policy: str) -> None:
    """They keep it when a newer version comes."""
    check_policy(config(f"version_policy {{ {policy} }}"), 3)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("", "keeps only the latest version"),
        ("version_policy { }", "keeps only the latest version"),
        ("version_policy { latest { num_versions: 1 } }", "keeps only the latest version"),
        ("version_policy { specific { versions: 4 versions: 5 } }", r"names the versions \[4, 5\]"),
    ],
)
def test_policies_that_would_retire_it(policy: str, words: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(VersionPolicyRefused, match=f"of birds {words}, .* version 3 .*all"):
        check_policy(config(policy), 3)
