"""Who may come in, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from frontier_tx.gateway.bypass import PIECE, BypassFactory
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.door import PATIENCE, Door, origin
from frontier_tx.gateway.factories import REFUSAL_LOG_SECONDS
from tests import packets
from tests.gateway.test_bypass import World as BypassWorld

CONN = packets.encode(packets.Conn(packet_id=7))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    said: list[str] = []

    def note(event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("frontier"):
            said.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(note)
    yield said
    globalLogPublisher.removeObserver(note)


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class House:
    """The edges' listener."""

    def __init__(self, **more: Any) -> None:
        self.clock = Clock()
        self.clock.advance(100.0)
        self.core = GatewayCore(self.clock, **more)
        self.edges = self.core.edges

    def knock(self, host: str = "10.0.0.1", says: bytes = b"") -> Any:
        address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 4000)
        protocol = self.edges.buildProtocol(address)
        if protocol is not None:
            protocol.makeConnection(Transport(peerAddress=address))
            if says:
                protocol.dataReceived(says)
        return protocol


def leave(protocol: Any) -> None:
    protocol.connectionLost(Failure(ConnectionDone()))


def test_what_counts_as_one_address() -> None:
    assert origin(IPv4Address("TCP", "10.1.2.3", 1)) == "10.1.2.3" == origin(IPv6Address("TCP", "::ffff:10.1.2.3", 1))
    assert origin(IPv6Address("TCP", "2001:db8::1", 1)) == origin(IPv6Address("TCP", "2001:db8::ffff:2", 1)) != ""
    assert origin(IPv6Address("TCP", "2001:db8:0:1::1", 1)) != origin(IPv6Address("TCP", "2001:db8::1", 1))
    for own in (IPv4Address("TCP", "127.0.0.9", 1), IPv6Address("TCP", "::1", 1), UNIXAddress("/x"), None):
        assert origin(own) == ""


def test_of_who_never_said_a_word_nothing_is_said_and_a_counter_moves(lines: list[str]) -> None:
    house = House()
    for _ in range(50):
        leave(house.knock())
    late = house.knock()
    house.clock.advance(11)
    assert late.transport.disconnecting
    leave(late)
    assert lines == [] and house.edges.ended_by["silent"] == 51 and not house.edges.connections
    leave(house.knock(says=b"GET / HTTP/1.1\r\n\r\n"))
    leave(house.knock(says=CONN[:5]))
    leave(house.knock(says=CONN))
    assert house.edges.ended_by["silent"] == 51 and len(lines) >= 3
    assert house.edges.door.held == house.edges.door.strangers == 0


def test_one_address_leaves_places_for_others_and_an_own_number_counts_for_all(lines: list[str]) -> None:
    house = House(connections=100)
    alone = [each for each in (house.knock("10.0.0.1", CONN) for _ in range(200)) if each is not None]
    assert len(alone) == 80
    assert house.knock("10.0.0.2", CONN) is not None
    assert len(lines) - 81 == 1 and "10.0.0.1:4000" in lines[80] and "connections_per_address" in lines[80]
    second = sum(house.knock("10.0.0.2", CONN) is not None for _ in range(100)) + 1
    assert second == 16 and house.knock("10.0.0.3", CONN) is not None
    leave(alone[0])
    assert house.edges.door.held == len(house.edges.connections) == 96
    own = House(connections=100)
    assert sum(own.knock("127.0.0.1", CONN) is not None for _ in range(200)) == 100
    set_ = House(connections=100, per_address=7)
    for host in ("127.0.0.1", "10.0.0.1", "2001:db8::1"):
        assert sum(set_.knock(host, CONN) is not None for _ in range(20)) == 7


def test_refusals_are_logged_now_and_then_with_their_number(lines: list[str]) -> None:
    house = House(connections=2)
    house.knock(says=CONN), house.knock(says=CONN)
    for _ in range(30):
        assert house.knock() is None
    assert len(lines) == 3 and "the limit is reached" in lines[2]
    house.clock.advance(REFUSAL_LOG_SECONDS)
    leave(next(iter(house.edges.connections)))
    house.knock()
    assert house.knock() is None
    assert lines[-1].endswith("(29 more before it)")
    assert house.edges.refused["limit"] == 31


def test_those_who_say_nothing_make_room_after_a_moment(lines: list[str]) -> None:
    house = House(strangers=10)
    silent = [house.knock(f"10.0.1.{number}") for number in range(10)]
    honest = house.knock("10.0.0.9")
    assert honest is None and "limits.handshakes" in lines[0]
    house.clock.advance(PATIENCE)
    honest = house.knock("10.0.0.9", CONN)
    assert honest.leg.online and silent[0].transport.aborted
    # Who has introduced itself is no stranger any more.
    assert house.edges.door.strangers == 9
    assert house.knock("10.0.0.9") is not None
    greedy = House(strangers=10)
    assert sum(greedy.knock("10.0.0.1") is not None for _ in range(50)) == 8
    assert greedy.knock("10.0.0.2") is not None


def test_places_are_counted_exactly_whatever_happens() -> None:
    now = [0.0]
    door = Door(5, strangers=3, now=lambda: now[0])
    door.enter("a", "x")
    door.enter("b", "")
    door.introduced("a"), door.introduced("a")
    door.leave("b"), door.leave("b"), door.leave("nobody")
    assert (door.held, door.strangers) == (1, 0)
    door.leave("a")
    assert (door.held, door._by_origin, door._strangers_by_origin) == (0, {}, {})


class Relayed(BypassWorld):
    """A world whose relays hold at most so much."""

    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.factory = BypassFactory(self.core.edges, self.endpoints, self.clock, **more)  # type: ignore[arg-type]

    def relay(self) -> tuple[Any, Any, Any]:
        sniffer: Any = self.factory.buildProtocol(None)
        near = type(self.transport)()
        near.protocol = sniffer
        sniffer.makeConnection(near)
        near.protocol.dataReceived(b"GET")
        relay, far = self.endpoint.succeed()
        return near, far, relay


def test_relays_hold_so_many_bytes_together_and_none_for_long() -> None:
    world = Relayed(held_bytes=2 * 2 * PIECE, stall_seconds=30.0)
    relays = [world.relay() for _ in range(3)]
    for near, _, _ in relays[:2]:
        near.producer.pauseProducing()
        world.clock.advance(1)
    assert world.factory.held_bytes == 4 * PIECE
    assert [far.producerState for _, far, _ in relays] == ["paused", "paused", "producing"]
    relays[2][1].producer.pauseProducing()
    assert world.factory.cut == 1 and not relays[0][0].connected and not relays[0][1].connected
    relays[1][0].producer.resumeProducing()
    world.clock.advance(40)
    assert world.factory.cut == 2 and relays[1][0].connected and not relays[2][0].connected
    assert world.factory.held_bytes == 0
