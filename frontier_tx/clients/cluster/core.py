"""A service of every Frontier that Frontlas lists, for any event loop: the parts put together, and its operations.

``clients.cluster`` and ``aio.cluster`` are this in their flavours. It wants a clock and endpoints, and no reactor.
"""

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypedDict

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.backoff import Backoff
from frontier_tx.clients.cluster.deadline import Deadline
from frontier_tx.clients.cluster.finder import Finder, Operation
from frontier_tx.clients.cluster.frontlas_client import EndpointFor, FrontlasClient
from frontier_tx.clients.cluster.member import Member
from frontier_tx.clients.cluster.roster import EVERY, Roster
from frontier_tx.clients.cluster.routes import LearningIntake, Routes
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.hosts import SessionHost
from frontier_tx.clients.core.intake import Done
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.reconnect import NOT_CONNECTED, Reconnector
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.core.values import edge_target, id_bytes, note
from frontier_tx.clients.deferring import deferred
from frontier_tx.clients.protocol import ClientProtocol, dial_to
from frontier_tx.clients.surface.flavour import Callbacks, Handler
from frontier_tx.clients.surface.speaking import StartOn
from frontier_tx.errors import Canceled, EndClosed, ForceClosed, OperationError
from frontier_tx.runtime.deferreds import Waiters
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet


class ClusterOptions(TypedDict, total=False):
    """What a cluster service may be told besides addresses, names and TLS."""

    #: The waits between attempts to connect to a Frontier.
    reconnect: Backoff
    #: Seconds for a connection to a Frontier or Frontlas, and for an answer of Frontlas (5).
    connect_timeout: float
    #: Seconds between two lists of Frontiers (10).
    poll: float
    #: For how many seconds it is remembered which Frontier holds an edge (60), and of how many edges (100,000).
    cache_seconds: float
    cache_bound: int
    #: Frontiers that are connected to at a time (1,000).
    max_frontiers: int
    #: Of each connection; see ``Service``.
    limits: Limits | None
    write_stall_seconds: float
    wall_clock: Callable[[], float]
    #: Called when a first connection is up, and with the reason when the last one ended.
    on_online: Callable[[], Any] | None
    on_offline: Callable[[str], Any] | None


class ClusterCore:
    """See the module.

    :param intake: what comes from edges, of all Frontiers.
    :param endpoint_for: makes the endpoint for a Frontier's host and port.
    :param home: where the service may be used. :param callbacks: calls what the program handed over.
    :param protocol: the class of connections. The other parameters are those of ``Service`` and ``ClusterOptions``.
    """

    def __init__(
        self,
        intake: LearningIntake,
        frontlas: FrontlasClient,
        clock: IReactorTime,
        endpoint_for: EndpointFor,
        *,
        home: Home,
        callbacks: Callbacks,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        reconnect: Backoff = Backoff(first=0.5),  # noqa: B008 - frozen
        connect_timeout: float = 5.0,
        poll: float = EVERY,
        cache_seconds: float = 60.0,
        cache_bound: int = 100_000,
        max_frontiers: int = 1_000,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
        wall_clock: Callable[[], float] = time.time,
        on_online: Callable[[], Any] | None = None,
        on_offline: Callable[[str], Any] | None = None,
        protocol: type[ClientProtocol] = ClientProtocol,
        log: Logger,
    ) -> None:
        id_bytes(service_id, "service_id")
        self.home = home
        self.intake = intake
        self.intake.heard = self._heard
        self.frontlas = frontlas
        self.routes = Routes(cache_seconds, cache_bound)
        self.roster = Roster(
            frontlas,
            clock,
            self._reconnector,
            callbacks,
            service_id=service_id,
            poll=poll,
            max_frontiers=max_frontiers,
            on_online=on_online,
            on_offline=on_offline,
            log=log,
        )
        self.finder = Finder(frontlas, self.roster, self.routes)
        self._clock = clock
        self._wall_clock = wall_clock
        self._meta = service_meta(name, topics)
        self._endpoint_for = endpoint_for
        self._alarms = Alarms(clock)
        self._outlet = Outlet(clock)
        self._limits = limits
        self._reconnect = reconnect
        self._connect_timeout = connect_timeout
        self._write_stall_seconds = write_stall_seconds
        self._protocol = protocol
        self._closers: Waiters[None] = Waiters()
        self._begun = False
        self._over = False

    def _reconnector(self, member: Member) -> Reconnector:
        endpoint = self._endpoint_for(member.listed.host, member.listed.port)
        made = Reconnector(
            dial_to(endpoint, self._alarms, self._outlet, self._limits, self._write_stall_seconds, self._protocol),
            self.intake,
            self._alarms,
            self._wall_clock,
            home=self.home,
            meta=self._meta,
            wanted_id=self.roster.service_id,
            tailed=True,
            reconnect=self._reconnect,
            attempt_seconds=self._connect_timeout,
            connected=member.connected,
            lost=member.lost,
            failing=member.failed,
        )
        made.owner = member
        return made

    def _heard(self, edge_id: int, connection: SessionHost) -> None:
        reconnector: Reconnector = connection.owner
        member = reconnector.owner
        self.routes.put(edge_id, member.frontier_id, member.epoch, self._clock.seconds(), heard=True)

    # -- beginning and end --------------------------------------------------------------------------------

    def connect(self, wait: bool = True) -> "Deferred[None]":
        """See ``Roster.begin``; where it fails, or is cancelled, all is over. RuntimeError: it was called before."""

        async def begin() -> None:
            if self.roster.closed:
                raise EndClosed
            if self._begun:
                raise RuntimeError("a client connects once; make a new one")
            self._begun = True
            try:
                await self.roster.begin(wait)
            except Exception:
                await self.close()
                raise

        return _operation(begin())

    def close(self) -> "Deferred[None]":
        """Say goodbye to all Frontiers and stop; fires when the connections are gone, in bounded time."""
        closed = self._closers.wait()
        if self._over:
            self._closers.tell(None)
        elif not self.roster.closed:
            self.frontlas.close()
            leaving = self.roster.close()
            self.intake.close()
            leaving.addBoth(self._left)
        return closed

    def _left(self, result: Any) -> None:
        self._over = True
        self._alarms.stop()
        self._closers.tell(None)

    # -- speaking -----------------------------------------------------------------------------------------

    def start_at(
        self,
        edge_id: int,
        start: StartOn,
        done: Done,
        timeout: float | None,
        deadline: float | None,
        fresh: bool = False,
    ) -> Operation:
        """Start an operation on an edge, wherever it is; see ``Finder.start``."""
        if not self._begun:
            error = EndClosed()
            error.add_note(NOT_CONNECTED)
            raise error
        limit = Deadline(self._clock, self._wall_clock, timeout, deadline)
        return self.finder.start(edge_id, start, limit, done, fresh)

    def open(self, target: str | int, meta: bytes, done: Done) -> Operation:
        """Open a stream to an edge, wherever it is; ``done`` gets its session.

        Frontlas is asked each time, unless the edge was heard just now: a stream to an edge that has moved opens and
        ends like any other.

        :raises TypeError: or ValueError, see ``edge_target``.
        """
        peer = edge_target(target)
        return self.start_at(
            int(peer), lambda session, left, done: session.connection.open(peer, meta, done), done, None, None, True
        )

    def register(self, method: str, handler: Handler, *, timeout: float | None = None) -> "Deferred[None]":
        """Answer calls of this method from edges of all Frontiers, present and later.

        :return: fires when the Frontiers that are connected know; fails with the first refusal of one, and the handler
            is forgotten. That a connection ended meanwhile is no failure: the next one begins with all methods.
        :raises TypeError: the name is not text, or nothing can be called.
        """
        methods = self.intake.methods
        before = note(methods, method, handler)

        async def tell_all() -> None:
            online = [member for member in self.roster.members.values() if member.online]
            outcomes: list[tuple[bool, Any]] = await DeferredList(list(map(tell, online)), consumeErrors=True)
            for ok, outcome in outcomes:
                error = None if ok else outcome.value
                refused = isinstance(error, OperationError) and error.origin != "caller"
                if error is None or (isinstance(error, EndClosed | ForceClosed) and not refused):
                    continue
                if refused and methods.get(method) is handler:
                    # Others would not take it either.
                    del methods[method]
                    if before is not None:
                        methods[method] = before
                raise error

        def tell(member: Member) -> "Deferred[None]":
            return deferred(lambda done: member.session().register(method, done, timeout))

        return _operation(tell_all())

    def sessions(self) -> list[StreamSession]:
        """The sessions of the open streams of all connections, however opened."""
        members = self.roster.members.values()
        connections = [member.reconnector.connection for member in members if member.online]
        return [stream for connection in connections if connection is not None for stream in connection.open_streams()]


def _operation(work: Coroutine[Any, Any, Any]) -> "Deferred[Any]":
    made: Deferred[Any] = Deferred.fromCoroutine(work)
    return made.addErrback(_canceled)


def _canceled(failure: Failure) -> Failure:
    if isinstance(failure.value, CancelledError):
        raise Canceled
    return failure
