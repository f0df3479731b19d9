"""ClusterService for Twisted: a service of every Frontier that Frontlas lists. See docs/cluster-service.md."""

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail
from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.clients.atlas import Atlas, EndpointFor, FrontlasUnavailable, Listed
from frontier_tx.clients.channel import Channel, Message
from frontier_tx.clients.client import Service
from frontier_tx.clients.deferring import Handler, deferred, run
from frontier_tx.clients.intake import Bounds, Done, Intake
from frontier_tx.clients.keeper import Backoff, ConnectFailed
from frontier_tx.clients.member import FrontierState, Member
from frontier_tx.clients.presence import EdgeEvent, event_handler, id_handler
from frontier_tx.clients.routes import Routes
from frontier_tx.clients.stream import Messages, Stream
from frontier_tx.errors import FrontierError
from frontier_tx.switch.errors import EdgeNotOnline, FarSideClosed
from frontier_tx.wire.errors import (
    Canceled,
    DeadlineExceeded,
    EndClosed,
    ForceClosed,
    LocalError,
    MultiplexerClosed,
    OperationTimeout,
)

#: Seconds between two lists.
EVERY = 10.0
#: Lists in a row that do not name a connected Frontier, until it is left.
LISTS = 3
#: Seconds from the news of a Frontier that joined to the list that names it; news meanwhile need no list of their own.
SETTLE = 0.2
#: Seconds between the starts of connections while nobody has given this service its id.
STAGGER = 0.5

#: What certainly did not reach the edge.
_UNDONE = (EdgeNotOnline, EndClosed, MultiplexerClosed, ConnectFailed)


class TooManyFrontiers(LocalError):
    """Frontlas names more Frontiers than this service may connect to."""


class ClusterService(Messages):
    """A service over all Frontiers of a cluster; its surface is that of ``Service``.

    :param frontlas: ``host:port`` of Frontlas, or several of them that share one registry.
    :param name: see ``Service``, as ``topics`` and ``service_id``; without an id the first Frontier gives it.
    :param tls: for the connections to Frontiers; ``frontlas_tls`` for those to Frontlas.
    :param connect_timeout: seconds for a connection to a Frontier or Frontlas, and for an answer of Frontlas.
    :param poll: seconds between two lists of Frontiers.
    :param cache_seconds: for how long it is remembered which Frontier holds an edge; ``cache_bound`` edges at most.
    :param max_frontiers: connected to at a time.
    :param endpoint_for: makes the endpoint for a listed host and port; ``frontlas_endpoint_for`` for Frontlas.
    :param on_online: called when a first connection is up, ``on_offline`` with the reason when the last one ended.
    :param options: further ones of ``Service``, for each connection.
    """

    log = Logger(namespace="frontier.client")

    def __init__(
        self,
        frontlas: str | Sequence[str] = "127.0.0.1:40011",
        *,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        tls: IOpenSSLClientConnectionCreator | None = None,
        frontlas_tls: IOpenSSLClientConnectionCreator | None = None,
        reactor: Any = None,
        reconnect: Backoff = Backoff(first=0.5),  # noqa: B008 - frozen
        connect_timeout: float = 5.0,
        poll: float = EVERY,
        cache_seconds: float = 60.0,
        cache_bound: int = 100_000,
        max_frontiers: int = 1_000,
        bounds: Bounds | None = None,
        endpoint_for: EndpointFor | None = None,
        frontlas_endpoint_for: EndpointFor | None = None,
        wall_clock: Callable[[], float] = time.time,
        on_online: Callable[[], None] | None = None,
        on_offline: Callable[[str], None] | None = None,
        **options: Any,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        self.name = name
        self.topics = tuple(topics)
        #: The same at every Frontier; 0 before the first gave one.
        self.service_id = service_id
        self.intake = Intake(run, bounds)
        self.atlas = Atlas(
            [frontlas] if isinstance(frontlas, str) else frontlas,
            reactor,
            tls=frontlas_tls,
            timeout=connect_timeout,
            endpoint_for=frontlas_endpoint_for,
        )
        self.routes = Routes(cache_seconds, cache_bound)
        #: Operations that were made again at another Frontier, and lists that came.
        self.retries = 0
        self.lists = 0
        self._tls = tls
        self._backoff = reconnect
        self._connect_timeout = connect_timeout
        self._poll = poll
        self._max_frontiers = max_frontiers
        self._endpoint_for = endpoint_for
        self._wall_clock = wall_clock
        self._on_online = on_online
        self._on_offline = on_offline
        self._options = options
        self._members: dict[str, Member] = {}
        self._waiters: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None
        self._pioneer: IDelayedCall | None = None
        self._watch_timer: IDelayedCall | None = None
        self._listing = False
        self._list_trouble = ""
        self._full_told = False
        self._up = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_id}>"

    # -- connecting ---------------------------------------------------------------------------------------

    def connect(self, wait: bool = True) -> "Deferred[None]":
        """Get the first list, and connect to all Frontiers on it.

        :param wait: for the first connection; it does not wait where the list is empty.
        :return: fails, and all is over, with FrontlasUnavailable or LookupRefused, or, where it waits, with
            ConnectFailed when no Frontier could be connected to.
        """

        async def begin() -> None:
            try:
                await self._refresh()
                if wait and self._members:
                    await self._first_connection()
            except Exception:
                await self.close()
                raise
            if not self._closed:
                self._timer = self.reactor.callLater(self._poll, self._poll_due)
                self._watch()

        return _operation(begin())

    def when_online(self) -> "Deferred[None]":
        """Fires when a connection to any Frontier is up; EndClosed when there will be none."""
        waiter: Deferred[None] = Deferred()
        if self.online:
            waiter.callback(None)
        elif self._closed:
            waiter.errback(EndClosed())
        else:
            self._waiters.append(waiter)
        return waiter

    def close(self) -> "Deferred[None]":
        """Say goodbye to all Frontiers and stop; fires when the connections are gone, in bounded time."""
        self._closed = True
        for timer in (self._timer, self._pioneer, self._watch_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self.atlas.close()
        closing = [member.close() for member in self._members.values()]
        self._members.clear()
        self._tell(EndClosed())
        self.intake.close()
        done: Deferred[None] = Deferred()
        DeferredList(closing, consumeErrors=True).addCallback(lambda _: done.callback(None))
        return done

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def online(self) -> bool:
        """Whether a connection to any Frontier is up."""
        return self._up > 0

    @property
    def frontiers(self) -> list[FrontierState]:
        """The Frontiers of the cluster as this service sees them."""
        return [member.state for member in self._members.values()]

    # -- speaking -----------------------------------------------------------------------------------------

    def call(
        self,
        edge_id: int,
        method: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> "Deferred[bytes]":
        """Call a method of an edge, wherever it is; see ``Service.call``. The time limits cover the look-up.

        :return: fails also with UnknownEdge (an EdgeNotOnline), FrontlasUnavailable, LookupRefused, ConnectFailed.
        """
        return self._at_edge(
            edge_id,
            lambda service, left: service.call(edge_id, method, data, custom, timeout=left, deadline=deadline),
            _Limit(self.reactor, self._wall_clock, timeout, deadline),
        )

    def publish(
        self,
        edge_id: int,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        topic: str = "",
        timeout: float | None = None,
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> "Deferred[None]":
        """Send a message to an edge, wherever it is; see ``Service.publish`` and ``call``."""
        return self._at_edge(
            edge_id,
            lambda service, left: service.publish(
                edge_id, data, custom, topic=topic, timeout=left, deadline=deadline, at_most_once=at_most_once
            ),
            _Limit(self.reactor, self._wall_clock, timeout, deadline),
        )

    def open_stream(self, target: str | int, meta: bytes = b"") -> "Deferred[Stream]":
        """Open a stream to an edge, wherever it is.

        Frontlas is asked each time, because a stream to an edge that has moved opens and ends like any other; what
        is remembered serves while Frontlas is away.
        """
        try:
            edge_id = int(target)
        except ValueError:
            raise ValueError(f"{target!r} is not the id of an edge") from None
        return self._at_edge(
            edge_id,
            lambda service, left: service.open_stream(target, meta),
            _Limit(self.reactor, self._wall_clock, None, None),
            fresh=True,
        )

    def register(self, method: str, handler: Handler, *, timeout: float | None = None) -> "Deferred[None]":
        """Answer calls of this method from edges of all Frontiers, present and later.

        :return: fires when the Frontiers that are connected know; fails with the first refusal of one. That a
            connection ended meanwhile is no failure: the next one begins with all methods.
        """
        self.intake.methods[method] = handler

        async def tell_all() -> None:
            telling = [
                member.service.register(method, handler, timeout=timeout)
                for member in self._members.values()
                if member.service is not None
            ]
            outcomes: list[tuple[bool, Any]] = await DeferredList(telling, consumeErrors=True)
            for ok, outcome in outcomes:
                if not ok and not isinstance(outcome.value, EndClosed | ForceClosed):
                    raise outcome.value

        return _operation(tell_all())

    def register_get_edge_id(self, function: Callable[[bytes], Any]) -> "Deferred[None]":
        """See ``Service.register_get_edge_id``."""
        return self.register("get_edge_id", id_handler(function))

    def register_edge_online(self, function: Callable[[EdgeEvent], Any]) -> "Deferred[None]":
        """See ``Service.register_edge_online``."""
        return self.register("edge_online", event_handler(function))

    def register_edge_offline(self, function: Callable[[EdgeEvent], Any]) -> "Deferred[None]":
        """See ``Service.register_edge_offline``."""
        return self.register("edge_offline", event_handler(function))

    def receive(self) -> "Deferred[Message]":
        """Return the next message from an edge of any Frontier; see ``Service.receive``."""
        return deferred(self.intake.messages.take)

    def accept_stream(self) -> "Deferred[Stream]":
        """Return the next stream that an edge of any Frontier opened."""

        def start(done: Done) -> Any:
            return self.intake.streams.take(
                lambda channel, error: done(None if channel is None else self._stream(channel), error)
            )

        return deferred(start)

    def on_stream(self, callback: Callable[[Stream], Any] | None) -> None:
        """Give each accepted stream to ``callback``; None: let them wait for ``accept_stream``."""
        if callback is None:
            self.intake.on_stream = None
            return
        taken = callback
        self.intake.on_stream = lambda channel: taken(self._stream(channel))

    def list_streams(self) -> list[Stream]:
        """All open streams of all connections, however opened."""
        return [
            stream
            for member in self._members.values()
            if member.service is not None
            for stream in member.service.list_streams()
        ]

    def _stream(self, channel: Channel) -> Stream:
        return channel.owner if channel.owner is not None else Stream(channel, self.reactor)

    # -- finding edges ------------------------------------------------------------------------------------

    def _at_edge(
        self,
        edge_id: int,
        start: "Callable[[Service, float | None], Deferred[Any]]",
        limit: "_Limit",
        fresh: bool = False,
    ) -> "Deferred[Any]":
        async def operate() -> Any:
            member = await self._holder(edge_id, limit, fresh)
            epoch = member.epoch
            try:
                return await self._once(edge_id, member, start, limit)
            except _UNDONE as error:
                first = error
            try:
                again = await self._holder(edge_id, limit, True)
            except FrontierError:
                raise first from None
            if again is member and again.epoch == epoch:
                raise first
            self.retries += 1
            return await self._once(edge_id, again, start, limit)

        return _operation(operate())

    async def _once(
        self,
        edge_id: int,
        member: Member,
        start: "Callable[[Service, float | None], Deferred[Any]]",
        limit: "_Limit",
    ) -> Any:
        left = limit.left()
        if member.service is None:
            self.routes.drop(edge_id)
            raise EndClosed
        try:
            return await start(member.service, left)
        except (*_UNDONE, FarSideClosed, ForceClosed):
            self.routes.drop(edge_id)
            raise

    async def _holder(self, edge_id: int, limit: "_Limit", fresh: bool) -> Member:
        if self._closed:
            raise EndClosed
        known = self.routes.get(edge_id)
        held = self._members.get(known.frontier_id) if known is not None else None
        if known is not None and (held is None or not held.online or held.epoch != known.epoch):
            self.routes.drop(edge_id)
            held = None
        if held is not None and known is not None and not fresh and self.reactor.seconds() < known.until:
            return held
        try:
            listed = await limit.over(Deferred.fromCoroutine(self.atlas.holder(edge_id)))
        except FrontlasUnavailable:
            if held is not None and held.online:
                return held
            raise
        except EdgeNotOnline:
            self.routes.drop(edge_id)
            raise
        if self._closed:
            raise EndClosed
        member = self._member(listed)
        if not member.online:
            await limit.over(member.when_online())
        self.routes.put(edge_id, member.frontier_id, member.epoch, self.reactor.seconds())
        return member

    # -- following the list -------------------------------------------------------------------------------

    def _poll_due(self) -> None:
        self._listing = True
        listing = Deferred.fromCoroutine(self._refresh())
        listing.addErrback(self._list_failed)
        listing.addBoth(self._poll_again)

    def _watch(self) -> None:
        watching = Deferred.fromCoroutine(self.atlas.watch_joins(self._joined))
        watching.addBoth(self._watch_over)

    def _watch_over(self, result: Any) -> None:
        # Why it ended does not matter: the lists tell of trouble, and go on by themselves.
        if not self._closed:
            self._watch_timer = self.reactor.callLater(self._poll, self._watch)

    def _joined(self) -> None:
        timer = self._timer
        if not self._listing and timer is not None and timer.active():
            timer.reset(min(SETTLE, max(0.0, timer.getTime() - self.reactor.seconds())))

    def _poll_again(self, result: Any) -> None:
        self._listing = False
        if not self._closed:
            self._timer = self.reactor.callLater(self._poll, self._poll_due)

    def _list_failed(self, failure: Failure) -> None:
        # Frontlas that is away is named by the atlas, once.
        text = failure.getErrorMessage()
        if self._closed or isinstance(failure.value, FrontlasUnavailable) or text == self._list_trouble:
            return
        self._list_trouble = text
        self.log.warn("Frontlas gives no list of Frontiers: {text}", text=text)

    async def _refresh(self) -> None:
        listed = {one.frontier_id: one for one in await self.atlas.frontiers()}
        if self._closed:
            return
        self.lists += 1
        self._list_trouble = ""
        for member in list(self._members.values()):
            if member.frontier_id in listed:
                continue
            member.missing += 1
            if member.missing >= LISTS or not member.online:
                self._drop(member, f"{member.missing} lists in a row did not name it")
        for one in listed.values():
            try:
                self._member(one).missing = 0
            except TooManyFrontiers as error:
                if not self._full_told:
                    self._full_told = True
                    self.log.warn("{error}", error=error)
                break

    def _member(self, listed: Listed) -> Member:
        member = self._members.get(listed.frontier_id)
        if member is not None:
            if (member.host, member.port) == (listed.host, listed.port):
                return member
            self._drop(member, f"its address is now that of {listed.host} port {listed.port}")
        if len(self._members) >= self._max_frontiers:
            raise TooManyFrontiers(f"no more than {self._max_frontiers} Frontiers are connected to (max_frontiers)")
        member = self._members[listed.frontier_id] = Member(
            self, listed.frontier_id, listed.host, listed.port, self._backoff, self._connect_timeout
        )
        if self.service_id:
            member.start()
        elif self._pioneer is None:
            self._next_pioneer()
        return member

    def _next_pioneer(self) -> None:
        # One after the other until one gives the id that all others are to be asked for.
        self._pioneer = None
        waiting = [member for member in self._members.values() if not member.started]
        if waiting and not self.service_id and not self._closed:
            self._pioneer = self.reactor.callLater(STAGGER, self._next_pioneer)
            waiting[0].start()

    def _drop(self, member: Member, why: str) -> None:
        self.log.info("Frontier {id} is left: {why}", id=member.frontier_id, why=why)
        self._members.pop(member.frontier_id, None)
        leaving = member.close()
        leaving.addErrback(lambda failure: None)

    # -- what members tell --------------------------------------------------------------------------------

    def dial(self, member: Member, on_offline: Callable[[str], None]) -> Service:
        """See ``member.Cluster``."""
        options = {**self._options, "on_offline": on_offline}
        if self._endpoint_for is not None:
            where: tuple[Any, ...] = (self._endpoint_for(member.host, member.port),)
        else:
            where = (member.host, member.port)
            options["tls"] = self._tls
        return Service(
            *where,
            name=self.name,
            topics=self.topics,
            service_id=self.service_id,
            reactor=self.reactor,
            reconnect=None,
            intake=self.intake,
            wall_clock=self._wall_clock,
            **options,
        )

    def member_online(self, member: Member) -> None:
        """See ``member.Cluster``."""
        assert member.service is not None
        self.log.info("Frontier {id} is connected", id=member.frontier_id)
        self._up += 1
        if not self.service_id:
            self.service_id = member.service.service_id
            for other in self._members.values():
                if not other.started:
                    other.start()
        self._tell(None)
        if self._up == 1 and self._on_online is not None:
            self._on_online()

    def member_offline(self, member: Member, reason: str) -> None:
        """See ``member.Cluster``."""
        self._up -= 1
        if not self._closed and member.frontier_id in self._members:
            self.log.warn("Frontier {id} is lost: {why}", id=member.frontier_id, why=reason)
        if not self._up and self._on_offline is not None:
            self._on_offline(reason)

    def member_failed(self, member: Member) -> None:
        """See ``member.Cluster``."""
        if member.failures == 1 and not self._closed:
            self.log.warn("{refusal}", refusal=member.refusal())
        if not self.service_id and self._pioneer is not None and self._pioneer.active():
            self._pioneer.reset(0)

    async def _first_connection(self) -> None:
        # Fails when each of them was tried; they are tried in parallel or one soon after the other.
        while not self.online:
            trying = [member for member in self._members.values() if not member.failures]
            if not trying:
                raise ConnectFailed("; ".join(str(member.refusal()) for member in self._members.values()))
            outcome: Deferred[Any] = Deferred()
            self._waiters.append(outcome)
            timer = self.reactor.callLater(STAGGER, _fire, outcome)
            try:
                await outcome
            finally:
                if timer.active():
                    timer.cancel()
                if outcome in self._waiters:
                    self._waiters.remove(outcome)

    def _tell(self, error: Exception | None) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.called:
                continue
            if error is None:
                waiter.callback(None)
            else:
                waiter.errback(error)


class _Limit:
    """A caller's time limits, from now on."""

    def __init__(
        self, clock: Any, wall_clock: Callable[[], float], timeout: float | None, deadline: float | None
    ) -> None:
        self._clock = clock
        now = clock.seconds()
        self._timeout_at = None if timeout is None else now + timeout
        self._deadline_at = None if deadline is None else now + deadline - wall_clock()

    def left(self) -> float | None:
        """What is left of the timeout.

        :raises OperationTimeout: nothing. ``DeadlineExceeded``: the deadline passed.
        """
        now = self._clock.seconds()
        if self._deadline_at is not None and now >= self._deadline_at:
            raise DeadlineExceeded
        if self._timeout_at is None:
            return None
        if now >= self._timeout_at:
            raise OperationTimeout
        return float(self._timeout_at - now)

    def over(self, waiting: "Deferred[Any]") -> "Deferred[Any]":
        """End a wait when the time is over."""
        ends = [
            (when, late)
            for when, late in ((self._timeout_at, OperationTimeout), (self._deadline_at, DeadlineExceeded))
            if when is not None
        ]
        if ends:
            when, late = min(ends, key=lambda end: end[0])
            waiting.addTimeout(
                max(0.0, when - self._clock.seconds()), self._clock, lambda result, _: fail(late())
            )
        return waiting


def _operation(work: Coroutine[Any, Any, Any]) -> "Deferred[Any]":
    made: Deferred[Any] = Deferred.fromCoroutine(work)

    def canceled(failure: Failure) -> Failure:
        if isinstance(failure.value, CancelledError):
            raise Canceled
        return failure

    made.addErrback(canceled)
    return made


def _fire(waiter: "Deferred[Any]") -> None:
    if not waiter.called:
        waiter.callback(None)
