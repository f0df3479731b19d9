"""What Frontlas tells Prometheus: whether it is ready, its links, and the figures of the registry that it has."""

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from frontlas_tx.frontier_plane import FrontierPlane

#: What each figure of a registry means (``IRegistry.metrics``). Those named ``..._total`` only grow.
MEANINGS: Final = {
    "frontiers": "Frontiers that are alive.",
    "edges": "Edges that are online.",
    "services": "Services that are online, counted per Frontier.",
    "claims": "Frontiers that report to this Frontlas.",
    "own_edges": "Edges of those Frontiers.",
    "own_services": "Services of those Frontiers.",
    "own_bytes": "Bytes of what is remembered of them (frontier_plane.peers_bytes).",
    "reports_waiting": "Peers whose reports are not written yet.",
    "reports_total": "Reports taken.",
    "writes_total": "Reports written to Redis.",
    "repairs_total": "Times that what a Frontier has told was written again.",
    "lookups_total": "Look-ups of edges.",
    "polls_total": "Readings of the directory of Frontiers.",
    "subscriptions_total": "Times that the channel of changes was subscribed to.",
    "watchers": "Streams of changes that are open.",
    "changes_total": "Changes told to them.",
    "changes_dropped_total": "Changes that a slow one of them did not get.",
    "claims_refused_total": "Frontiers refused because their id is in use.",
    "frontiers_displaced_total": "Frontiers that made room for others because the registry was full.",
    "redis_commands_total": "Commands sent to Redis.",
    "redis_connections": "Connections to Redis that can be used.",
    "redis_waiting": "Commands that wait to be sent or answered.",
    "redis_requests_total": "Commands that were asked for.",
    "redis_batches_total": "Batches among them.",
    "redis_retries_total": "Commands sent again after a loss or a passing refusal.",
    "redis_timeouts_total": "Commands that reached their deadline.",
    "redis_redirects_total": "MOVED and ASK followed.",
    "redis_refused_total": "Commands refused because too many waited.",
    "redis_troubles_total": "Answers of a server that cannot serve for the moment.",
}


class FrontlasCollector(Collector):
    """Figures of the registry and the links of Frontiers."""

    def __init__(self, registry: Any, plane: FrontierPlane) -> None:
        self._registry = registry
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        ready = float(self._registry.ready)
        yield GaugeMetricFamily("frontlas_ready", "Whether the registry answers.", value=ready)
        yield GaugeMetricFamily("frontlas_links", "Frontiers connected here.", value=self._plane.links)
        for name, value in self._registry.metrics().items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(f"frontlas_registry_{name}", MEANINGS[name], value=value)
        times = self._registry.store_times
        if times is not None:
            yield HistogramMetricFamily(
                "frontlas_redis_seconds",
                "Time from sending a command to Redis to its answer.",
                buckets=times.buckets(),
                sum_value=times.seconds,
            )
