"""What the gateway shows to Prometheus: every table with its bound, and what went through."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IReactorTime

from frontier_tx.gateway.bypass import BypassFactory
from frontier_tx.gateway.core import GatewayCore

#: So many connections are looked at in one turn of the reactor, and sums over more are at most so many seconds old.
SLICE = 1000
FRESH_SECONDS = 5.0


@dataclass(slots=True)
class Sums:
    """What the connections of one listener hold together."""

    unsent: int = 0
    waiting: int = 0
    longest: int = 0
    streams: int = 0
    methods: int = 0


class Tally:
    """Sums over all connections of a gateway, which may be too many for one turn of the reactor."""

    def __init__(self, core: GatewayCore, clock: IReactorTime) -> None:
        self._core = core
        self._clock = clock
        self._sums: dict[str, Sums] = {}
        self._taken = float("-inf")
        self._walk: Iterator[None] | None = None

    def read(self) -> dict[str, Sums]:
        """The sums of each side: of now where the connections are few, else of the last walk over all of them."""
        if self._walk is None and self._clock.seconds() - self._taken >= FRESH_SECONDS:
            self._walk = self._slices()
            self._step()
        return self._sums or {factory.side: Sums() for factory in (self._core.edges, self._core.services)}

    def _step(self) -> None:
        assert self._walk is not None
        for _ in self._walk:
            self._clock.callLater(0, self._step)
            return
        self._walk = None

    def _slices(self) -> Iterator[None]:
        found: dict[str, Sums] = {}
        total = 0
        for factory in (self._core.edges, self._core.services):
            sums = found[factory.side] = Sums()
            for number, connection in enumerate(list(factory.connections), 1):
                leg = connection.leg
                sums.unsent += connection.unsent
                sums.waiting += leg.waiting_bytes
                sums.longest = max(sums.longest, leg.waiting_bytes)
                sums.streams += len(leg.streams)
                sums.methods += len(leg.methods) if leg.online else 0
                if not number % SLICE:
                    yield
            total += len(factory.connections)
        self._sums = found
        if total >= SLICE:
            self._taken = self._clock.seconds()


class GatewayCollector(Collector):
    """Reads the figures of a gateway when it is asked for them; nothing is counted twice."""

    def __init__(self, core: GatewayCore, clock: IReactorTime, bypass: BypassFactory | None = None) -> None:
        self._core = core
        self._tally = Tally(core, clock)
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
        tally = self._tally.read()
        service_methods = tally[core.services.side].methods
        yield _gauge("frontier_service_methods", "Methods registered by services.", service_methods)
        holdings = repository.holdings
        yield _gauge("frontier_record_bytes", "Metas, names, topics and methods of all peers.", holdings.total)
        yield _gauge("frontier_record_limit_bytes", "Bytes of these at most.", holdings.limit)
        yield _gauge(
            "frontier_edges_coming", "Edges that services are being asked about.", len(core.presence.arrivals.coming)
        )
        yield _gauge("frontier_pending", "Calls and messages that wait for an answer.", core.exchange.pending_count)
        yield _gauge("frontier_timers", "Things that are due at some time.", len(core.alarms))
        connections = GaugeMetricFamily(
            "frontier_connections", "Connections, handshakes under way included.", labels=["side"]
        )
        most = GaugeMetricFamily("frontier_connections_limit", "Connections at most.", labels=["side"])
        strangers = GaugeMetricFamily(
            "frontier_strangers", "Connections that have not introduced themselves.", labels=["side"]
        )
        unsent = GaugeMetricFamily("frontier_unsent_bytes", "Bytes that peers have not taken yet.", labels=["side"])
        waiting = GaugeMetricFamily(
            "frontier_waiting_bytes", "Bytes that wait in the gateway for peers, by the peers' side.", labels=["side"]
        )
        longest = GaugeMetricFamily(
            "frontier_waiting_bytes_longest", "Bytes that wait for the peer with the most of them.", labels=["side"]
        )
        for factory in (core.edges, core.services):
            side, sums = factory.side, tally[factory.side]
            connections.add_metric([side], len(factory.connections))
            most.add_metric([side], factory.most)
            strangers.add_metric([side], factory.door.strangers)
            unsent.add_metric([side], sums.unsent)
            waiting.add_metric([side], sums.waiting)
            longest.add_metric([side], sums.longest)
        yield from (connections, most, strangers, unsent, waiting, longest)
        yield from self._memory()
        streams = sum(sums.streams for sums in tally.values()) // 2
        yield _gauge("frontier_streams", "Open streams.", streams)
        raw = core.exchange.doors.raw_bytes
        yield _gauge("frontier_stream_waiting_bytes", "Bytes of streams that wait for their receivers.", raw)
        if self._bypass is not None:
            count = len(self._bypass.connections)
            yield _gauge("frontier_bypass_connections", "Connections that are relayed or not yet recognised.", count)
            held = self._bypass.held_bytes
            yield _gauge("frontier_bypass_held_bytes", "Bytes that relays hold at most for slow sides.", held)
            yield CounterMetricFamily(
                "frontier_bypass_cut", "Relays cut for a side that took nothing.", value=self._bypass.cut
            )

    def _memory(self) -> Iterator[Metric]:
        exchange = self._core.exchange
        budget, counters, partial = exchange.budget, exchange.counters, exchange.partial_frames
        yield _gauge("frontier_held_bytes", "Bytes kept of what is not delivered, in the whole process.", budget.used)
        yield _gauge("frontier_held_bytes_limit", "Bytes that may be kept at most.", budget.limit)
        yield _gauge("frontier_partial_waiting", "Connections that wait with a frame for memory.", len(partial))
        yield CounterMetricFamily(
            "frontier_partial_given_up",
            "Connections closed as they waited too long for memory.",
            value=partial.given_up,
        )
        congested = CounterMetricFamily(
            "frontier_congested", "What was not let in because too much waits already.", labels=["for"]
        )
        congested.add_metric(["receiver"], counters.refused_congested)
        congested.add_metric(["memory"], counters.refused_memory)
        yield congested

    def _traffic(self) -> Iterator[Metric]:
        core, counters = self._core, self._core.exchange.counters
        for name, text, value in (
            ("calls", "Calls received.", counters.calls),
            ("messages", "Messages received.", counters.messages),
            ("answers", "Answers passed on.", counters.answers),
            ("own_answers", "Calls and messages answered with an error of its own.", counters.local_answers),
            ("overdue", "Calls and messages whose time ran out.", counters.overdue),
            ("dropped", "Frames that belong to nothing: late answers, closed streams.", counters.dropped),
            ("odd_json_stops", "Times a peer paid with waiting for much unusual JSON.", core.outlet.odd_json_stops),
            ("stream_bytes", "Raw bytes of streams passed on.", counters.stream_bytes),
            ("streams_opened", "Streams opened.", counters.streams_opened),
            ("records_refused", "Metas and methods refused for their size.", core.repository.holdings.refused),
            ("edges_renewed", "Edges asked to come again for an id.", core.presence.latecomers.renewed),
            ("edges_announced_late", "Edges announced after they came.", core.presence.latecomers.announced),
            ("throttled", "Times that a sender was stopped for a slow receiver.", counters.throttled),
            ("streams_congested", "Streams ended since their receiver took nothing.", counters.streams_congested),
        ):
            yield CounterMetricFamily(f"frontier_{name}", text, value=value)
        accepted = CounterMetricFamily("frontier_accepted", "Connections accepted.", labels=["side"])
        refused = CounterMetricFamily("frontier_refused", "Connections turned away for the limit.", labels=["side"])
        silent = CounterMetricFamily(
            "frontier_silent", "Connections that ended without a word, as probes do.", labels=["side"]
        )
        for factory in (core.edges, core.services):
            accepted.add_metric([factory.side], factory.accepted)
            refused.add_metric([factory.side], factory.refused)
            silent.add_metric([factory.side], factory.silent)
        yield from (accepted, refused, silent)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
