"""Settings: where they come from, which one wins, and what the error says of a wrong one."""

from pathlib import Path

import pytest

from pspsearch.config import (
    SecuritySettings,
    ServingSettings,
    Settings,
    Value,
    all_settings,
    join_address,
    load_settings,
)
from pspsearch.errors import BadSettings


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Each source overrides the one before, setting by setting."""
    file = tmp_path / "pspsearch.toml"
    file.write_text('[serving]\nport = 1\nmax_calls = 2\ndrain_s = 3\n[storage]\ndata = "here"\n')

    settings = load_settings(file, {"PSPSEARCH_MAX_CALLS": "20", "PSPSEARCH_DRAIN_S": "30"}, {"drain_s": 300.0})

    assert settings.serving.port == 1
    assert settings.serving.max_calls == 20
    assert settings.serving.drain_s == 300.0
    assert settings.storage.data == "here"
    assert settings.serving.metrics_port == Settings().serving.metrics_port


def test_printed_settings_are_a_file_that_gives_them(tmp_path: Path) -> None:
    """What is printed at the start can be kept and loaded."""
    settings = load_settings(None, {"PSPSEARCH_DATA": 'a "b" \\ ü', "PSPSEARCH_SAMPLE": "yes"}, {"port": 9})
    file = tmp_path / "pspsearch.toml"
    file.write_text(settings.to_toml())

    again = load_settings(file, {}, {})

    assert again == settings


def test_names_are_unique_and_every_setting_says_what_it_is() -> None:
    """One name is one setting, in the environment and as a flag; each has a sentence."""
    settings = list(all_settings())

    assert len({one.name for one in settings}) == len(settings) > 10
    assert [one.name for one in settings if not one.what.endswith(".")] == []


@pytest.mark.parametrize(
    ("content", "environment", "flags", "sentence"),
    [
        ("[serving]\nport = 'x'", {}, {}, r"pspsearch.toml: serving.port must be a whole number, not 'x'"),
        ("[serving]\nport = true", {}, {}, r"serving.port must be a whole number, not True"),
        ("[serving]\nprot = 1", {}, {}, r"sets serving.prot, and there is no such setting"),
        ("port = 1", {}, {}, r"sets port outside any table"),
        ("[serving", {}, {}, r"is not TOML"),
        ("", {"PSPSEARCH_SAMPLE": "maybe"}, {}, r"PSPSEARCH_SAMPLE must be true or false, not 'maybe'"),
        ("", {}, {"drain_s": "long"}, r"--drain-s must be a number, not 'long'"),
        ("", {}, {"port": 70000}, r"port must be 0 to 65535, not 70000"),
        ("", {}, {"device": "tpu"}, r"device must be one of auto, cpu, gpu, not 'tpu'"),
        ("", {}, {"max_calls": 0}, r"max_calls must be at least 1, not 0"),
        ("", {}, {"memory_bytes": -1}, r"^memory_bytes must be at least 0, not -1"),
        ("", {"PSPSEARCH_INDEX_MEMORY_BYTES": "-5"}, {}, r"index_memory_bytes must be at least 0, not -5"),
        ("", {}, {"drain_s": "nan"}, r"drain_s must be at least 0, not nan"),
        ("", {}, {"max_bytes_under_way": 1 << 28}, r"max_bytes_under_way must be at least 352321536, so that two"),
    ],
)
def test_wrong_setting_is_named_with_its_place(
    content: str, environment: dict[str, str], flags: dict[str, Value | None], sentence: str, tmp_path: Path
) -> None:
    """The sentence says which source is wrong and what it must be."""
    file = tmp_path / "pspsearch.toml"
    file.write_text(content)

    with pytest.raises(BadSettings, match=sentence):
        load_settings(file, environment, flags)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "[::1]", "fe80::1%eth0", "a-host_1.example.org", "münchen.example"]
)
def test_host_is_a_name_or_an_address(host: str) -> None:
    """An IPv6 address is taken with or without brackets."""
    settings = Settings(ServingSettings(host=host), SecuritySettings(insecure=True))

    assert settings.serving.host == host


@pytest.mark.parametrize(
    "host",
    ["unix:/run/x", "unix-abstract:x", "localhost:8500", "[::1", "[localhost]", "[::1]:8500", "dns:///x", "a b", ""],
)
def test_host_is_nothing_else(host: str) -> None:
    """Unix sockets have no port, and a port is a setting of its own."""
    with pytest.raises(BadSettings, match="host must be a name or an IP address, without a port, not '"):
        Settings(ServingSettings(host=host))


def test_address_of_an_ipv6_host_has_brackets() -> None:
    """Without brackets nobody could tell where its port begins."""
    addresses = [join_address(host, 8500) for host in ("::", "[::1]", "127.0.0.1", "localhost")]

    assert addresses == ["[::]:8500", "[::1]:8500", "127.0.0.1:8500", "localhost:8500"]


def test_missing_file_is_a_sentence(tmp_path: Path) -> None:
    """A file that was asked for must be there."""
    with pytest.raises(BadSettings, match=r"nowhere\.toml cannot be read: No such file"):
        load_settings(tmp_path / "nowhere.toml", {}, {})
