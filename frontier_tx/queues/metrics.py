"""What the queues show to Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

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
            bound.add_metric(name, outbox.bounds.bytes)
            again.add_metric(name, counters.reconnects)
            latency.add_metric(name, counters.times.buckets(), counters.times.seconds)
        yield from (up, published, confirmed, failed, flying, waiting, held, bound, again, latency)
        yield from self._spools()

    def _spools(self) -> Iterator[Metric]:
        """What is on disk, for the queues that have a spool."""
        spools = [(each.name, each.spool) for each in self._queues.forwarders if each.spool is not None]
        if not spools:
            return
        label = ["queue"]
        up = GaugeMetricFamily("frontier_queue_spool_up", "Whether the spool can be used.", labels=label)
        messages = GaugeMetricFamily("frontier_queue_spool_messages", "Messages in the spool.", labels=label)
        held = GaugeMetricFamily("frontier_queue_spool_bytes", "Bytes in the spool.", labels=label)
        bound = GaugeMetricFamily(
            "frontier_queue_spool_bytes_limit", "Bound of frontier_queue_spool_bytes.", labels=label
        )
        refused = GaugeMetricFamily(
            "frontier_queue_spool_refused", "Messages that the broker refused, put aside.", labels=label
        )
        taken = CounterMetricFamily("frontier_queue_spool_taken", "Messages that went into the spool.", labels=label)
        given = CounterMetricFamily(
            "frontier_queue_spool_given", "Messages of the spool that the broker has.", labels=label
        )
        for name, spool in spools:
            up.add_metric([name], float(spool.open))
            messages.add_metric([name], spool.messages)
            held.add_metric([name], spool.bytes)
            bound.add_metric([name], spool.most_bytes)
            refused.add_metric([name], spool.refused)
            taken.add_metric([name], spool.taken)
            given.add_metric([name], spool.given)
        yield from (up, messages, held, bound, refused, taken, given)
