"""The settings, frozen and grouped; `cli` builds them once, and nothing else reads the environment.

A setting comes from its default, its group's table in a TOML file, the environment (`PSPSEARCH_` and its name in
capitals) or its flag; the last of these that is given wins. Names are unique across the groups.
"""

import contextlib
import dataclasses
import ipaddress
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pspsearch.errors import BadSettings

_T = TypeVar("_T")
Value = str | int | float | bool
PREFIX = "PSPSEARCH_"


def setting(default: _T, what: str) -> _T:
    """Makes a field with its default and its sentence of help."""
    return field(default=default, metadata={"help": what})


_MOST_AT_ONCE = 64
"""The most images that a rollout describes at once, all of which are in memory."""

REQUEST_COPIES = 4
"""How many copies of a request are in memory while it is received, parsed and read: four of 42 MiB took 582 MiB."""


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """The gRPC port, and what goes through it."""

    host: str = setting(
        "127.0.0.1", "The name or IP address to bind; other machines reach only one that is not loopback."
    )
    port: int = setting(8500, "The gRPC port; 0 takes a free one.")
    metrics_port: int = setting(8510, "The port on 127.0.0.1 for Prometheus; 0 for none.")
    max_calls: int = setting(256, "Calls under way at once; further ones are refused at once.")
    max_message_bytes: int = setting(
        42 << 20, "The largest request; by default, two of the largest images fit in, to be compared."
    )
    max_bytes_under_way: int = setting(
        0,
        "Memory for requests, each counted four times its size, and for answers of streams, of all callers; "
        "0 for an eighth of what there is.",
    )
    drain_s: float = setting(10.0, "How long calls under way may take when the server stops.")

    @property
    def least_bytes_under_way(self) -> int:
        """The least that lets one caller, who may have half, send one of the largest requests."""
        return 2 * REQUEST_COPIES * self.max_message_bytes


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """Who is let in, and what is logged of it."""

    tls_certificate: str = setting("", "The PEM file of the server's certificate and its issuers; empty for no TLS.")
    tls_key: str = setting("", "The PEM file of its private key.")
    tls_client_ca: str = setting("", "The PEM file of the issuers of callers' certificates; empty asks for none.")
    tokens: str = setting("", "The file of tokens that `pspsearch token` writes; empty asks nobody for one.")
    insecure: bool = setting(False, "Be reachable from other machines without TLS, or without asking who calls.")
    caller_calls_per_s: float = setting(0.0, "Calls, and requests of streams, of one caller per second; 0 for any.")
    caller_calls: int = setting(0, "Calls and streams of one caller under way at once; 0 for any.")
    audit_log: str = setting("", "A file for one JSON line per write and act of administration; empty for none.")

    @property
    def is_open(self) -> bool:
        """Whether calls can be read on their way, or anybody may make them."""
        return not self.tls_certificate or not (self.tokens or self.tls_client_ca)


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The limits of an image, checked before anything is decoded."""

    max_image_bytes: int = setting(20 << 20, "The largest encoded image.")
    max_image_pixels: int = setting(50_000_000, "The largest decoded image.")


@dataclass(frozen=True, slots=True)
class TritonSettings:
    """Where descriptors come from."""

    triton: str = setting("", "The address of a running Triton; empty starts the bundled one.")
    runtime: str = setting(
        "triton", "Where the model runs: `triton`, or `embedded` in the server's own process, on the CPU."
    )
    repository: str = setting("", "The model repository of the bundled Triton; empty for the shipped models.")
    model: str = setting("pspnet", "The model of a new collection that names none.")


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What is kept on disk."""

    data: str = setting("pspsearch-data", "The folder of the catalog and the indexes; created if it is missing.")
    memory_bytes: int = setting(
        0, "The memory that the server's process may take, near which nothing is taken in; 0 for all that there is."
    )
    sample: bool = setting(False, "Put a gallery of sample pictures into the collection `sample`.")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How descriptors are searched."""

    device: str = setting("auto", "`cpu`, `gpu`, or `auto`: a GPU if FAISS finds one.")
    index_memory_bytes: int = setting(
        0, "Memory that one index may plan with; 0 for half of the machine's, or of what the GPU has free."
    )


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How a collection moves to another model version."""

    rollout_strain: float = setting(
        2.0, "Describing stored images slows down while live searches take more than so many times their quiet time."
    )
    rollout_images: int = setting(
        1, "How many stored images are described at once. One takes one core of a CPU; a GPU wants more, such as 32."
    )
    rollout_watch_s: float = setting(
        30.0, "How many seconds pass between two looks for new versions; 0 for looks only on request."
    )
    rollout_queries: bool = setting(
        True, "Keep the last images that were searched for, in memory, to try new versions with."
    )


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What a new model version must show before it may answer."""

    gate_sample: int = setting(256, "How many items are tried.")
    gate_spread: float = setting(0.95, "The mean score of two items may be at most this: at 1 all look alike.")
    gate_self_retrieval: float = setting(0.98, "At least this share of items must find themselves first.")
    gate_overlap: float = setting(0.2, "At least this share of the nearest items must be the version before's.")
    gate_label: str = setting("", "An attribute that items of one kind share; empty for none.")
    gate_label_loss: float = setting(0.02, "The share of items whose nearest has their label may fall by at most this.")
    gate_slowdown: float = setting(3.0, "One image may take at most so many times as long as with the version before.")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs and traces."""

    log_format: str = setting("text", "`text` for people or `json`, one object per line.")
    traces: str = setting("", "The URL of an OpenTelemetry collector (OTLP over gRPC); empty for no traces.")
    log_level: str = setting("info", "`debug`, `info`, `warning` or `error`.")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    serving: ServingSettings = ServingSettings()
    security: SecuritySettings = SecuritySettings()
    images: ImageSettings = ImageSettings()
    triton: TritonSettings = TritonSettings()
    storage: StorageSettings = StorageSettings()
    index: IndexSettings = IndexSettings()
    rollout: RolloutSettings = RolloutSettings()
    gate: GateSettings = GateSettings()
    log: LogSettings = LogSettings()

    def __post_init__(self) -> None:
        _check_choice("device", self.index.device, ("auto", "cpu", "gpu"))
        _check_choice("log_format", self.log.log_format, ("text", "json"))
        _check_choice("log_level", self.log.log_level, ("debug", "info", "warning", "error"))
        if not _is_host(self.serving.host):
            raise BadSettings(f"host must be a name or an IP address, without a port, not {self.serving.host!r}")
        for name, port in (("port", self.serving.port), ("metrics_port", self.serving.metrics_port)):
            if not 0 <= port < 65536:
                raise BadSettings(f"{name} must be 0 to 65535, not {port}")
        if not 1 <= self.rollout.rollout_images <= _MOST_AT_ONCE:
            raise BadSettings(f"rollout_images must be 1 to {_MOST_AT_ONCE}, not {self.rollout.rollout_images}")
        for group, name, least in (
            (self.serving, "max_calls", 1),
            (self.serving, "max_message_bytes", 1 << 16),
            (self.serving, "max_bytes_under_way", 0),
            (self.serving, "drain_s", 0),
            (self.storage, "memory_bytes", 0),
            (self.index, "index_memory_bytes", 0),
            (self.images, "max_image_bytes", 1),
            (self.images, "max_image_pixels", 1),
            (self.security, "caller_calls_per_s", 0),
            (self.security, "caller_calls", 0),
        ):
            if not getattr(group, name) >= least:
                raise BadSettings(f"{name} must be at least {least}, not {getattr(group, name)}")
        if 0 < self.serving.max_bytes_under_way < self.serving.least_bytes_under_way:
            raise BadSettings(
                f"max_bytes_under_way must be at least {self.serving.least_bytes_under_way}, so that two callers "
                f"can send one of the largest requests each, not {self.serving.max_bytes_under_way}"
            )
        if self.triton.runtime not in ("triton", "embedded"):
            raise BadSettings(f"runtime must be triton or embedded, not {self.triton.runtime!r}")
        if self.triton.runtime == "embedded" and self.triton.triton:
            raise BadSettings("runtime is embedded, and triton names a Triton: only one of them can run the model")
        if bool(self.security.tls_certificate) is not bool(self.security.tls_key):
            raise BadSettings("tls_certificate and tls_key go together")
        if self.security.tls_client_ca and not self.security.tls_certificate:
            raise BadSettings("tls_client_ca needs tls_certificate: without TLS no caller can show a certificate")
        if self.security.is_open and not self.security.insecure and not _is_loopback(self.serving.host):
            raise BadSettings(
                f"host is {self.serving.host}, and anybody who reaches it could read and change everything: set "
                "tls_certificate, tls_key and tokens (or tls_client_ca), or insecure if something else protects it"
            )

    def to_toml(self) -> str:
        """The TOML file that gives these settings."""
        lines: list[str] = []
        for one in all_settings():
            if f"[{one.group}]" not in lines:
                lines += ["", f"[{one.group}]"]
            lines.append(f"{one.name} = {json.dumps(getattr(getattr(self, one.group), one.name), ensure_ascii=False)}")
        return "\n".join(lines[1:])


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as the command line and the manual need it."""

    group: str
    name: str
    default: Value
    what: str

    @property
    def variable(self) -> str:
        """The name of its variable in the environment."""
        return PREFIX + self.name.upper()


def all_settings() -> Iterator[Setting]:
    """Every setting, in the order of the file."""
    defaults = Settings()
    for group in (one.name for one in dataclasses.fields(Settings)):
        values = getattr(defaults, group)
        for one in dataclasses.fields(values):
            yield Setting(group, one.name, getattr(values, one.name), str(one.metadata["help"]))


def load_settings(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Value | None]) -> Settings:
    """Builds the settings: defaults < file < environment < flags that are not None.

    Raises BadSettings, which names a wrong value and where it stands.
    """
    written = _read(file) if file else {}
    defaults = Settings()
    chosen: dict[str, dict[str, Value]] = {group.name: {} for group in dataclasses.fields(Settings)}
    for one in all_settings():
        in_file = written.pop((one.group, one.name), None)
        sources = (
            (f"{file}: {one.group}.{one.name}", in_file),
            (one.variable, environment.get(one.variable)),
            (f"--{one.name.replace('_', '-')}", flags.get(one.name)),
        )
        for source, value in sources:
            if value is not None:
                chosen[one.group][one.name] = _convert(value, one.default, source)
    for group, name in written:
        raise BadSettings(f"{file} sets {group}.{name}, and there is no such setting")
    return Settings(
        **{group: dataclasses.replace(getattr(defaults, group), **values) for group, values in chosen.items()}
    )


@dataclass(frozen=True, slots=True)
class BundledTritonSettings:
    """How the Triton child is started."""

    repository: Path
    """The model repository that it serves."""
    port: int = 0
    """Its gRPC port on 127.0.0.1; 0 takes a free one."""
    start_timeout_s: float = 60.0
    """How long it may take to load its models and answer."""
    stop_timeout_s: float = 5.0
    """How long it may take to finish what it is doing before it is killed."""
    restart_delay_s: float = 0.1
    """The first pause before a dead child is started again; it doubles up to `max_restart_delay_s`."""
    max_restart_delay_s: float = 2.0


def join_address(host: str, port: int) -> str:
    """Joins host and port as gRPC takes them; an IPv6 address gets its brackets, whether it had them or not."""
    return f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"


def _read(file: Path) -> dict[tuple[str, str], Value]:
    """What the file sets, by group and name."""
    try:
        tables = tomllib.loads(file.read_text())
    except OSError as error:
        raise BadSettings(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadSettings(f"{file} is not TOML: {error}") from error
    for group, table in tables.items():
        if not isinstance(table, dict):
            raise BadSettings(f"{file} sets {group} outside any table")
    return {(group, name): value for group, table in tables.items() for name, value in table.items()}


def _convert(value: Value, default: Value, source: str) -> Value:
    """Converts to the default's type: text to any, and otherwise only a whole number to a float."""
    kind = type(default)
    try:
        if kind is bool and isinstance(value, str):
            return _TRUTH[value.lower()]
        if isinstance(value, str) or (kind is float and type(value) is int):
            return kind(value)
    except (ValueError, KeyError):
        raise BadSettings(f"{source} must be {_KINDS[kind]}, not {value!r}") from None
    if type(value) is not kind:
        raise BadSettings(f"{source} must be {_KINDS[kind]}, not {value!r}")
    return value


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _is_host(host: str) -> bool:
    """Whether it is a name or an IP address; one with colons may stand in brackets."""
    with contextlib.suppress(ValueError):
        ipaddress.IPv6Address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
        return True
    return re.fullmatch(r"[\w.-]+", host) is not None


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadSettings(f"{name} must be one of {', '.join(choices)}, not {value!r}")
