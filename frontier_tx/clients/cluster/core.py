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
from frontier_tx.clients.cluster.deadline import TimeLimit
from frontier_tx.clients.cluster.finder import Finder, Operation
from frontier_tx.clients.cluster.frontlas_client import Atlas, EndpointFor
from frontier_tx.clients.cluster.member import Member, MemberKeeper
from frontier_tx.clients.cluster.roster import EVERY, Roster
from frontier_tx.clients.cluster.route_learning import HearingIntake
from frontier_tx.clients.cluster.routes import Routes
from frontier_tx.clients.core.end import End
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Done
from frontier_tx.clients.core.keeper import Keeper
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.stream_channel import StreamChannel
from frontier_tx.clients.core.values import addressed, edge_target, id_bytes, note
from frontier_tx.clients.deferring import Handler, deferred
from frontier_tx.clients.dialling import dial_to
from frontier_tx.clients.link import ClientProtocol
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
    :param home: where the service may be used.
    :param protocol: the class of connections. The other parameters are those of ``Service`` and ``ClusterOptions``.
    """

    def __init__(
        self,
        intake: HearingIntake,
        atlas: Atlas,
        clock: IReactorTime,
        endpoint_for: EndpointFor,
        *,
        home: Home | None = None,
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
        log: Logger | None = None,
    ) -> None:
        id_bytes(service_id, "service_id")
        self.home = home or Home()
        self.intake = intake
        self.intake.heard = self._heard
        self.atlas = atlas
        self.routes = Routes(cache_seconds, cache_bound)
        self.roster = Roster(
            atlas,
            clock,
            self._keeper,
            service_id=service_id,
            reconnect=reconnect,
            connect_timeout=connect_timeout,
            poll=poll,
            max_frontiers=max_frontiers,
            on_online=on_online,
            on_offline=on_offline,
            log=log or Logger(namespace="frontier.client"),
        )
        self.finder = Finder(atlas, self.roster, self.routes)
        self._clock = clock
        self._wall_clock = wall_clock
        self._meta = service_meta(name, topics)
        self._endpoint_for = endpoint_for
        self._alarms = Alarms(clock)
        self._outlet = Outlet(clock)
        self._limits = limits
        self._write_stall_seconds = write_stall_seconds
        self._protocol = protocol
        self._closers: Waiters[None] = Waiters()
        self._begun = False
        self._over = False

    def _keeper(self, member: Member, lost: Callable[[str], None]) -> Keeper:
        endpoint = self._endpoint_for(member.listed.host, member.listed.port)
        dial = dial_to(endpoint, self._alarms, self._outlet, self._limits, self._write_stall_seconds, self._protocol)
        keeper = MemberKeeper(
            dial,
            self.intake,
            self._alarms,
            self._wall_clock,
            home=self.home,
            meta=self._meta,
            wanted_id=self.roster.service_id,
            tailed=True,
            lost=lost,
        )
        keeper.member = member
        return keeper

    def _heard(self, edge_id: int, end: End) -> None:
        keeper = end.owner
        assert isinstance(keeper, MemberKeeper)
        member = keeper.member
        self.routes.put(edge_id, member.frontier_id, member.epoch, self._clock.seconds(), heard=True)

    # -- beginning and end --------------------------------------------------------------------------------

    def connect(self, wait: bool = True) -> "Deferred[None]":
        """See ``Roster.begin``; where it fails, or is cancelled, all is over. RuntimeError: it was called before."""

        async def begin() -> None:
            if self._begun and not self.roster.closed:
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
            self.atlas.close()
            leaving = self.roster.close()
            self.intake.close()
            leaving.addBoth(self._left)
        return closed

    def _left(self, result: Any) -> None:
        self._over = True
        self._alarms.stop()
        self._closers.tell(None)

    # -- speaking -----------------------------------------------------------------------------------------

    def call(
        self,
        edge_id: int,
        method: str,
        data: bytes,
        done: Done,
        *,
        custom: bytes = b"",
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> Operation:
        """Call a method of an edge, wherever it is."""
        addressed_to = addressed(custom, edge_id)
        return self.finder.start(
            edge_id,
            lambda channel, left, done: channel.call(
                method, data, done, custom=addressed_to, timeout=left, deadline=deadline
            ),
            TimeLimit(self._clock, self._wall_clock, timeout, deadline),
            done,
        )

    def publish(
        self,
        edge_id: int,
        topic: str,
        data: bytes,
        done: Done,
        *,
        custom: bytes = b"",
        timeout: float | None = None,
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> Operation:
        """Send a message to an edge, wherever it is."""
        addressed_to = addressed(custom, edge_id)
        return self.finder.start(
            edge_id,
            lambda channel, left, done: channel.publish(
                topic,
                data,
                done,
                custom=addressed_to,
                timeout=left,
                deadline=deadline,
                at_most_once=at_most_once,
            ),
            TimeLimit(self._clock, self._wall_clock, timeout, deadline),
            done,
        )

    def open(self, target: str | int, meta: bytes, done: Done) -> Operation:
        """Open a stream to an edge, wherever it is; ``done`` gets its channel.

        Frontlas is asked each time, unless the edge was heard just now: a stream to an edge that has moved opens and
        ends like any other.

        :raises TypeError: or ValueError, see ``edge_target``.
        """
        peer = edge_target(target)
        return self.finder.start(
            int(peer),
            lambda channel, left, done: channel.end.open(peer, meta, done),
            TimeLimit(self._clock, self._wall_clock),
            done,
            fresh=True,
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
            return deferred(lambda done: member.channel().register(method, done, timeout))

        return _operation(tell_all())

    def channels(self) -> list[StreamChannel]:
        """The streams of all connections, however opened."""
        return [
            channel
            for member in self.roster.members.values()
            if member.up is not None and member.up.end is not None
            for channel in member.up.end.streams()
        ]


def _operation(work: Coroutine[Any, Any, Any]) -> "Deferred[Any]":
    made: Deferred[Any] = Deferred.fromCoroutine(work)
    return made.addErrback(_canceled)


def _canceled(failure: Failure) -> Failure:
    if isinstance(failure.value, CancelledError):
        raise Canceled
    return failure
