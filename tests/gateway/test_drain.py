"""Leaving: who is told goodbye when, and that it always ends."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport

from frontier_tx.config.frontier import FrontierConfig
from frontier_tx.gateway.drain import SLICE, Drain
from frontier_tx.gateway.service import Gateway
from frontier_tx.runtime.launch import Ports
from frontier_tx.wire import frame as f
from tests import packets as p
from tests.switch.world import Peer, World

SECONDS = 10.0


class Leaving:
    """A gateway that is draining, and when it was over."""

    def __init__(self, world: World, seconds: float = SECONDS) -> None:
        self.world = world
        self.over: float | None = None
        self.drain = Drain(world.core, world.clock, seconds)
        self.began = world.clock.seconds()
        self.drain.start().addCallback(self._done)
        world.advance()

    def _done(self, _: Any) -> None:
        self.over = self.world.clock.seconds() - self.began

    def wait(self, seconds: float) -> None:
        self.world.advance(seconds, 0.05)


@pytest.fixture
def world() -> World:
    return World()


def gone(*peers: Peer) -> list[bool]:
    return [peer.closed for peer in peers]


def test_nobody_is_there(world: World) -> None:
    assert Leaving(world).over == 0


def test_idle_peers_go_at_once_services_last(world: World) -> None:
    service = world.service(methods=(b"edge_offline",))
    edges = [world.edge(), world.edge()]
    leaving = Leaving(world)
    leaving.wait(0.2)
    assert gone(*edges) == [True, True]
    assert {packet.data.key for packet in service.inbox if hasattr(packet, "data")} >= {b"edge_offline"}
    assert gone(service) == [False]
    for request in service.take(p.Message):
        service.respond(request)
    leaving.wait(0.5)
    assert leaving.over is not None
    world.check_empty()


def test_a_call_under_way_ends_first(world: World) -> None:
    service, edge, idle = world.service(), world.edge(), world.edge()
    number = service.call(b"slow", custom=edge.id.to_bytes(8))
    asked = edge.request()
    leaving = Leaving(world)
    leaving.wait(3)
    assert gone(service, edge, idle) == [False, False, True]
    edge.respond(asked, b"done")
    answer = service.response()
    assert (answer.packet_id, answer.data.value) == (number, b"done")
    leaving.wait(0.5)
    assert leaving.over is not None
    world.check_empty()


def test_a_call_that_is_not_answered_ends_with_the_time(world: World) -> None:
    service, edge = world.service(), world.edge()
    service.call(b"slow", custom=edge.id.to_bytes(8))
    leaving = Leaving(world)
    leaving.wait(SECONDS - world.core.edges.close_seconds - 0.1)
    assert gone(service, edge) == [False, False]
    leaving.wait(0.5)
    assert service.response().data.error == "force closed"
    leaving.wait(0.5)
    assert leaving.over is not None


def test_peers_that_never_answer_a_goodbye(world: World) -> None:
    peers = [world.service(), world.edge(), world.edge()]
    for peer in peers:
        peer.polite = False
    leaving = Leaving(world, 1.0)
    leaving.wait(1.2)
    assert leaving.over is not None and leaving.over <= 1.1
    assert gone(*peers) == [True] * 3
    world.check_empty()


def test_a_second_request_ends_it_now(world: World) -> None:
    service, edge = world.service(), world.edge()
    service.call(b"slow", custom=edge.id.to_bytes(8))
    leaving = Leaving(world)
    leaving.drain.hurry()
    world.advance()
    assert leaving.over == 0
    assert gone(service, edge) == [True, True]
    world.check_empty()


def test_goodbyes_are_spread(world: World) -> None:
    edges = [world.edge() for _ in range(400)]
    leaving = Leaving(world, 1.0)
    leaving.wait(0.1)
    assert 0 < sum(gone(*edges)) < 200
    leaving.wait(2.0)
    assert leaving.over is not None


def test_when_the_time_is_over_nobody_waits_for_his_turn(world: World) -> None:
    service, edges = world.service(), [world.edge() for _ in range(900)]
    for edge in edges:
        service.call(b"slow", custom=edge.id.to_bytes(8))
    leaving = Leaving(world, 1.0)
    leaving.wait(1.2)
    assert gone(*edges) == [True] * 900


def test_those_who_are_still_shaking_hands(world: World) -> None:
    service = world.service(methods=(b"edge_online",))
    silent, waiting = world.connect(world.core.edges), world.connect(world.core.edges)
    waiting.conn()
    asked = service.request()
    leaving = Leaving(world)
    leaving.wait(0.5)
    assert gone(silent, waiting) == [True, True]
    service.respond(asked)
    leaving.wait(1)
    assert leaving.over is not None
    world.check_empty()


def test_services_are_told_though_edges_do_not_go(world: World) -> None:
    service, edge = world.service(), world.edge()
    edge.polite = False
    service.call(b"slow", custom=edge.id.to_bytes(8))
    leaving = Leaving(world, 1.0)
    leaving.wait(0.9)
    assert [packet for packet in service.inbox if isinstance(packet, p.Bare)]
    leaving.wait(0.2)
    assert leaving.over is not None


def test_the_whole_time_is_what_the_configuration_says(world: World) -> None:
    """Some ask, some are silent, none answers a goodbye: a supervisor kills the process where it takes longer."""
    service, *edges = peers = [world.service(), *(world.edge() for _ in range(600))]
    for peer in peers:
        peer.polite = False
    for edge in edges[::2]:
        service.call(b"slow", custom=edge.id.to_bytes(8))
    leaving = Leaving(world)
    leaving.wait(SECONDS + 0.3)
    assert leaving.over is not None and leaving.over <= SECONDS + 0.1
    assert gone(*peers) == [True] * 601


class Reactor(MemoryReactorClock):
    """Knows which of its ports are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        opened = super().listenTCP(port, factory, backlog, interface)
        name = type(factory).__name__
        self.open.append(name)
        opened.stopListening = lambda: self.open.remove(name)
        return opened


@pytest.fixture
def own_gc() -> Iterator[None]:
    """Undoes what a gateway does to the garbage collector of its process."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("own_gc")
def test_health_can_be_asked_until_the_end() -> None:
    reactor = Reactor()
    gateway = Gateway(FrontierConfig(), Ports(reactor), Ports(reactor), reactor)
    gateway.startService()
    edge = gateway.core.edges.buildProtocol(None)
    assert edge is not None
    edge.makeConnection(StringTransport())
    edge.dataReceived(bytes.fromhex("0101000000000000000100 00000c 1800 0000000000000000 7b7d"))
    assert gateway.not_ready() is None
    done = gateway.stopService()
    assert gateway.not_ready() == "draining"
    assert reactor.open == ["HttpFactory"]
    reactor.pump([0.1] * 600)
    assert done.called
    assert reactor.open == []


def test_very_many_are_cut_in_slices_and_nobody_comes_in_meanwhile(world: World) -> None:
    edges = [world.edge() for _ in range(3 * SLICE)]
    leaving = Leaving(world, seconds=1000)
    assert world.core.edges.buildProtocol(None) is None
    cut_before = sum(edge.transport.aborted for edge in edges)
    leaving.drain.hurry()
    assert sum(edge.transport.aborted for edge in edges) - cut_before <= SLICE
    world.advance()
    assert leaving.over is not None
    assert all(edge.closed for edge in edges)
    world.check_empty()


def test_peers_that_never_end_are_not_waited_for(world: World) -> None:
    """They ask on, answer no goodbye and take nothing."""
    service = world.service()
    edges = [world.edge() for _ in range(3 * SLICE)]
    for edge in (service, *edges):
        edge.polite = False
    for edge in edges:
        service.call(b"m", custom=edge.id.to_bytes(8))
        edge.transport.block()
    leaving = Leaving(world)
    for _ in range(int((SECONDS + 6) / 0.05)):
        leaving.wait(0.05)
        for edge in edges:
            if not edge.closed:
                edge.send_bare(f.FrameType.HEARTBEAT)
    assert leaving.over is not None and leaving.over <= SECONDS + 0.2
    world.advance(1)
    world.check_empty()
