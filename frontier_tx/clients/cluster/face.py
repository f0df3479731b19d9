"""A service of every Frontier that Frontlas lists, in any flavour: the parts put together, and its operations.

It wants a clock and endpoints, and no reactor.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypedDict

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from frontier_tx.backoff import Backoff
from frontier_tx.clients.cluster.deadline import Deadline
from frontier_tx.clients.cluster.finder import Finder
from frontier_tx.clients.cluster.frontlas_client import EndpointFor, FrontlasClient
from frontier_tx.clients.cluster.member import FrontierState, Member
from frontier_tx.clients.cluster.roster import EVERY, Roster
from frontier_tx.clients.cluster.routes import LearningIntake, Routes
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.hosts import SessionHost
from frontier_tx.clients.core.intake import Bounds, Done
from frontier_tx.clients.core.operations import Run
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.reconnect import NOT_CONNECTED, Reconnector
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.core.values import edge_target, id_bytes, note
from frontier_tx.clients.deferring import deferred
from frontier_tx.clients.protocol import dial_to
from frontier_tx.clients.surface.client import Incoming
from frontier_tx.clients.surface.flavour import (
    AStream,
    Callbacks,
    GivesBytes,
    GivesMessage,
    GivesNothing,
    GivesStream,
    Handle,
    Handler,
    waiting_for,
)
from frontier_tx.clients.surface.speaking import EdgeSpeaker, Presence, StartOn
from frontier_tx.errors import EndClosed, ForceClosed, OperationError
from frontier_tx.runtime.deferreds import Waiters
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet


class ClusterOptions(TypedDict, total=False):
    """What a cluster service may be told besides addresses and TLS."""

    #: See ``Service``; without an id the first Frontier gives it.
    name: str
    topics: Sequence[str]
    service_id: int
    bounds: Bounds | None
    error_texts: bool
    #: The waits between attempts to connect to a Frontier.
    reconnect: Backoff
    #: Seconds for a connection to a Frontier or Frontlas, and for an answer of Frontlas (5).
    connect_timeout: float
    #: What Frontlas is shown, where it asks for a token.
    frontlas_token: str
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
    traceparent: Callable[[], str] | None


class ClusterFace(
    Incoming[GivesNothing, GivesMessage, GivesStream, AStream],
    EdgeSpeaker[GivesBytes, GivesNothing],
    Presence[GivesNothing],
    Generic[GivesBytes, GivesNothing, GivesMessage, GivesStream, AStream],
):
    """A service over all Frontiers of a cluster; its surface is that of ``Service``.

    :param frontlas: ``host:port`` of Frontlas, or several of them that share one registry.
    :param endpoint_for: makes the endpoint for a Frontier; ``frontlas_endpoint_for`` the same for Frontlas, ``secure``:
        over TLS. The other parameters are those of ``ClusterOptions``.
    """

    def __init__(
        self,
        frontlas: str | Sequence[str],
        clock: IReactorTime,
        home: Home,
        callbacks: Callbacks,
        run: Run,
        endpoint_for: EndpointFor,
        frontlas_endpoint_for: EndpointFor,
        secure: bool,
        *,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        bounds: Bounds | None = None,
        error_texts: bool = False,
        reconnect: Backoff = Backoff(first=0.5),  # noqa: B008 - frozen
        connect_timeout: float = 5.0,
        frontlas_token: str = "",
        poll: float = EVERY,
        cache_seconds: float = 60.0,
        cache_bound: int = 100_000,
        max_frontiers: int = 1_000,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
        wall_clock: Callable[[], float] = time.time,
        on_online: Callable[[], Any] | None = None,
        on_offline: Callable[[str], Any] | None = None,
        traceparent: Callable[[], str] | None = None,
    ) -> None:
        id_bytes(service_id, "service_id")
        meta = service_meta(name, topics)
        intake = LearningIntake(run, bounds, error_texts=error_texts)
        super().__init__(intake, home, callbacks)
        intake.traceparent = traceparent
        intake.heard = self._heard
        self.name = name
        self.topics = tuple(topics)
        #: What asks Frontlas; its ``trouble`` is empty while all is well.
        self.frontlas = FrontlasClient(
            frontlas,
            clock,
            frontlas_endpoint_for,
            secure=secure,
            timeout=connect_timeout,
            token=frontlas_token,
            log=self.log,
        )
        self.routes = Routes(cache_seconds, cache_bound)
        self._clock = clock
        self._wall_clock = wall_clock
        self._alarms = Alarms(clock)
        outlet = Outlet(clock)

        def reconnector(member: Member) -> Reconnector:
            endpoint = endpoint_for(member.listed.host, member.listed.port)
            made = Reconnector(
                dial_to(endpoint, self._alarms, outlet, limits, write_stall_seconds, self.protocol),
                intake,
                self._alarms,
                wall_clock,
                home=home,
                meta=meta,
                wanted_id=self.service_id,
                tailed=True,
                reconnect=reconnect,
                attempt_seconds=connect_timeout,
                connected=member.connected,
                lost=member.lost,
                failing=member.failed,
            )
            made.owner = member
            return made

        self.roster = Roster(
            self.frontlas,
            clock,
            reconnector,
            callbacks,
            service_id=service_id,
            poll=poll,
            max_frontiers=max_frontiers,
            on_online=on_online,
            on_offline=on_offline,
            log=self.log,
        )
        self.finder = Finder(self.frontlas, self.roster, self.routes)
        self._closers: Waiters[None] = Waiters()
        self._begun = False
        self._over = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_id}>"

    def _heard(self, edge_id: int, connection: SessionHost) -> None:
        member: Member = connection.owner.owner
        self.routes.put(edge_id, member.frontier_id, member.epoch, self._clock.seconds(), heard=True)

    # -- beginning and end --------------------------------------------------------------------------------

    def connect(self, wait: bool = True) -> GivesNothing:
        """Get the first list, and connect to all Frontiers on it.

        Where it fails, or is cancelled, all is over. It fails with FrontlasUnavailable or LookupRefused, where it waits
        with ConnectFailed when no Frontier could be connected to, and with EndClosed when it was closed.

        :param wait: for the first connection; it does not wait where the list is empty.
        """

        async def begin() -> None:
            if self._begun:
                raise RuntimeError("a client connects once; make a new one")
            if self.roster.closed:
                raise EndClosed
            self._begun = True
            try:
                await self.roster.begin(wait)
            except Exception:
                await deferred(self._close)
                raise

        def start(done: Done) -> Handle:
            self._home.settle()
            return waiting_for(lambda: Deferred.fromCoroutine(begin()))(done)

        result: GivesNothing = self._begin(start)
        return result

    def when_online(self) -> GivesNothing:
        """Done when a connection to any Frontier is up; EndClosed when there will be none."""
        result: GivesNothing = self._begin(waiting_for(self.roster.when_online))
        return result

    def _close(self, done: Done) -> Handle:
        waiting = waiting_for(self._closers.wait)(done)
        if self._over:
            self._closers.tell(None)
        elif not self.roster.closed:
            self.frontlas.close()
            leaving = self.roster.close()
            self.intake.close()
            leaving.addBoth(self._left)
        return waiting

    def _left(self, result: Any) -> None:
        self._over = True
        self._alarms.stop()
        self._closers.tell(None)

    @property
    def online(self) -> bool:
        """Whether a connection to any Frontier is up."""
        return self.roster.online

    @property
    def service_id(self) -> int:
        """The same at every Frontier; 0 before the first gave one."""
        return self.roster.service_id

    @property
    def frontiers(self) -> list[FrontierState]:
        """The Frontiers of the cluster as this service sees them."""
        return self.roster.states

    # -- speaking -----------------------------------------------------------------------------------------

    def _start_at(
        self,
        edge_id: int,
        start: StartOn,
        done: Done,
        timeout: float | None,
        deadline: float | None,
        fresh: bool = False,
    ) -> Handle:
        if not self._begun:
            error = EndClosed()
            error.add_note(NOT_CONNECTED)
            raise error
        limit = Deadline(self._clock, self._wall_clock, timeout, deadline)
        return self.finder.start(edge_id, start, limit, done, fresh)

    def open_stream(self, target: str | int, meta: bytes = b"") -> GivesStream:
        """Open a stream to an edge, wherever it is.

        Frontlas is asked each time, unless the edge was heard just now: a stream to an edge that has moved opens and
        ends like any other. TypeError, ValueError: no edge can have the id.
        """

        def start(done: Done) -> Handle:
            peer = edge_target(target)
            return self._start_at(
                int(peer), lambda session, left, done: session.connection.open(peer, meta, done), done, None, None, True
            )

        return self._opening(start)

    def _register(self, method: str, handler: Handler, done: Done, timeout: float | None) -> Handle:
        # That a connection ended meanwhile is no failure: the next one begins with all methods.
        methods = self.intake.methods
        before = note(methods, method, handler)

        def tell(member: Member) -> "Deferred[None]":
            return deferred(lambda done: member.session().register(method, done, timeout))

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

        return waiting_for(lambda: Deferred.fromCoroutine(tell_all()))(done)

    def _sessions(self) -> list[StreamSession]:
        members = self.roster.members.values()
        connections = [member.reconnector.connection for member in members if member.online]
        return [stream for connection in connections if connection is not None for stream in connection.open_streams()]
