"""What the queues show to Prometheus."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from frontier_tx.queues.routes import Queues

#: Of each figure: what it is, its name behind ``frontier_queue_``, its meaning, and how a forwarder tells it.
Figures = Sequence[tuple[type[Any], str, str, Callable[[Any], float]]]
_FORWARDER: Figures = (
    (GaugeMetricFamily, "up", "Whether the broker is connected.", lambda each: float(each.connected)),
    (CounterMetricFamily, "published", "Messages for the queue.", lambda each: each.counters.published),
    (CounterMetricFamily, "confirmed", "Messages that the broker has.", lambda each: each.counters.confirmed),
    (GaugeMetricFamily, "in_flight", "Messages sent and not confirmed.", lambda each: each.outbox.in_flight),
    (GaugeMetricFamily, "waiting", "Messages not sent yet.", lambda each: each.outbox.waiting),
    (GaugeMetricFamily, "bytes", "Bytes that wait or are not confirmed.", lambda each: each.outbox.bytes),
    (GaugeMetricFamily, "bytes_limit", "Bound of frontier_queue_bytes.", lambda each: each.outbox.bounds.bytes),
    (CounterMetricFamily, "reconnects", "Connections that were lost.", lambda each: each.counters.reconnects),
)
#: The same of queues that have a spool.
_SPOOL: Figures = (
    (GaugeMetricFamily, "up", "Whether the spool can be used.", lambda each: float(each.spool.open)),
    (GaugeMetricFamily, "messages", "Messages in the spool.", lambda each: each.spool.messages),
    (GaugeMetricFamily, "bytes", "Bytes in the spool.", lambda each: each.spool.bytes),
    (GaugeMetricFamily, "bytes_limit", "Bound of frontier_queue_spool_bytes.", lambda each: each.spool.most_bytes),
    (GaugeMetricFamily, "refused", "Messages that the broker refused, put aside.", lambda each: each.spool.refused),
    (CounterMetricFamily, "taken", "Messages that went into the spool.", lambda each: each.spool.taken),
    (CounterMetricFamily, "given", "Messages of the spool that the broker has.", lambda each: each.spool.given),
)


class QueueCollector(Collector):
    """Reads the figures of all forwarders when it is asked for them; the label ``queue`` is the forwarder's name."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        forwarders = self._queues.forwarders
        yield from _families("frontier_queue_", _FORWARDER, forwarders)
        failed = CounterMetricFamily(
            "frontier_queue_failed", "Messages whose edges were told an error.", labels=["queue", "reason"]
        )
        latency = HistogramMetricFamily(
            "frontier_queue_confirm_seconds", "Time from sending to the broker's confirmation.", labels=["queue"]
        )
        for each in forwarders:
            for reason, count in each.counters.failed.items():
                failed.add_metric([each.name, reason], count)
            latency.add_metric([each.name], each.counters.times.buckets(), each.counters.times.seconds)
        yield from (failed, latency)
        spooled = [each for each in forwarders if each.spool is not None]
        if spooled:
            yield from _families("frontier_queue_spool_", _SPOOL, spooled)


def _families(prefix: str, figures: Figures, forwarders: Iterable[Any]) -> Iterator[Metric]:
    for kind, name, meaning, told in figures:
        family = kind(prefix + name, meaning, labels=["queue"])
        for each in forwarders:
            family.add_metric([each.name], told(each))
        yield family
