"""A gateway in an asyncio program's own loop: over socket pairs, or on free loopback ports."""

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred

from frontier_tx.aio import Edge, Service
from frontier_tx.aio.loop import LoopClock
from frontier_tx.aio.transport import Carrier
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.factories import LegFactory

C = TypeVar("C", Edge, Service)

#: A step of ``MovableLoop.advance`` in seconds, and the turns in which everything that a step brings up is worked on.
STEP = 0.5
TURNS = 8


class MemoryGateway:
    """``async with MemoryGateway() as gateway``: no port. It closes the clients that it made.

    :param options: those of ``GatewayCore``.
    """

    core: GatewayCore

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._clients: list[Edge | Service] = []

    async def start(self) -> None:
        """Begin, in the running loop."""
        self.core = GatewayCore(LoopClock(asyncio.get_running_loop()), **self._options)

    def edge(self, **options: Any) -> Edge:
        """Make an edge, not connected yet. Options as of ``Edge``."""
        return self._kept(Edge(self._dialer(self.core.edges), **options))

    def service(self, **options: Any) -> Service:
        """Make a service, not connected yet. Options as of ``Service``."""
        return self._kept(Service(self._dialer(self.core.services), **options))

    def _kept(self, client: C) -> C:
        self._clients.append(client)
        return client

    def _dialer(self, factory: LegFactory) -> Any:
        async def dial(client: Callable[[], asyncio.Protocol]) -> Any:
            loop = asyncio.get_running_loop()
            near, far = socket.socketpair()
            await loop.connect_accepted_socket(lambda: Carrier(factory, _heeded()), far)
            return await loop.create_connection(client, sock=near)

        return dial

    def cut(self) -> None:
        """Cut every connection, as a network that fails does."""
        for connection in self.core.connections():
            connection.abort("cut by the test")

    async def stop(self) -> None:
        """Close the clients in order; what is still connected then is cut."""
        for client in self._clients:
            await client.close()
        for connection in self.core.connections():
            connection.abort("the test is over")
        await asyncio.sleep(0)
        self.core.alarms.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()


class LocalGateway(MemoryGateway):
    """The same on free loopback ports, for programs that want an address."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.edge_port = self.service_port = 0
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen.

        :raises OSError: the loopback has no free port.
        """
        await super().start()
        self.edge_port, self.service_port = [
            await self._listen(factory) for factory in (self.core.edges, self.core.services)
        ]

    async def _listen(self, factory: LegFactory) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Carrier(factory, _heeded()), "127.0.0.1", 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def edge(self, **options: Any) -> Edge:
        """Make an edge, not connected yet. Options as of ``Edge``."""
        return self._kept(Edge("127.0.0.1", self.edge_port, **options))

    def service(self, **options: Any) -> Service:
        """Make a service, not connected yet. Options as of ``Service``."""
        return self._kept(Service("127.0.0.1", self.service_port, **options))

    async def stop(self) -> None:
        """Close the clients in order, then the ports; what is still connected then is cut."""
        for server in self._servers:
            server.close()
        await super().stop()
        for server in self._servers:
            await server.wait_closed()


class MovableLoop(asyncio.SelectorEventLoop):
    """A loop whose time tests move: ``with asyncio.Runner(loop_factory=MovableLoop) as runner``."""

    def __init__(self) -> None:
        self._ahead = 0.0
        super().__init__()

    def time(self) -> float:
        """Seconds of the loop's clock."""
        return super().time() + self._ahead

    async def advance(self, seconds: float) -> None:
        """Let time pass, in steps, and work on everything that comes up by then. Called in a task of this loop."""
        while seconds > 0:
            step = min(STEP, seconds)
            seconds -= step
            self._ahead += step
            for _ in range(TURNS):
                await asyncio.sleep(0)


def _heeded() -> "Deferred[Any]":
    """For a server nobody waits; a newcomer that the factory turns away is no error."""
    waiting: Deferred[Any] = Deferred()
    waiting.addErrback(lambda failure: None)
    return waiting
