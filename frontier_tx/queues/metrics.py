"""What the queues show to Prometheus."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from frontier_tx.queues.forwarder import LATENCIES
from frontier_tx.queues.routes import Queues


class QueueCollector(Collector):
    """Reads the figures of all forwarders when it is asked for them; the label ``queue`` is the forwarder's name."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        label = ["queue"]
        up = GaugeMetricFamily("frontier_queue_up", "Whether the broker is connected.", labels=label)
        published = CounterMetricFamily("frontier_queue_published", "Messages for the queue.", labels=label)
        confirmed = CounterMetricFamily("frontier_queue_confirmed", "Messages that the broker has.", labels=label)
        failed = CounterMetricFamily(
            "frontier_queue_failed", "Messages whose edges were told an error.", labels=[*label, "reason"]
        )
        flying = GaugeMetricFamily("frontier_queue_in_flight", "Messages sent and not confirmed.", labels=label)
        waiting = GaugeMetricFamily("frontier_queue_waiting", "Messages not sent yet.", labels=label)
        held = GaugeMetricFamily("frontier_queue_bytes", "Bytes that wait or are not confirmed.", labels=label)
        bound = GaugeMetricFamily("frontier_queue_bytes_limit", "Bound of frontier_queue_bytes.", labels=label)
        again = CounterMetricFamily("frontier_queue_reconnects", "Connections that were lost.", labels=label)
        latency = HistogramMetricFamily(
            "frontier_queue_confirm_seconds", "Time from sending to the broker's confirmation.", labels=label
        )
        for each in self._queues.forwarders:
            name, counters, outbox = [each.name], each.counters, each.outbox
            up.add_metric(name, float(each.connected))
            published.add_metric(name, counters.published)
            confirmed.add_metric(name, counters.confirmed)
            for reason, count in counters.failed.items():
                failed.add_metric([*name, reason], count)
            flying.add_metric(name, outbox.in_flight)
            waiting.add_metric(name, outbox.waiting)
            held.add_metric(name, outbox.bytes)
            bound.add_metric(name, outbox.bounds.buffer_bytes)
            again.add_metric(name, counters.reconnects)
            edges = [*map(str, LATENCIES), "+Inf"]
            buckets = list(zip(edges, map(float, accumulate(counters.latencies)), strict=True))
            latency.add_metric(name, buckets, counters.latency_sum)
        yield from (up, published, confirmed, failed, flying, waiting, held, bound, again, latency)
