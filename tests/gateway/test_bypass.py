"""Connections that speak another protocol are relayed; the others never notice."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from frontier_tx.gateway.bypass import SILENCE_SECONDS, BypassFactory, Relay
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.wire.connection import Connection, Role


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
    def __init__(self) -> None:
        self.clock = Clock()
        self.core = GatewayCore(self.clock)
        self.endpoint = Endpoint()
        self.factory = BypassFactory(self.core.edges, [self.endpoint], self.clock)  # type: ignore[list-item]
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
    assert not world.factory.sniffing


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
    assert not world.factory.sniffing


def test_a_silent_peer_is_relayed_after_a_while(world: World) -> None:
    world.clock.advance(SILENCE_SECONDS)
    assert len(world.endpoint.waiting) == 1


def test_an_unreachable_server_ends_the_connection(world: World) -> None:
    world.transport.protocol.dataReceived(b"GET")
    world.endpoint.waiting.pop()[1].errback(ConnectionRefusedError("refused"))
    assert not world.transport.connected
