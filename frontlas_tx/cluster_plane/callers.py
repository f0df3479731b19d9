"""Connections to the service ports of Frontiers, through which operators' calls and messages reach edges.

Frontlas is a service there like any other, which works with Frontiers of both implementations. A connection is made
when it is needed, and closed when nobody has used it for a while.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from frontier_tx.clients import Service
from frontier_tx.config.address import split_host_port
from frontier_tx.errors import ConnectFailed, EdgeNotOnline, EndClosed, NoSuchRPC
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.runtime.deferreds import Waiters
from frontlas_tx.registry.records import FrontierRecord

NAME = "frontlas"
"""What Frontiers, and lists of services, call these connections."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 60.0
SETTLED_SECONDS = 0.5
"""Time after which a Go Frontier that has let a service in forwards its calls; it takes milliseconds."""
AT_ONCE = 256
"""Connections; those in use are not closed for others."""

_T = TypeVar("_T")


class MakeService(Protocol):
    """Makes a service of the Frontier at an address, not connected yet; raises ``FrontierError``."""

    def __call__(self, host: str, port: int) -> Service: ...


class _Caller:
    """One connection, or the attempt at it."""

    def __init__(self, frontier: FrontierRecord, service: Service) -> None:
        self.frontier = frontier
        self.service = service
        self.waiters: Waiters[None] | None = Waiters()
        self.since = 0.0
        self.failed: RpcError | None = None
        self.users = 0
        self.used_at = 0.0


class Callers:
    """The connections of one Frontlas.

    :param make: see ``MakeService``.
    """

    log = Logger(namespace="frontlas.cluster_plane")

    def __init__(self, make: MakeService, clock: IReactorTime) -> None:
        self._make = make
        self._clock = clock
        self._callers: dict[str, _Caller] = {}
        self._sweep = LoopingCall(self._close_idle)
        self._sweep.clock = clock

    def __len__(self) -> int:
        return len(self._callers)

    def stop(self) -> Deferred[Any]:
        """Close all connections; fires when they are gone."""
        return DeferredList([self._close(caller) for caller in list(self._callers.values())])

    async def use(self, frontier: FrontierRecord, work: Callable[[Service], Awaitable[_T]]) -> _T:
        """Do something with a service of a Frontier.

        :raises RpcError: UNAVAILABLE, the Frontier cannot be reached; RESOURCE_EXHAUSTED, too many are in use.
        """
        try:
            return await self._use(frontier, work)
        except EndClosed:
            # It ended while nobody used it; nothing was sent.
            return await self._use(frontier, work)

    async def _use(self, frontier: FrontierRecord, work: Callable[[Service], Awaitable[_T]]) -> _T:
        caller = self._caller(frontier)
        caller.users += 1
        try:
            if caller.waiters is not None:
                await caller.waiters.wait()
            if caller.failed is not None:
                raise caller.failed
            while True:
                try:
                    return await work(caller.service)
                except (NoSuchRPC, EdgeNotOnline):
                    # A Go Frontier lets a service in before it forwards for it.
                    if frontier.version or self._clock.seconds() - caller.since > SETTLED_SECONDS:
                        raise
                    await deferLater(self._clock, SETTLED_SECONDS / 10)
        finally:
            caller.users -= 1
            caller.used_at = self._clock.seconds()

    def _caller(self, frontier: FrontierRecord) -> _Caller:
        caller = self._callers.get(frontier.frontier_id)
        if caller is not None:
            same = caller.frontier.advertised_sb_addr == frontier.advertised_sb_addr
            if same and (caller.waiters is not None or caller.service.online):
                return caller
            self._close(caller)
        if len(self._callers) >= AT_ONCE:
            unused = [each for each in self._callers.values() if not each.users]
            if not unused:
                text = f"calls to {AT_ONCE} Frontiers are under way; try again later"
                raise RpcError(Status.RESOURCE_EXHAUSTED, text)
            self._close(min(unused, key=lambda each: each.used_at))
        try:
            host, port = split_host_port(frontier.advertised_sb_addr)
            caller = _Caller(frontier, self._make(host, port))
        except ValueError as error:
            raise _unreachable(frontier, str(error)) from None
        self._callers[frontier.frontier_id] = caller
        if not self._sweep.running:
            self._sweep.start(IDLE_SECONDS / 4, now=False)
        connecting: Deferred[None] = caller.service.connect()
        connecting.addTimeout(CONNECT_SECONDS, self._clock, _too_slow)
        connecting.addCallbacks(
            lambda _: self._connected(caller, None),
            lambda failure: self._connected(caller, _unreachable(frontier, failure.getErrorMessage())),
        )
        return caller

    def _connected(self, caller: _Caller, error: RpcError | None) -> None:
        waiters, caller.waiters, caller.failed = caller.waiters, None, error
        caller.since = self._clock.seconds()
        if error is not None:
            self._close(caller)
        if waiters is not None:
            waiters.tell(None)

    def _close(self, caller: _Caller) -> Deferred[None]:
        if self._callers.get(caller.frontier.frontier_id) is caller:
            del self._callers[caller.frontier.frontier_id]
        closing: Deferred[None] = caller.service.close()
        closing.addErrback(lambda failure: self.log.failure("closing a connection to a Frontier", failure))
        if not self._callers and self._sweep.running:
            self._sweep.stop()
        return closing

    def _close_idle(self) -> None:
        now = self._clock.seconds()
        for caller in list(self._callers.values()):
            if not caller.users and now - caller.used_at >= IDLE_SECONDS:
                self._close(caller)


def _too_slow(_result: object, seconds: float) -> None:
    raise ConnectFailed(f"no connection within {seconds:g} s")


def _unreachable(frontier: FrontierRecord, why: str) -> RpcError:
    text = f"frontier {frontier.frontier_id} at {frontier.advertised_sb_addr} cannot be reached: {why}"
    return RpcError(Status.UNAVAILABLE, text)
