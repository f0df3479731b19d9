"""A Frontier's link to Frontlas, both ends in memory: handshake, refusal, reports, extensions, gaps."""

import time
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from zope.interface.verify import verifyObject

from frontier_tx.atlas import messages as m
from frontier_tx.atlas.protocols import AtlasClientProtocol, AtlasServerFactory, IAtlas
from frontier_tx.atlas.reporter import Reporter
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.interfaces import IAtlasProtocol
from frontier_tx.timers import Alarms
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.states import Role
from frontlas_tx.frontier_plane import FrontierPlane
from frontlas_tx.registry.memory import MemoryRegistry

META = m.FrontierMeta("frontier01", "10.0.0.1:30011", "10.0.0.1:30012")


class Transport(StringTransportWithDisconnection):
    """One side of a pipe."""


class Pipe:
    """Joins two protocols; bytes travel when ``pump`` is called."""

    def __init__(self, client: Any, server: Any) -> None:
        self.ends = (client, server)
        self.transports = (Transport(), Transport())
        for end, transport in zip(self.ends, self.transports, strict=True):
            transport.protocol = end
        for end, transport in reversed(list(zip(self.ends, self.transports, strict=True))):
            end.makeConnection(transport)

    def pump(self) -> None:
        moved = True
        while moved:
            moved = False
            for n, transport in enumerate(self.transports):
                data = transport.value()
                transport.clear()
                other = self.transports[1 - n]
                if data and other.connected:
                    moved = True
                    self.ends[1 - n].dataReceived(data)
                if not transport.connected and other.connected:
                    other.loseConnection()

    def cut(self) -> None:
        for transport in self.transports:
            if transport.connected:
                transport.loseConnection()


class Endpoint:
    """Connects to a factory in memory, or refuses while ``away``."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.away = False
        self.pipes: list[Pipe] = []

    def connect(self, client_factory: Any) -> "Deferred[Any]":
        if self.away:
            return fail(ConnectionRefusedError("connection refused"))
        client = client_factory.buildProtocol(None)
        self.pipes.append(Pipe(getattr(client, "_wrappedProtocol", client), self.factory.buildProtocol(None)))
        return succeed(client)


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.alarms = Alarms(self.clock)
        self.outlet = Outlet(self.clock)
        self.registry = MemoryRegistry(self.clock)
        self.registry.start()
        self.plane = FrontierPlane(self.registry, self.clock)
        self.factory = AtlasServerFactory(self.plane, self.alarms, self.outlet)
        self.endpoint = Endpoint(self.factory)
        self.core = GatewayCore(self.clock, wall_clock=self.clock.seconds)

    def reporter(self, meta: m.FrontierMeta = META) -> Reporter:
        made = Reporter(
            self.core.repository,
            [self.endpoint],
            meta,
            self.clock,
            self.alarms,
            self.outlet,
            lambda: 0.5,
            wall_clock=self.clock.seconds,
        )  # type: ignore[list-item]
        self.core.presence.listeners.append(made)
        made.start()
        self.run(2)
        return made

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)
            for pipe in self.endpoint.pipes:
                pipe.pump()

    def edge(self, wanted: int) -> tuple[Any, Transport]:
        protocol = self.core.edges.buildProtocol(None)
        transport = Transport()
        transport.protocol = protocol
        assert protocol is not None
        protocol.makeConnection(transport)
        # The acquire bit clear: the edge brings its id.
        protocol.dataReceived(bytes.fromhex("010100000000000000010000000c1000") + wanted.to_bytes(8) + b"{}")
        return protocol, transport

    def holder(self, edge_id: int) -> str:
        found = result(self.registry.frontier_of_edge(edge_id))
        return found.frontier_id if found is not None else ""


def result(deferred: "Deferred[Any]") -> Any:
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    assert outcome, "still waiting"
    return outcome[0]


@pytest.fixture
def world() -> World:
    return World()


def test_edges_of_before_and_after_the_connect_are_known(world: World) -> None:
    world.edge(42)
    reporter = world.reporter()
    assert world.holder(42) == "frontier01"
    _, transport = world.edge(43)
    world.run(1)
    assert world.holder(43) == "frontier01"
    transport.loseConnection()
    world.run(1)
    assert world.holder(43) == ""
    assert reporter.waiting == 0
    assert reporter.trouble == ""


def test_a_frontier_that_knows_no_address_of_its_own_tells_that_of_its_link(world: World) -> None:
    world.reporter(m.FrontierMeta("frontier01", ":30011", "edges.example:30012"))
    [record] = result(world.registry.frontiers())
    host = world.endpoint.pipes[-1].transports[0].getHost().host
    assert (record.advertised_sb_addr, record.advertised_eb_addr) == (f"{host}:30011", "edges.example:30012")


def test_a_gap_of_the_link_is_made_good(world: World) -> None:
    world.edge(1)
    _, second = world.edge(2)
    reporter = world.reporter()
    world.endpoint.away = True
    world.endpoint.pipes[-1].cut()
    second.loseConnection()
    world.edge(3)
    world.run(4)
    assert reporter.trouble.startswith("cannot be reached (connection refused)")
    world.endpoint.away = False
    world.run(10)
    assert [world.holder(n) for n in (1, 2, 3)] == ["frontier01", "", "frontier01"]


def test_another_frontier_with_the_same_id_is_refused_by_name(world: World) -> None:
    world.reporter()
    other = world.reporter(m.FrontierMeta("frontier01", "10.0.0.2:30011", "10.0.0.2:30012"))
    assert other.trouble == "frontier already set"
    assert world.plane.links == 1


def test_a_frontier_that_lives_keeps_its_place_against_whoever_repeats_what_is_listed(world: World) -> None:
    world.edge(42)
    reporter = world.reporter()
    for boot in ("", "guessed"):
        other = world.reporter(m.FrontierMeta(META.frontier_id, META.service_addr, META.edge_addr, boot))
        assert other.trouble == "frontier already set"
        other.stop()
    assert reporter.trouble == ""
    assert (world.plane.links, world.holder(42)) == (1, "frontier01")


def test_a_frontier_whose_host_died_is_replaced_after_it_gave_no_sign_of_life(world: World) -> None:
    world.reporter()
    dead = world.endpoint.pipes.pop()
    other = world.reporter(m.FrontierMeta(META.frontier_id, META.service_addr, META.edge_addr, "another"))
    assert other.trouble == "not connected yet"
    world.run(2)
    assert other.trouble == ""
    assert not dead.transports[1].connected
    assert world.plane.links == 1


@pytest.mark.parametrize(
    ("meta", "error"),
    [
        (m.FrontierMeta("x" * 256, "h:1", "h:2"), "illegal frontier_id: 256 bytes, at most 255 are taken"),
        (m.FrontierMeta("é" * 128, "h:1", "h:2"), "illegal frontier_id: 256 bytes, at most 255 are taken"),
        (m.FrontierMeta("a\x1b[2J", "h:1", "h:2"), "illegal frontier_id: it has characters"),
        (m.FrontierMeta("a\u202eb", "h:1", "h:2"), "illegal frontier_id: it has characters"),
        (m.FrontierMeta("a", "h" * 300 + ":1", "h:2"), "illegal advertised_servicebound_addr: 302 bytes"),
        (m.FrontierMeta("a", "h:1", "h 1:2"), "illegal advertised_edgebound_addr: it has characters"),
        (m.FrontierMeta("a", "h:1", "h:2", "b" * 129), "illegal boot_id: 129 bytes"),
        (m.FrontierMeta("x" * 120_000, "h:1", "h:2"), "illegal meta: "),
    ],
)
def test_who_cannot_be_named_is_refused(world: World, meta: m.FrontierMeta, error: str) -> None:
    told = talk(raw(world, meta.encode()))
    assert told[0].error.startswith(error)
    assert world.plane.links == 0


def test_one_address_leaves_room_for_others(world: World) -> None:
    factory = AtlasServerFactory(world.plane, world.alarms, world.outlet, most=10)

    def connect(host: str) -> bool:
        return factory.buildProtocol(IPv4Address("TCP", host, 1)) is not None

    assert [connect("10.0.0.1") for _ in range(20)].count(True) == 5
    assert [connect("10.0.0.2") for _ in range(20)].count(True) == 3
    assert connect("10.0.0.3")
    assert factory.refused == 32
    for link in list(factory.connections):
        factory.left(link)
    assert [connect("10.0.0.1") for _ in range(20)].count(True) == 5


def test_the_id_of_a_frontier_is_the_same_every_time() -> None:
    assert META.client_id == m.FrontierMeta("frontier01", "", "").client_id
    assert 0 < META.client_id < 2**63


def test_a_link_without_extensions_reports_each_event(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontier_tx.atlas.protocols.EXTENSIONS", ())
    calls: list[str] = []
    called = world.plane.called
    monkeypatch.setattr(
        world.plane, "called", lambda link, method, value: (calls.append(method), called(link, method, value))[1]
    )
    edge, _ = world.edge(7)
    world.reporter()
    world.run(1)
    assert calls == ["edge_online"]
    edge.dataReceived(bytes.fromhex("0121000000000000000900000000"))
    world.run(1)
    assert calls == ["edge_online", "edge_heartbeat"]


def raw(world: World, meta: bytes, kind: str = "") -> Connection:
    protocol = world.factory.buildProtocol(None)
    transport = Transport()
    transport.protocol = protocol
    assert protocol is not None
    protocol.makeConnection(transport)
    end = Connection(Role.CLIENT, 0.0)
    end.connect(meta, kind=kind)
    end.context = (protocol, transport)
    return end


def talk(end: Connection) -> list[Any]:
    protocol, transport = end.context  # type: ignore[misc]
    protocol.dataReceived(end.take_output())
    protocol.outlet.flush()
    told = end.receive(transport.value(), 0.0)
    transport.clear()
    return told


@pytest.mark.parametrize(
    ("meta", "error"),
    [
        (b"[]", "json: cannot unmarshal array into Go value of type apis.FrontierInstance"),
        (b"{", "illegal meta"),
    ],
)
def test_unreadable_meta_is_refused(world: World, meta: bytes, error: str) -> None:
    told = talk(raw(world, meta))
    assert told[0].error.startswith(error)


@pytest.mark.parametrize("kind", ["edge", "service"])
def test_who_is_no_frontier_is_told_so(world: World, kind: str) -> None:
    told = talk(raw(world, META.encode(), kind))
    assert told[0].error.startswith("this is the port where Frontlas listens for Frontiers")


@pytest.mark.parametrize(
    ("method", "value", "error"),
    [
        ("edge_online", b"{}", "illegal edge_id 0"),
        (
            "edge_online",
            b'{"edge_id":"7"}',
            "json: cannot unmarshal string into Go struct field EdgeOnline.edge_id of type uint64",
        ),
        ("edge_online", b"[]", "json: cannot unmarshal array into Go value of type apis.EdgeOnline"),
        ("nope", b"{}", "no such rpc: nope"),
        ("x_events", b"{}", "illegal x_events"),
        ("x_events", b'[["edge_online",{"edge_id":0}]]', "illegal edge_id 0"),
        ("frontier_stats", b"{}", ""),
    ],
)
def test_every_request_is_answered(world: World, method: str, value: bytes, error: str) -> None:
    from frontier_tx.wire import frame as f
    from frontier_tx.wire.body import decode_message, message_json

    end = raw(world, META.encode())
    talk(end)
    end.write(f.pack_of_session(f.REQUEST, 5, 1, message_json(key=method.encode(), value=value)))
    answers = [x for x in talk(end) if isinstance(x, f.Frame) and x.type == f.RESPONSE]
    assert [x.packet_id for x in answers] == [5]
    text = decode_message(answers[0].body)[0].error
    assert text.startswith(error) if error else text == ""


def test_events_survive_the_way(world: World) -> None:
    event = m.PeerEvent(m.SERVICE_ONLINE, 2**64 - 1, "f", "1.2.3.4:5", '{"service":"s","topics":null}')
    assert m.PeerEvent.decode(event.method, event.encode()) == event
    assert m.decode_events(m.encode_events([event])) == ([event], "")


@pytest.mark.parametrize("text", [b"[" + b"0," * 1_000_000 + b"0]", b"[" + b'["",0],' * 1000 + b'["",0]]'])
def test_a_list_of_too_many_events_is_refused_where_it_gets_too_long(text: bytes) -> None:
    at = time.process_time()
    with pytest.raises(m.BadEvent, match="at most 1000 events"):
        m.decode_events(text)
    assert time.process_time() - at < 0.05
    assert len(m.decode_events(b"[" + b'["",0],' * 999 + b'["",0]]')[0]) == 0
    assert m.decode_events(b"[]") == ([], "")


@pytest.mark.parametrize("piece", [b'"":0,', b'"addr":"",'])
def test_an_event_that_is_made_to_be_slow_is_refused(piece: bytes) -> None:
    text = b"{" + piece * 500_000 + b'"edge_id":1}'
    at = time.process_time()
    with pytest.raises(m.BadEvent):
        m.PeerEvent.decode(m.EDGE_ONLINE, text)
    with pytest.raises(m.BadEvent):
        m.FrontierMeta.decode(b"[" + text + b"]")
    assert time.process_time() - at < 0.05


def test_what_a_frontier_and_an_edge_say_of_themselves_arrives(world: World) -> None:
    meta = m.FrontierMeta("frontier01", "10.0.0.1:30011", "10.0.0.1:30012", "x", "9.9", 1_799_999_000)
    assert m.FrontierMeta.decode(meta.encode()) == meta
    world.edge(5)
    long = '{"model":"' + "é" * 500 + '"}'
    world.core.repository.edges[5].meta = long.encode()
    world.reporter(meta)
    [frontier] = result(world.registry.frontiers())
    assert (frontier.version, frontier.started) == ("9.9", 1_799_999_000)
    kept = result(world.registry.edge(5)).meta
    assert len(kept.encode()) == m.EDGE_META_BYTES and long.startswith(kept)


def test_interfaces(world: World) -> None:
    assert verifyObject(IAtlas, world.plane)
    assert verifyObject(IAtlasProtocol, world.factory.buildProtocol(None))
    assert verifyObject(IAtlasProtocol, AtlasClientProtocol(META, world.alarms, world.outlet, world.reporter()))


def test_what_comes_behind_many_events_waits_for_them(world: World) -> None:
    from frontier_tx.wire import frame as f
    from frontier_tx.wire.body import message_json

    end = raw(world, META.encode())
    talk(end)
    protocol, transport = end.context  # type: ignore[misc]
    there = [m.PeerEvent(m.EDGE_ONLINE, n, "frontier01", "h:1") for n in range(1, 1001)]
    gone = [m.PeerEvent(m.EDGE_OFFLINE, n, "frontier01") for n in range(2, 1001)]
    calls = [
        (m.SYNC_BEGIN, b"{}"),
        (m.EVENTS, m.encode_events(there)),
        (m.EDGE_OFFLINE, gone[-1].encode()),
        (m.EVENTS, m.encode_events(gone[:-1])),
        (m.SYNC_END, b"{}"),
        (m.EDGE_ONLINE, there[1].encode()),
    ]
    for packet_id, (method, value) in enumerate(calls, 5):
        body = message_json(key=method.encode(), value=value)
        protocol.dataReceived(f.pack_of_session(f.REQUEST, packet_id, 1, body))
    assert transport.producerState == "paused"
    assert 0 < result(world.registry.counts()).edges < 1000
    for _ in range(100):
        world.clock.advance(0.001)
    assert transport.producerState == "producing"
    answers = [x for x in end.receive(transport.value(), 0.0) if isinstance(x, f.Frame) and x.type == f.RESPONSE]
    assert sorted(answer.packet_id for answer in answers) == [5, 6, 7, 8, 9, 10]
    assert result(world.registry.counts()).edges == 2
    assert [world.holder(n) for n in (1, 2, 3, 1000)] == ["frontier01", "frontier01", "", ""]
