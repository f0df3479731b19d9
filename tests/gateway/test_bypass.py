"""Connections that speak another protocol are relayed; the others never notice."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.internet.threads import deferToThread

from frontier_tx.gateway.bypass import SILENCE_SECONDS, BypassFactory, Relay
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.states import Role


class Transport(StringTransportWithDisconnection):
    disconnected = False


class Endpoint:
    """An endpoint whose connection is made when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, Deferred[IProtocol]]] = []

    def connect(self, factory: Any) -> "Deferred[IProtocol]":
        connecting: Deferred[IProtocol] = Deferred()
        self.waiting.append((factory, connecting))
        return connecting

    def succeed(self) -> tuple[Relay, Transport]:
        factory, connecting = self.waiting.pop()
        relay = factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = relay
        relay.makeConnection(transport)
        connecting.callback(relay)
        return relay, transport


class World:
    def __init__(self, servers: int = 1) -> None:
        self.clock = Clock()
        self.core = GatewayCore(self.clock)
        self.endpoints = [Endpoint() for _ in range(servers)]
        self.endpoint = self.endpoints[0]
        self.factory = BypassFactory(self.core.edges, self.endpoints, self.clock)  # type: ignore[arg-type]
        self.protocol = self.factory.buildProtocol(None)
        self.transport = Transport()
        self.transport.protocol = self.protocol
        assert self.protocol is not None
        self.protocol.makeConnection(self.transport)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("split", [1, 2, 5])
def test_this_wire_reaches_the_gateway_however_it_is_cut(world: World, split: int) -> None:
    end = Connection(Role.CLIENT, 0.0)
    end.connect(b"meta")
    hello = end.take_output()
    world.transport.protocol.dataReceived(hello[:split])
    world.transport.protocol.dataReceived(hello[split:])
    told = end.receive(world.transport.value(), 0.0)
    assert [type(item).__name__ for item in told] == ["ConnAccepted"]
    assert len(world.core.repository.edges) == 1
    assert not world.factory.connections


def test_another_protocol_is_relayed_both_ways(world: World) -> None:
    world.transport.protocol.dataReceived(b"GET / ")
    world.transport.protocol.dataReceived(b"HTTP/1.1\r\n")
    _, far = world.endpoint.succeed()
    assert far.value() == b"GET / HTTP/1.1\r\n"
    far.protocol.dataReceived(b"200")
    assert world.transport.value() == b"200"
    world.transport.protocol.dataReceived(b"more")
    assert far.value().endswith(b"more")
    far.loseConnection()
    assert not world.transport.connected
    assert not world.factory.connections


def test_a_silent_peer_is_relayed_after_a_while(world: World) -> None:
    world.clock.advance(SILENCE_SECONDS)
    assert len(world.endpoint.waiting) == 1


def test_the_next_server_is_tried() -> None:
    world = World(2)
    world.transport.protocol.dataReceived(b"GET")
    first, second = sorted(world.endpoints, key=lambda each: not each.waiting)
    first.waiting.pop()[1].errback(ConnectionRefusedError("refused"))
    _, far = second.succeed()
    assert far.value() == b"GET"
    assert world.transport.connected


def test_no_more_than_the_limit(world: World) -> None:
    world.core.edges.most = 2
    assert world.factory.buildProtocol(None) is not None
    assert world.factory.buildProtocol(None) is None


def test_an_unreachable_server_ends_the_connection(world: World) -> None:
    world.transport.protocol.dataReceived(b"GET")
    world.endpoint.waiting.pop()[1].errback(ConnectionRefusedError("refused"))
    assert not world.transport.connected


class Legacy:
    """A server that answers when the client has said everything, in a thread of its own."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            asked = b"".join(iter(lambda: connection.recv(65_536), b""))
            connection.sendall(b"%d bytes" % len(asked) + bytes(ANSWER))


ANSWER = 3_000_000


def ask(address: tuple[str, int], question: bytes) -> bytes:
    with socket.create_connection(address, 10) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest_twisted.inlineCallbacks
def test_one_side_may_finish_before_the_other() -> Iterator[Any]:
    """As with a client that shuts down its half to say that the request is complete."""
    legacy = Legacy()
    core = GatewayCore(reactor)
    endpoint = TCP4ClientEndpoint(reactor, *legacy.address)
    factory = BypassFactory(core.edges, [endpoint], reactor)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        answer = yield deferToThread(ask, ("127.0.0.1", port.getHost().port), b"q" * 500_000)
        assert answer == b"500000 bytes" + bytes(ANSWER)
        yield deferLater(reactor, 0.05)
        assert not factory.connections
    finally:
        yield port.stopListening()
        legacy.socket.close()
        legacy.thread.join()
