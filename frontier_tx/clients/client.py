"""Edge and Service for Twisted."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypedDict, Unpack

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, clientFromString, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint

from frontier_tx.backoff import Backoff
from frontier_tx.clients.core.channel import Channel
from frontier_tx.clients.core.home import ReactorHome
from frontier_tx.clients.core.intake import Bounds, Done, Intake
from frontier_tx.clients.core.keeper import Keeper
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.values import addressed, callback, edge_target
from frontier_tx.clients.deferring import Handler, deferred, run, tell
from frontier_tx.clients.dialling import dial_to
from frontier_tx.clients.incoming import Incoming, Presence
from frontier_tx.clients.link import ClientProtocol
from frontier_tx.clients.stream import Speaker, Stream
from frontier_tx.clients.where import host_of
from frontier_tx.errors import Replaced
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet

EDGE_PORT = 30012
SERVICE_PORT = 30011


class ClientOptions(TypedDict, total=False):
    """The parameters of ``Client`` that a service has too."""

    tls: IOpenSSLClientConnectionCreator | None
    reactor: Any
    reconnect: Backoff | None
    intake: Intake | None
    bounds: Bounds | None
    limits: Limits | None
    write_stall_seconds: float
    wall_clock: Callable[[], float]
    on_online: Callable[[], Any] | None
    on_offline: Callable[[str], Any] | None
    error_texts: bool | None


class Client(Incoming):
    """What edges and services have in common. Use it with ``async with``, or call ``connect`` and ``close``.

    :param endpoint: a host name, ``host:port``, a Twisted client endpoint, or its string form (``tls:host:port``).
    :param port: with a host name.
    :param tls: with a host name or ``host:port``: options as of ``twisted.internet.ssl.optionsForClientTLS``.
    :param reactor: the reactor; Twisted's installed one when None.
    :param reconnect: the waits between attempts when a connection is lost; None: no second one. The first
        connection is one attempt in either case.
    :param intake: handlers, messages and accepted streams, to be shared by several clients; its own when None.
    :param bounds: what may be held; given with ``intake`` it is the intake's that count.
    :param limits: of the wire.
    :param on_online: called each time that a connection is up, ``on_offline`` with the reason when it ended. Both may
        be coroutine functions; what they raise stands in the log.
    :param error_texts: whether callers read what a handler raised, whatever it was. Otherwise they do so of errors that
        are meant for them, and get a reference number of others. None: yes for an edge, whose callers are services; no
        for a service, whose callers may be anybody.
    """

    #: The class of the connections; a subclass of it may be put here.
    protocol: type[ClientProtocol] = ClientProtocol
    default_port: int
    tailed = False

    def __init__(
        self,
        endpoint: IStreamClientEndpoint | str = "127.0.0.1",
        port: int | None = None,
        *,
        tls: IOpenSSLClientConnectionCreator | None = None,
        reactor: Any = None,
        wanted_id: int = 0,
        meta: bytes = b"",
        reconnect: Backoff | None = Backoff(),  # noqa: B008 - frozen
        intake: Intake | None = None,
        bounds: Bounds | None = None,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
        wall_clock: Callable[[], float] = time.time,
        on_online: Callable[[], Any] | None = None,
        on_offline: Callable[[str], Any] | None = None,
        error_texts: bool | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        self._endpoint = self._as_endpoint(endpoint, port, tls)
        self._alarms = Alarms(reactor)
        self._owns_intake = intake is None
        told = not self.tailed if error_texts is None else error_texts
        self.intake = intake or Intake(run, bounds, error_texts=told)
        self._on_online = on_online and callback(on_online, "on_online")
        self._on_offline = on_offline and callback(on_offline, "on_offline")
        self.keeper = Keeper(
            dial_to(self._endpoint, self._alarms, Outlet(reactor), limits, write_stall_seconds, self.protocol),
            self.intake,
            self._alarms,
            wall_clock,
            home=ReactorHome(reactor),
            meta=meta,
            wanted_id=wanted_id,
            tailed=self.tailed,
            reconnect=reconnect,
            connected=self._came_online,
            lost=self._went_offline,
            finished=self._finished,
            cleared=self._alarms.stop,
            failing=self._cannot_connect,
        )
        self._home = self.keeper.home

    def _as_endpoint(
        self, endpoint: IStreamClientEndpoint | str, port: int | None, tls: IOpenSSLClientConnectionCreator | None
    ) -> IStreamClientEndpoint:
        named = host_of(endpoint, port, self.default_port) if isinstance(endpoint, str) else None
        if named is not None:
            made: IStreamClientEndpoint = HostnameEndpoint(self.reactor, *named)
            return made if tls is None else wrapClientTLS(tls, made)
        if port is not None or tls is not None:
            raise ValueError(f"port= and tls= go with a host name; {endpoint!r} is an endpoint, which says both itself")
        if isinstance(endpoint, str):
            parsed: IStreamClientEndpoint = clientFromString(self.reactor, endpoint)  # type: ignore[no-untyped-call]
            return parsed
        if not callable(getattr(endpoint, "connect", None)):
            raise TypeError(f"endpoint: expected a host name or a client endpoint, not {type(endpoint).__name__}")
        return endpoint

    def _came_online(self) -> None:
        self.log.debug("{who} online", who=self)
        if self._on_online is not None:
            tell(self.log, "on_online", self._on_online)

    def _went_offline(self, reason: str) -> None:
        if reason == Replaced.text:
            self.log.warn("{who} is offline: {reason}. Is there a second one of it?", who=self, reason=reason)
        else:
            self.log.debug("{who} offline: {reason}", who=self, reason=reason)
        if self._on_offline is not None:
            tell(self.log, "on_offline", self._on_offline, reason)

    def _cannot_connect(self, why: str) -> None:
        self.log.warn("{who} cannot connect: {why}; it keeps trying", who=self, why=why)

    def _finished(self) -> None:
        self._alarms.stop()
        if self._owns_intake:
            self.intake.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.keeper.client_id}>"

    # -- connecting ---------------------------------------------------------------------------------------

    def connect(self, *, keep_trying: bool = False) -> "Deferred[None]":
        """Connect: one attempt, or as many as it takes.

        :param keep_trying: go on with the waits of ``reconnect`` until a connection is up; the log says why it is not.
        :return: fires when the gateway accepted; fails with ConnectionRefused (the gateway's reason), with what the
            endpoint failed with, or with ConnectFailed.
        """

        def start(done: Done) -> Callable[[], None]:
            self.keeper.start(done, keep_trying=keep_trying)
            return self.keeper.give_up

        self._home.settle()
        return deferred(start)

    def when_online(self) -> "Deferred[None]":
        """Fires when a connection is up; EndClosed when there will be none."""

        self._home.check()
        return deferred(self.keeper.when_online)

    def close(self) -> "Deferred[None]":
        """Say goodbye and stop; fires when the connection is gone, in bounded time."""

        def start(done: Done) -> None:
            self.keeper.close(done)

        self._home.check()
        return deferred(start)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            # What somebody failed to write to the end must not look complete.
            for stream in self.list_streams():
                stream.abort()
        await self.close()

    @property
    def online(self) -> bool:
        """Whether a connection is up."""
        return self.keeper.online

    # -- speaking -----------------------------------------------------------------------------------------

    def _channel(self) -> Channel:
        return self.keeper.channel()

    def register(self, method: str, handler: Handler, *, timeout: float | None = None) -> "Deferred[None]":
        """Answer calls of this method, now and after each reconnect.

        :return: fires when the gateway knows; at once when no connection is up.
        """

        self._home.check()
        return deferred(lambda done: self.keeper.register(method, handler, done, timeout))

    # -- streams ------------------------------------------------------------------------------------------

    def open_stream(self, target: str, meta: bytes = b"") -> "Deferred[Stream]":
        """Open a stream; ``target`` is a service's name (from an edge) or an edge's id (from a service).

        To nobody it opens and ends at once: that is this protocol's way to say so.
        """
        self._home.check()
        return deferred(lambda done: self._channel().end.open(target, meta, self._streaming(done)))

    def list_streams(self) -> list[Stream]:
        """All open streams, however opened."""
        self._home.check()
        end = self.keeper.end
        return [self._stream(channel) for channel in end.streams()] if end is not None else []


class Edge(Client, Speaker):
    """A client of edgebound.

    :param meta: anything that services shall know of this edge.
    :param wanted_id: sent with each connect; a gateway that allocates ids ignores it.
    """

    default_port = EDGE_PORT

    @property
    def edge_id(self) -> int:
        """The id that the gateway gave; may change with a reconnect. 0 before the first."""
        return self.keeper.client_id


class Service(Client, Presence):
    """A client of servicebound. Parameters as of ``Client``, and:

    :param name: edges open streams to it, and logs show it.
    :param topics: messages of these topics come here.
    :param service_id: the id that it wants to have; 0: any.
    """

    default_port = SERVICE_PORT
    tailed = True

    def __init__(
        self,
        endpoint: IStreamClientEndpoint | str = "127.0.0.1",
        port: int | None = None,
        *,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(endpoint, port, meta=service_meta(name, topics), wanted_id=service_id, **options)
        self.name = name
        self.topics = tuple(topics)

    @property
    def service_id(self) -> int:
        """The id that the gateway confirmed; 0 before."""
        return self.keeper.client_id

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
        """Call a method of an edge; see ``Edge.call``. EdgeNotOnline when it is not there."""
        self._home.check()
        return deferred(
            lambda done: self._channel().call(
                method, data, done, custom=addressed(custom, edge_id), timeout=timeout, deadline=deadline
            )
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
        """Send a message to an edge; see ``Edge.publish``."""
        self._home.check()
        return deferred(
            lambda done: self._channel().publish(
                topic,
                data,
                done,
                custom=addressed(custom, edge_id),
                timeout=timeout,
                deadline=deadline,
                at_most_once=at_most_once,
            )
        )

    def open_stream(self, target: str | int, meta: bytes = b"") -> "Deferred[Stream]":
        """Open a stream to an edge: its id, also in decimal. ValueError when it cannot be one."""
        self._home.check()
        return maybeDeferred(lambda: super(Service, self).open_stream(edge_target(target), meta))
