"""A gateway in memory: no socket, no port, and time passes only where the test lets it."""

from collections.abc import Awaitable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import Clock

from frontier_tx.clients import Edge, Service
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.testing.transports import MemoryEndpoint, MemoryTransport

T = TypeVar("T")

#: Unix seconds at which the clocks of a gateway in memory begin: 2030-01-01.
WALL_START = 1_893_456_000.0


class Stuck(AssertionError):
    """What the test waits for does not come, however long it waits within the time that it gave."""


class MemoryGateway:
    """A gateway and its clients, driven by a ``twisted.internet.task.Clock``.

    As a context manager it closes the clients that it made. Deadlines go by the same clock.

    :param clock: its own when None.
    :param options: those of ``GatewayCore``.
    """

    def __init__(self, clock: Clock | None = None, **options: Any) -> None:
        #: The clock; ``advance`` moves it.
        self.clock = clock or Clock()
        options.setdefault("wall_clock", self.wall_clock)
        #: The gateway itself: its repository, its exchange, ``kick_edge``.
        self.core = GatewayCore(self.clock, **options)
        self.edge_endpoint = MemoryEndpoint(self.clock, self.core.edges, 30012, self._connected)
        self.service_endpoint = MemoryEndpoint(self.clock, self.core.services, 30011, self._connected)
        self._transports: list[MemoryTransport] = []
        self._clients: list[Edge | Service] = []

    def _connected(self, client: MemoryTransport, server: MemoryTransport) -> None:
        self._transports = [each for each in self._transports if each.connected]
        self._transports.append(server)

    def wall_clock(self) -> float:
        """Unix seconds of this gateway and its clients."""
        return WALL_START + self.clock.seconds()

    # -- clients ------------------------------------------------------------------------------------------

    def edge(self, **options: Any) -> Edge:
        """Make an edge, not connected yet. Options as of ``Edge``."""
        made = Edge(self.edge_endpoint, reactor=self.clock, wall_clock=self.wall_clock, **options)
        self._clients.append(made)
        return made

    def service(self, **options: Any) -> Service:
        """Make a service, not connected yet. Options as of ``Service``."""
        made = Service(self.service_endpoint, reactor=self.clock, wall_clock=self.wall_clock, **options)
        self._clients.append(made)
        return made

    # -- faults -------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut every connection, as a network that fails does."""
        for transport in self._transports:
            transport.abortConnection()
        self._transports.clear()

    def listen(self, on: bool) -> None:
        """Let newcomers in or refuse them, as a gateway that is down does."""
        self.edge_endpoint.listening = self.service_endpoint.listening = on

    # -- time ---------------------------------------------------------------------------------------------

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, from one timer to the next, and work on everything that comes up by then."""
        end = self.clock.seconds() + seconds
        while self._step(end):
            pass
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def _step(self, end: float) -> bool:
        due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=None)
        if due is None or due > end:
            return False
        self.clock.advance(max(0.0, due - self.clock.seconds()))
        return True

    def run(self, awaitable: "Deferred[T] | Coroutine[Any, Any, T] | Awaitable[T]", within: float = 1.0) -> T:
        """Wait for a Deferred or a coroutine, and return its result or raise its error.

        :param within: seconds that may pass meanwhile; time moves only as far as it must.
        :raises Stuck: it has no result by then.
        """
        waited: Deferred[T] = awaitable if isinstance(awaitable, Deferred) else ensureDeferred(_awaited(awaitable))
        outcome: list[Any] = []
        waited.addBoth(outcome.append)
        end = self.clock.seconds() + within
        while not outcome and self._step(end):
            pass
        if not outcome:
            waited.addErrback(lambda failure: None)
            waited.cancel()
            raise Stuck(f"no result within {within:g} s of the test's clock")
        result = outcome[0]
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result  # type: ignore[no-any-return]

    # -- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the clients in order; what is still connected then is cut."""
        self.run(DeferredList([client.close() for client in self._clients]), within=60.0)
        self._clients.clear()
        for connection in self.core.connections():
            connection.abort("the test is over")
        self.advance()
        self.core.alarms.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
