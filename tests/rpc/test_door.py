"""What an address gets of a port, however many connections it opens, and however often anew."""

from __future__ import annotations

from typing import Any

import pytest
from h2.errors import ErrorCodes
from prometheus_client import CollectorRegistry
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.addresses import KEPT, Addresses, Budget, address_key
from frontier_tx.rpc.door import Door
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.observability import observability_factory
from tests.rpc import support
from tests.rpc.support import Memory, RawPeer
from tests.rpc.test_hostile import REQUEST, SLOW, Peer, clean, works


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_what_counts_as_one_address(host: str, key: str) -> None:
    assert address_key(host) == key


class Guest:
    """A connection that rests since it came, or does not rest."""

    def __init__(self, since: float | None = 0.0) -> None:
        self.resting_since = since
        self.retired = False

    def retire(self) -> None:
        """Make room."""
        self.retired = True


def make_door(**limits: Any) -> tuple[Door, Clock, list[tuple[str, str]]]:
    """A door, its clock, and what it complained of."""
    clock, said = Clock(), []
    door = Door(clock, ControlPlaneLimits(**limits), Budget(), lambda peer, why: said.append((peer, why)))
    return door, clock, said


def test_an_idle_connection_makes_room_and_a_busy_one_does_not() -> None:
    door, clock, _ = make_door(connections_per_address=3)
    busy, idle, young = Guest(None), Guest(0.0), Guest(1.5)
    for guest in (busy, idle, young):
        assert door.enter(guest, "a")
    clock.advance(2)
    assert door.enter(Guest(None), "a")
    assert (busy.retired, idle.retired, young.retired) == (False, True, False)
    assert not door.enter(Guest(), "a")
    assert (door.refused, door.retired, len(door.inside)) == (1, 1, 3)


def test_when_all_is_taken_whoever_has_most_makes_room() -> None:
    door, clock, _ = make_door(connections=10)
    many = [Guest() for _ in range(8)]
    few = [Guest(), Guest()]
    for guest in many:
        door.enter(guest, "many")
    for guest in few:
        door.enter(guest, "few")
    clock.advance(2)
    for _ in range(3):
        assert door.enter(Guest(None), "new")
    assert sum(guest.retired for guest in many) == 3
    assert not any(guest.retired for guest in few)
    assert not door.enter(Guest(), "many")


def test_connecting_anew_is_bounded_per_address_and_told_once() -> None:
    door, clock, said = make_door(arrivals=5, arrivals_per_second=2.0)
    let_in = 0
    for _ in range(100):
        guest = Guest()
        let_in += door.enter(guest, "10.0.0.1")
        door.leave(guest)
    assert let_in == 5
    assert door.enter(Guest(), "10.0.0.2")
    assert [peer for peer, _ in said] == ["10.0.0.1"]
    clock.advance(1.0)
    assert [door.enter(Guest(), "10.0.0.1") for _ in range(3)] == [True, True, False]


def test_addresses_that_are_gone_are_forgotten() -> None:
    clock = Clock()
    addresses = Addresses(clock.seconds, 10, 1.0, 10, 1.0)
    for number in range(2 * KEPT):
        address = addresses.of(f"h{number}")
        address.arrivals.take(5, clock.seconds())
        addresses.joined(address)
        addresses.left(address)
    assert len(addresses) <= KEPT + 1
    clock.advance(60)
    for number in range(KEPT):
        address = addresses.of(f"i{number}")
        addresses.joined(address)
        addresses.left(address)
        clock.advance(0.001)
    assert len(addresses) <= 10


def from_host(memory: Memory, host: str) -> RawPeer:
    """A connection from an address."""
    protocol = memory.factory.buildProtocol(None)
    make = support.makeFakeServer

    def with_host(server: Any) -> Any:
        transport = make(server)
        transport.getPeer = lambda: IPv4Address("TCP", host, 1)
        return transport

    support.makeFakeServer = with_host
    try:
        return RawPeer(protocol, memory.clock)
    finally:
        support.makeFakeServer = make


def resets(memory: Memory, host: str, calls: int) -> int:
    """How many calls a new connection gets through that resets each of them."""
    peer = Peer.__new__(Peer)
    peer.begin(from_host(memory, host))
    peer.turn()
    for number in range(calls):
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, SLOW)
        peer.h2.send_data(stream, REQUEST, end_stream=True)
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        peer.turn()
        if peer.raw.over:
            assert peer.farewell is not None
            assert peer.farewell.error_code == ErrorCodes.ENHANCE_YOUR_CALM
            return number
    peer.raw.lose()
    return calls


def test_resets_are_not_renewed_by_connecting_anew() -> None:
    memory = Memory(http2=Http2Limits(flood_burst=200, flood_rate=10))
    done = [resets(memory, "10.0.0.1", 1000) for _ in range(10)]
    assert sum(done) < 2 * 200 + 10 * 25
    assert max(done[3:]) <= 20
    # Another address has all of its own, and of the same address whoever resets nothing is served.
    assert resets(memory, "10.0.0.2", 150) == 150
    assert works(memory)
    honest = Peer.__new__(Peer)
    honest.begin(from_host(memory, "10.0.0.1"))
    honest.turn()
    for _ in range(50):
        assert honest.call()
        honest.h2.ping(b"12345678")
        honest.turn()
        memory.clock.advance(0.1)
    assert not honest.raw.over
    memory.clock.advance(60)
    assert resets(memory, "10.0.0.1", 150) == 150


def test_many_connections_at_once_share_what_resets_they_have() -> None:
    memory = Memory(http2=Http2Limits(flood_burst=200, flood_rate=10))
    peers = []
    for _ in range(50):
        peer = Peer.__new__(Peer)
        peer.begin(from_host(memory, "10.0.0.1"))
        peer.turn()
        peers.append(peer)
    sent = 0
    for _ in range(300):
        for peer in peers:
            if not peer.raw.over:
                peer.raw_frames(b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678")
                sent += 1
    assert all(peer.raw.over for peer in peers)
    assert sent < 2 * 200 + 50 * 25
    clean(memory, *peers)


def test_the_pages_of_observability_have_a_door_too() -> None:
    clock = Clock()
    site = observability_factory(clock, lambda: None, CollectorRegistry())
    peers = [RawPeer(site.buildProtocol(None), clock) for _ in range(2001)]
    assert [peer.over for peer in peers] == [False] * 2000 + [True]
    assert b" 200 OK" in peers[0].send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    clock.advance(2)
    late = RawPeer(site.buildProtocol(None), clock)
    assert b" 200 OK" in late.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    for peer in [*peers, late]:
        peer.lose()
    assert not site.door.inside
