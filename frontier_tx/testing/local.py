"""A gateway in this process on free loopback ports, for Twisted programs."""

from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from frontier_tx.clients import Client, Edge, Service
from frontier_tx.gateway.core import GatewayCore


class LocalGateway:
    """``async with LocalGateway() as gateway``: real sockets, real time. It closes the clients that it made.

    :param reactor: Twisted's installed one when None.
    :param options: those of ``GatewayCore``.
    """

    def __init__(self, reactor: Any = None, **options: Any) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        #: The gateway itself: its repository, its exchange, ``kick_edge``.
        self.core = GatewayCore(reactor, **options)
        self.edge_port = self.service_port = 0
        #: Closed with the gateway; others may be added.
        self.ports: list[IListeningPort] = []
        self.clients: list[Client] = []

    async def start(self) -> None:
        """Listen.

        :raises CannotListenError: the loopback has no free port.
        """
        factories = (self.core.edges, self.core.services)
        self.ports = [self.reactor.listenTCP(0, each, interface="127.0.0.1") for each in factories]
        self.edge_port, self.service_port = (port.getHost().port for port in self.ports)  # type: ignore[attr-defined]

    def edge(self, **options: Any) -> Edge:
        """Make an edge, not connected yet. Options as of ``Edge``."""
        made = Edge("127.0.0.1", self.edge_port, reactor=self.reactor, **options)
        self.clients.append(made)
        return made

    def service(self, **options: Any) -> Service:
        """Make a service, not connected yet. Options as of ``Service``."""
        made = Service("127.0.0.1", self.service_port, reactor=self.reactor, **options)
        self.clients.append(made)
        return made

    async def stop(self) -> None:
        """Close the clients in order, then the ports; what is still connected then is cut."""
        await DeferredList([client.close() for client in self.clients])
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        for connection in self.core.connections():
            connection.abort("the test is over")
        self.core.alarms.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()
