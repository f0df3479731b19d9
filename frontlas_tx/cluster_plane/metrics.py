"""What the cluster plane shows to Prometheus beside its methods and its door."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frontlas_tx.cluster_plane.callers import Callers
from frontlas_tx.cluster_plane.through import ThroughService


class ThroughCollector(Collector):
    """Calls and messages of operators to edges."""

    def __init__(self, through: ThroughService, callers: Callers) -> None:
        self._through = through
        self._callers = callers

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        under_way = self._through.under_way
        for name, text, value in (
            ("calls_through", "Calls and messages to peers that are under way.", under_way.number),
            ("calls_through_bytes", "Bytes of their requests.", under_way.bytes),
            ("frontiers_connected", "Connections to service ports of Frontiers, for them.", len(self._callers)),
        ):
            yield GaugeMetricFamily(f"control_plane_{name}", text, value=value)
