"""A gateway in this process on free loopback ports, and clients of it that leave with the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred

from frontier_tx.clients import Client, Edge, Service
from frontier_tx.gateway.core import GatewayCore


class World:
    """A gateway and its clients."""

    def __init__(self) -> None:
        self.core = GatewayCore(reactor)
        self.ports = [
            reactor.listenTCP(0, factory, interface="127.0.0.1") for factory in (self.core.edges, self.core.services)
        ]
        self.edge_port, self.service_port = (port.getHost().port for port in self.ports)
        self.clients: list[Client] = []

    async def edge(self, **options: Any) -> Edge:
        made = Edge("127.0.0.1", self.edge_port, reactor=reactor, **options)
        self.clients.append(made)
        await made.connect()
        return made

    async def service(self, **options: Any) -> Service:
        made = Service("127.0.0.1", self.service_port, reactor=reactor, **options)
        self.clients.append(made)
        await made.connect()
        return made

    async def stop(self) -> None:
        await DeferredList([client.close() for client in self.clients])
        for port in self.ports:
            await port.stopListening()
        for connection in self.core.connections():
            connection.abort("the test is over")
        self.core.alarms.stop()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))
