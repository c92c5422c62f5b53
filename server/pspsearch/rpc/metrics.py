"""The metrics that Prometheus reads."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pspsearch.call import Call
from pspsearch.live.collections import Collections
from pspsearch.live.trial import Tried
from pspsearch.rollout.rollouts import Rollouts

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROLLOUT = ("described", "total", "per_second", "missing")
_TRIED = tuple(field.name for field in fields(Tried))
_INDEX = ("rows", "fresh", "tombstones", "size_bytes", "measured_recall", "live_recall", "sequence")


class _Endpoint(Protocol):
    """The part of Prometheus's HTTP server that is used here."""

    server_port: int

    def shutdown(self) -> None: ...
    def server_close(self) -> None: ...


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, collections: Collections, rollouts: Rollouts) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("pspsearch_calls", "Calls by method and code", ["method", "code"], registry=self.registry)
        self._seconds = Histogram(
            "pspsearch_call_seconds", "Time of a call", ["method"], buckets=_BUCKETS_S, registry=self.registry
        )
        self._stages = Histogram(
            "pspsearch_stage_seconds",
            "Time in a stage of a call that had it",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("pspsearch_in_flight", "Calls under way", registry=self.registry)
        self.refused = Counter(
            "pspsearch_refused", "Calls refused because too many were under way", registry=self.registry
        )
        self._items = Counter("pspsearch_items", "Items written, by outcome", ["outcome"], registry=self.registry)
        self.registry.register(_Indexes(collections))
        self.registry.register(_Rollouts(collections, rollouts))

    def count_call(self, method: str, code: str, call: Call) -> None:
        """Counts a call that has ended, well or badly."""
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(call.elapsed_s())
        self.count_stages(call)

    def count_stages(self, call: Call) -> None:
        """Counts the times of a call's stages; also used for each query of a stream."""
        for stage, milliseconds in call.stages_ms.items():
            if milliseconds:
                self._stages.labels(stage.value).observe(milliseconds / 1000)

    def count_item(self, outcome: str) -> None:
        """Counts one item that was acknowledged or refused."""
        self._items.labels(outcome).inc()

    def serve(self, port: int) -> _Endpoint:
        """Serves the metrics on 127.0.0.1, in a thread; port 0 picks a free one. Raises OSError if the port is taken.

        The caller must shut the endpoint down.
        """
        endpoint, _ = start_http_server(port, "127.0.0.1", self.registry)
        return endpoint


class _Indexes(Collector):
    """The state of each collection's index, read when Prometheus asks."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family for each figure."""
        labels = ["collection", "generation"]
        families = {name: GaugeMetricFamily(f"pspsearch_index_{name}", name, labels=labels) for name in _INDEX}
        for live in self._collections.all():
            state = live.index.state
            for name, family in families.items():
                family.add_metric([live.collection.name, str(live.generation.key)], getattr(state, name))
        return families.values()


class _Rollouts(Collector):
    """The progress of each rollout under way, read when Prometheus asks."""

    def __init__(self, collections: Collections, rollouts: Rollouts) -> None:
        self._collections = collections
        self._rollouts = rollouts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family for each figure."""
        labels = ["collection", "version", "stage"]
        names = (*_ROLLOUT, *_TRIED)
        families = {name: GaugeMetricFamily(f"pspsearch_rollout_{name}", name, labels=labels) for name in names}
        for live in self._collections.all():
            rollout = self._rollouts.under_way(live.collection)
            if rollout is not None:
                for name, family in families.items():
                    values = [rollout.collection, str(rollout.generation.version), rollout.stage.value]
                    family.add_metric(values, getattr(rollout.tried if name in _TRIED else rollout, name))
        return families.values()
