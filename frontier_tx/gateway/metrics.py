"""What the gateway shows to Prometheus: every table with its bound, and what went through."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frontier_tx.gateway.bypass import BypassFactory
from frontier_tx.gateway.core import GatewayCore


class GatewayCollector(Collector):
    """Reads the figures of a gateway when it is asked for them; nothing is counted twice."""

    def __init__(self, core: GatewayCore, bypass: BypassFactory | None = None) -> None:
        self._core = core
        self._bypass = bypass

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        yield from self._tables()
        yield from self._traffic()

    def _tables(self) -> Iterator[Metric]:
        core, repository = self._core, self._core.repository
        yield _gauge("frontier_edges", "Edges online.", len(repository.edges))
        yield _gauge("frontier_services", "Services online.", len(repository.services))
        yield _gauge("frontier_edge_methods", "Methods registered by edges.", repository.edge_methods)
        service_methods = sum(len(legs) for legs in repository.by_method.values())
        yield _gauge("frontier_service_methods", "Methods registered by services.", service_methods)
        yield _gauge("frontier_pending", "Calls and messages that wait for an answer.", core.exchange.pending_count)
        yield _gauge("frontier_timers", "Things that are due at some time.", len(core.alarms))
        connections = GaugeMetricFamily(
            "frontier_connections", "Connections, handshakes under way included.", labels=["side"]
        )
        most = GaugeMetricFamily("frontier_connections_limit", "Connections at most.", labels=["side"])
        unsent = GaugeMetricFamily("frontier_unsent_bytes", "Bytes that peers have not taken yet.", labels=["side"])
        waiting = GaugeMetricFamily(
            "frontier_waiting_bytes", "Bytes of messages that wait for the acknowledgement of others.", labels=["side"]
        )
        streams = 0
        for factory in (core.edges, core.services):
            connections.add_metric([factory.side], len(factory.connections))
            most.add_metric([factory.side], factory.most)
            unsent.add_metric([factory.side], sum(c.unsent for c in factory.connections))
            waiting.add_metric([factory.side], sum(c.leg.waiting_bytes for c in factory.connections))
            streams += sum(len(c.leg.streams) for c in factory.connections)
        yield from (connections, most, unsent, waiting)
        yield _gauge("frontier_streams", "Open streams.", streams // 2)
        if self._bypass is not None:
            count = len(self._bypass.connections)
            yield _gauge("frontier_bypass_connections", "Connections that are relayed or not yet recognised.", count)

    def _traffic(self) -> Iterator[Metric]:
        core, counters = self._core, self._core.exchange.counters
        for name, text, value in (
            ("calls", "Calls received.", counters.calls),
            ("messages", "Messages received.", counters.messages),
            ("answers", "Answers passed on.", counters.answers),
            ("own_answers", "Calls and messages answered with an error of its own.", counters.local_answers),
            ("overdue", "Calls and messages whose time ran out.", counters.overdue),
            ("dropped", "Frames that belong to nothing: late answers, closed streams.", counters.dropped),
            ("stream_bytes", "Raw bytes of streams passed on.", counters.stream_bytes),
            ("streams_opened", "Streams opened.", counters.streams_opened),
            ("throttled", "Times that a sender was stopped for a slow receiver.", counters.throttled),
        ):
            yield CounterMetricFamily(f"frontier_{name}", text, value=value)
        accepted = CounterMetricFamily("frontier_accepted", "Connections accepted.", labels=["side"])
        refused = CounterMetricFamily("frontier_refused", "Connections turned away for the limit.", labels=["side"])
        for factory in (core.edges, core.services):
            accepted.add_metric([factory.side], factory.accepted)
            refused.add_metric([factory.side], factory.refused)
        yield from (accepted, refused)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
