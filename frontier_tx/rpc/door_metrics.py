"""What a port of the planes tells Prometheus of its connections, its memory and its turns."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frontier_tx.rpc.door import Door


class DoorCollector(Collector):
    """The figures of one door, each named after its port."""

    def __init__(self, port: str, door: Door) -> None:
        self._port = port
        self._door = door

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        door, port = self._door, self._port
        turns, budget = door.turns, door.budget
        gauges = (
            ("connections", "Connections that are open.", len(door.inside)),
            ("addresses", "Addresses that are connected, or used something up a short time ago.", len(door.addresses)),
            ("unread_bytes", "Bytes of answers that wait to be read.", budget.unsent),
            ("request_bytes", "Bytes of requests that are not complete.", budget.held),
            ("work_waiting", "Steps of work that wait for their turn.", turns.waiting),
            ("longest_step_seconds", "The longest step of work so far.", turns.longest),
        )
        counters = (
            ("connections_refused", "Connections that were turned away.", door.refused),
            ("connections_retired", "Idle connections that had to make room.", door.retired),
            ("steps", "Steps of work done.", turns.steps),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"{port}_{name}", text, value=float(value))
        for name, text, value in counters:
            yield CounterMetricFamily(f"{port}_{name}", text, value=float(value))
