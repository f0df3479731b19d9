"""What the control plane shows to Prometheus beside its methods and its door."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frontier_tx.control_plane.events import EventFeed
from frontier_tx.control_plane.scans import Scans
from frontier_tx.control_plane.through import ThroughService


class ControlCollector(Collector):
    """Reads the tables of a control plane when it is asked for them."""

    def __init__(self, scans: Scans, feed: EventFeed, through: ThroughService) -> None:
        self._scans = scans
        self._feed = feed
        self._through = through

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        for name, text, value in (
            ("lists", "Lists that are being made.", self._scans.running),
            ("lists_waiting", "Lists that wait for others.", self._scans.waiting),
            ("event_readers", "Event streams that are open.", len(self._feed.readers)),
            ("calls_through", "Calls and messages to peers that are under way.", self._through.under_way.number),
            ("calls_through_bytes", "Bytes of their requests.", self._through.under_way.bytes),
        ):
            yield GaugeMetricFamily(f"control_plane_{name}", text, value=value)
        lost = "Events that readers missed because they were too slow."
        yield CounterMetricFamily("control_plane_events_lost", lost, value=self._feed.lost)
