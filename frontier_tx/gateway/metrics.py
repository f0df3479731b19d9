"""What the gateway shows to Prometheus: every table with its bound, and what went through (docs/observability.md)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IReactorTime

from frontier_tx.gateway.bypass import BypassFactory
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.factories import LegFactory
from frontier_tx.switch.tally import Tally

#: So many connections are looked at in one turn of the reactor, and sums over more are at most so many seconds old.
SLICE = 1000
FRESH_SECONDS = 5.0

#: The directions of ``Counters.tallies``: from services, from edges.
DIRECTIONS = ("service_to_edge", "edge_to_service")
TO_QUEUES = "edge_to_queue"


@dataclass(slots=True)
class Sums:
    """What the connections of one listener hold together; bytes that came and went include those of ended ones."""

    unsent: int = 0
    waiting: int = 0
    longest: int = 0
    held_back: int = 0
    streams: int = 0
    methods: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Tour:
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
            # Who leaves from here on is still in the list: so bytes never become fewer from one tour to the next.
            sums = found[factory.side] = Sums(bytes_in=factory.bytes_in, bytes_out=factory.bytes_out)
            for number, connection in enumerate(list(factory.connections), 1):
                leg = connection.leg
                sums.unsent += connection.unsent
                sums.waiting += leg.waiting_bytes
                sums.longest = max(sums.longest, leg.waiting_bytes)
                sums.held_back += leg.held_back
                sums.streams += len(leg.streams)
                sums.methods += len(leg.methods) if leg.online else 0
                sums.bytes_in += connection.bytes_in
                sums.bytes_out += connection.bytes_out
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
        self._tour = Tour(core, clock)
        self._bypass = bypass

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        sums = self._tour.read()
        yield from self._peers(sums)
        yield from self._connections(sums)
        yield from self._traffic(sums)
        yield from self._memory()
        if self._bypass is not None:
            yield from _bypass(self._bypass)

    def _peers(self, sums: dict[str, Sums]) -> Iterator[Metric]:
        core, repository = self._core, self._core.repository
        holdings, latecomers = repository.holdings, core.presence.latecomers
        yield _gauge("edges", "Edges online.", len(repository.edges))
        yield _gauge("services", "Services online.", len(repository.services))
        yield _gauge("edge_methods", "Methods registered by edges.", repository.edge_methods)
        yield _gauge("service_methods", "Methods registered by services.", sums[core.services.side].methods)
        yield _gauge("record_bytes", "Metas, names, topics and methods of all peers.", holdings.total)
        yield _gauge("record_bytes_limit", "Bound of frontier_record_bytes.", holdings.limit)
        yield _counter("records_refused", "Metas and methods refused for their size.", holdings.refused)
        yield _gauge("edges_coming", "Edges that services are being asked about.", len(core.presence.arrivals.coming))
        yield _counter("edges_renewed", "Edges asked to come again for an id.", latecomers.renewed)
        yield _counter("edges_announced_late", "Edges announced after they came.", latecomers.announced)

    def _connections(self, sums: dict[str, Sums]) -> Iterator[Metric]:
        sides = (self._core.edges, self._core.services)
        yield _by_side(
            "connections",
            "Connections, handshakes under way included.",
            [(each, len(each.connections)) for each in sides],
        )
        yield _by_side("connections_limit", "Connections at most.", [(each, each.most) for each in sides])
        yield _by_side(
            "connections_unknown",
            "Connections that have not introduced themselves.",
            [(each, each.door.strangers) for each in sides],
        )
        opened = CounterMetricFamily("frontier_connections_opened", "Connections accepted.", labels=["side"])
        refused = CounterMetricFamily(
            "frontier_connections_refused", "Newcomers turned away, by why.", labels=["side", "reason"]
        )
        closed = CounterMetricFamily(
            "frontier_connections_closed", "Connections that are over, by why.", labels=["side", "reason"]
        )
        received = CounterMetricFamily("frontier_received_bytes", "Bytes that came from peers.", labels=["side"])
        sent = CounterMetricFamily("frontier_sent_bytes", "Bytes that went to peers.", labels=["side"])
        for each in sides:
            opened.add_metric([each.side], each.accepted)
            for reason, count in each.refused.items():
                refused.add_metric([each.side, reason], count)
            for reason, count in each.ended_by.items():
                closed.add_metric([each.side, reason], count)
            received.add_metric([each.side], sums[each.side].bytes_in)
            sent.add_metric([each.side], sums[each.side].bytes_out)
        yield from (opened, refused, closed, received, sent)
        for name, text, values in (
            ("unsent_bytes", "Bytes that peers have not taken yet.", [sums[each.side].unsent for each in sides]),
            ("waiting_bytes", "Bytes that wait in the gateway for peers.", [sums[each.side].waiting for each in sides]),
            (
                "waiting_bytes_max",
                "Bytes that wait for the peer with the most of them.",
                [sums[each.side].longest for each in sides],
            ),
            (
                "waiting",
                "Calls and messages of these peers that wait until their receivers answer others.",
                [sums[each.side].held_back for each in sides],
            ),
        ):
            yield _by_side(name, text, list(zip(sides, values, strict=True)))

    def _traffic(self, sums: dict[str, Sums]) -> Iterator[Metric]:
        core, counters = self._core, self._core.exchange.counters
        messages, calls = (dict(zip(DIRECTIONS, tallies, strict=True)) for tallies in counters.tallies)
        yield _outcomes("calls", "Calls that are over, by direction and outcome.", calls)
        text = "Messages that are over, by direction and outcome."
        yield _outcomes("messages", text, {**messages, TO_QUEUES: counters.to_queues})
        yield _times("call_seconds", "Time from a call's coming to its answer's.", calls)
        yield _times("message_seconds", "Time from a message's coming to its acknowledgement's.", messages)
        yield _gauge("pending", "Calls and messages that wait for an answer.", core.exchange.pending_count)
        yield _gauge("streams", "Open streams.", sum(each.streams for each in sums.values()) // 2)
        yield _counter("streams_opened", "Streams opened.", counters.streams_opened)
        passed = CounterMetricFamily("frontier_stream_bytes", "Raw bytes of streams.", labels=["direction"])
        for direction, count in zip(DIRECTIONS, counters.stream_bytes, strict=True):
            passed.add_metric([direction], count)
        yield passed
        yield _gauge(
            "stream_waiting_bytes", "Bytes of streams that wait for their receivers.", core.exchange.doors.raw_bytes
        )
        yield _counter("streams_congested", "Streams ended as their receiver took nothing.", counters.streams_congested)
        yield _counter("throttled", "Times that a sender was stopped for a slow receiver.", counters.throttled)
        yield _counter("dropped", "Frames that belong to nothing: late answers, closed streams.", counters.dropped)
        yield _counter(
            "odd_json_stops", "Times a peer paid with waiting for much unusual JSON.", core.outlet.odd_json_stops
        )

    def _memory(self) -> Iterator[Metric]:
        exchange = self._core.exchange
        budget, counters, partial = exchange.budget, exchange.counters, exchange.partial_frames
        yield _gauge("held_bytes", "Bytes kept of what is not delivered, in the whole process.", budget.used)
        yield _gauge("held_bytes_limit", "Bound of frontier_held_bytes.", budget.limit)
        yield _gauge("partial_waiting", "Connections that wait with a frame for memory.", len(partial))
        yield _counter("partial_given_up", "Connections closed as they waited too long for memory.", partial.given_up)
        congested = CounterMetricFamily(
            "frontier_congested", "What was not let in because too much waits already.", labels=["for"]
        )
        congested.add_metric(["receiver"], counters.refused_congested)
        congested.add_metric(["memory"], counters.refused_memory)
        yield congested
        yield _gauge("timers", "Things that are due at some time.", len(self._core.alarms))


def _bypass(bypass: BypassFactory) -> Iterator[Metric]:
    yield _gauge("bypass_connections", "Connections that are relayed or not yet recognised.", len(bypass.connections))
    yield _gauge("bypass_held_bytes", "Bytes that relays hold at most for slow sides.", bypass.held_bytes)
    yield _counter("bypass_cut", "Relays cut for a side that took nothing.", bypass.cut)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"frontier_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"frontier_{name}", text, value=value)


def _by_side(name: str, text: str, values: Sequence[tuple[LegFactory, float]]) -> Metric:
    family = GaugeMetricFamily(f"frontier_{name}", text, labels=["side"])
    for factory, value in values:
        family.add_metric([factory.side], value)
    return family


def _outcomes(name: str, text: str, tallies: dict[str, Tally]) -> Metric:
    family = CounterMetricFamily(f"frontier_{name}", text, labels=["direction", "outcome"])
    for direction, tally in tallies.items():
        for outcome, count in tally.outcomes().items():
            family.add_metric([direction, outcome], count)
    return family


def _times(name: str, text: str, tallies: dict[str, Tally]) -> Metric:
    family = HistogramMetricFamily(f"frontier_{name}", text, labels=["direction"])
    for direction, tally in tallies.items():
        family.add_metric([direction], tally.buckets(), tally.seconds)
    return family
