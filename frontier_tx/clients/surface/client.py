"""What all clients have in common, and a client of one gateway."""

import time
from collections.abc import Callable
from typing import Any, Generic, Self, TypedDict, cast

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from frontier_tx.backoff import Backoff
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Bounds, Done, Inbox, Intake
from frontier_tx.clients.core.operations import Message, Run
from frontier_tx.clients.core.reconnect import Reconnector
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.core.values import callback as checked
from frontier_tx.clients.core.values import edge_target
from frontier_tx.clients.protocol import ClientProtocol, dial_to
from frontier_tx.clients.surface.flavour import (
    AStream,
    Callbacks,
    GivesBytes,
    GivesMessage,
    GivesNothing,
    GivesStream,
    Handle,
    Handler,
    Registering,
    Start,
    tell,
)
from frontier_tx.clients.surface.speaking import EdgeSpeaker, Presence, Speaker, StartOn
from frontier_tx.clients.surface.streams import Messages
from frontier_tx.errors import Replaced
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet


class Incoming(
    Messages[GivesMessage], Registering[GivesNothing], Generic[GivesNothing, GivesMessage, GivesStream, AStream]
):
    """The beginning and end of any client, and what comes to it.

    :param callbacks: calls what the program handed over.
    """

    log = Logger(namespace="frontier.client")
    #: The class of the connections; a subclass of it may be put here.
    protocol: type[ClientProtocol] = ClientProtocol

    def __init__(self, intake: Intake, home: Home, callbacks: Callbacks) -> None:
        self.intake = intake
        self._home = home
        self._callbacks = callbacks

    def _stream(self, session: StreamSession) -> AStream:
        """Return the one stream of a session."""
        raise NotImplementedError

    def _sessions(self) -> list[StreamSession]:
        """Return the sessions of all open streams."""
        raise NotImplementedError

    def _close(self, done: Done) -> Handle:
        raise NotImplementedError

    def _messages(self) -> Inbox[Message]:
        return self.intake.messages

    def connect(self) -> GivesNothing:
        """Connect."""
        raise NotImplementedError

    def close(self) -> GivesNothing:
        """Say goodbye and stop; done when the connections are gone, in bounded time.

        What was written to streams is sent first. A stream on which somebody is still writing is cut, so that it does
        not look complete: a callback of ``on_stream`` runs, somebody waits for ``drain``, or a producer is registered.
        """
        result: GivesNothing = self._begin(self._close)
        return result

    async def __aenter__(self) -> Self:
        await cast("Any", self.connect())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            # What was written only in part must not look complete.
            for session in self._sessions():
                session.abort()
        await cast("Any", self.close())

    def accept_stream(self) -> GivesStream:
        """Return the next stream that the other side opened."""
        result: GivesStream = self._next(self.intake.streams, self._stream)
        return result

    def on_stream(self, callback: Callable[[AStream], Any] | None) -> None:
        """Give each stream, those that wait included, to ``callback``; None: let them wait for ``accept_stream``.

        The callback may be asynchronous. Where it fails the stream is cut, and the log says why.
        """
        self._home.check()
        if callback is None:
            self.intake.on_stream = None
            return
        given = checked(callback, "on_stream")

        def accepted(session: StreamSession) -> None:
            def failed(failure: Failure) -> None:
                self.log.failure("on_stream failed; the stream is closed", failure, LogLevel.error)

            with session.served() as over:
                self._callbacks.begin(failed, over, given, self._stream(session))

        self.intake.serve(accepted)

    def list_streams(self) -> list[AStream]:
        """All open streams, however opened."""
        self._home.check()
        return [self._stream(session) for session in self._sessions()]

    def _opening(self, start: Start) -> GivesStream:
        """Open a stream; ``start`` gives its session."""

        def begin(done: Done) -> Handle:
            return start(lambda session, error: done(None if session is None else self._stream(session), error))

        result: GivesStream = self._begin(begin, lambda stream: stream.session.abort())
        return result


class ClientOptions(TypedDict, total=False):
    """What edges and services may be told; see ``ClientFace``."""

    reconnect: Backoff | None
    intake: Intake | None
    bounds: Bounds | None
    limits: Limits | None
    write_stall_seconds: float
    wall_clock: Callable[[], float]
    on_online: Callable[[], Any] | None
    on_offline: Callable[[str], Any] | None
    error_texts: bool | None
    traceparent: Callable[[], str] | None


class EdgeOptions(ClientOptions, total=False):
    """What edges may be told besides; services say it with their names and ``service_id``."""

    wanted_id: int
    meta: bytes


class ClientFace(Incoming[GivesNothing, GivesMessage, GivesStream, AStream]):
    """What edges and services have in common. Use it with ``async with``, or call ``connect`` and ``close``.

    :param wanted_id: sent with each connect; a gateway that allocates ids ignores it. :param meta: who this is.
    :param reconnect: the waits between attempts when a connection is lost; None: no second one. The first
        connection is one attempt in either case.
    :param intake: handlers, messages and accepted streams, to be shared by several clients; its own when None.
    :param bounds: what may be held; given with ``intake`` it is the intake's that count.
    :param limits: of the wire.
    :param on_online: called each time that a connection is up, ``on_offline`` with the reason when it ended. Both may
        be asynchronous; what they raise stands in the log.
    :param error_texts: whether callers read what a handler raised, whatever it was. Otherwise they do so of errors that
        are meant for them, and get a reference number of others. None: yes for an edge, whose callers are services; no
        for a service, whose callers may be anybody.
    :param traceparent: returns the W3C trace context of the moment, or an empty text. It goes along with calls and
        messages where gateway and far end take it; ``Request.traceparent`` and ``Message.traceparent`` hold what came.
        ``tracing.spans.traceparent`` is one for OpenTelemetry. With an ``intake`` it is the intake's that counts.
    """

    default_port: int
    tailed: bool

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        clock: IReactorTime,
        home: Home,
        callbacks: Callbacks,
        run: Run,
        *,
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
        traceparent: Callable[[], str] | None = None,
    ) -> None:
        told = not self.tailed if error_texts is None else error_texts
        super().__init__(intake or Intake(run, bounds, error_texts=told, traceparent=traceparent), home, callbacks)
        self._owns_intake = intake is None
        self._alarms = Alarms(clock)
        self._on_online = on_online and checked(on_online, "on_online")
        self._on_offline = on_offline and checked(on_offline, "on_offline")
        #: What keeps it connected.
        self.reconnector = Reconnector(
            dial_to(endpoint, self._alarms, Outlet(clock), limits, write_stall_seconds, self.protocol),
            self.intake,
            self._alarms,
            wall_clock,
            home=home,
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

    def _came_online(self) -> None:
        self.log.debug("{who} online", who=self)
        tell(self._callbacks, self.log, "on_online", self._on_online)

    def _went_offline(self, reason: str) -> None:
        if reason == Replaced.text:
            self.log.warn("{who} is offline: {reason}. Is there a second one of it?", who=self, reason=reason)
        else:
            self.log.debug("{who} offline: {reason}", who=self, reason=reason)
        tell(self._callbacks, self.log, "on_offline", self._on_offline, reason)

    def _cannot_connect(self, why: str, again: bool) -> None:
        if not again:
            self.log.warn("{who} cannot connect: {why}; it keeps trying", who=self, why=why)

    def _finished(self) -> None:
        self._alarms.stop()
        if self._owns_intake:
            self.intake.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.reconnector.client_id}>"

    def connect(self, *, keep_trying: bool = False) -> GivesNothing:
        """Connect, with one attempt or with as many as it takes.

        Done when the gateway accepted; fails with ConnectionRefused (the gateway's reason), with what the transport
        failed with, with ConnectFailed when it ended during the handshake, or with EndClosed when it was closed.

        :param keep_trying: go on with the waits of ``reconnect`` until a connection is up; the log says why it is not.
        """

        def start(done: Done) -> Handle:
            self._home.settle()
            return self.reconnector.start(done, keep_trying=keep_trying)

        result: GivesNothing = self._begin(start)
        return result

    def when_online(self) -> GivesNothing:
        """Done when a connection is up; EndClosed when there will be none."""
        result: GivesNothing = self._begin(self.reconnector.when_online)
        return result

    def _close(self, done: Done) -> Handle:
        self.reconnector.close(done)
        return None

    @property
    def online(self) -> bool:
        """Whether a connection is up."""
        return self.reconnector.online

    def _session(self) -> ClientSession:
        return self.reconnector.session()

    def _register(self, method: str, handler: Handler, done: Done, timeout: float | None) -> Handle:
        return self.reconnector.register(method, handler, done, timeout)

    def _sessions(self) -> list[StreamSession]:
        connection = self.reconnector.connection
        return connection.open_streams() if connection is not None else []

    def open_stream(self, target: str | int, meta: bytes = b"") -> GivesStream:
        """Open a stream; ``target`` is a service's name (from an edge) or an edge's id (from a service).

        To nobody it opens and ends at once: that is this protocol's way to say so. ValueError: no edge can have the id.
        """

        def start(done: Done) -> Handle:
            peer: Any = edge_target(target) if self.tailed else target
            return self._session().connection.open(peer, meta, done)

        return self._opening(start)


class OneEdge(Speaker[GivesBytes, GivesNothing]):
    """What an edge is besides a client."""

    reconnector: Reconnector
    default_port = 30012
    tailed = False

    @property
    def edge_id(self) -> int:
        """The id that the gateway gave; may change with a reconnect. 0 before the first."""
        return self.reconnector.client_id


class OneService(EdgeSpeaker[GivesBytes, GivesNothing], Presence[GivesNothing]):
    """What a service of one gateway is besides a client."""

    reconnector: Reconnector
    default_port = 30011
    tailed = True

    @property
    def service_id(self) -> int:
        """The id that the gateway confirmed; 0 before."""
        return self.reconnector.client_id

    def _start_at(
        self, edge_id: int, start: StartOn, done: Done, timeout: float | None, deadline: float | None
    ) -> Handle:
        return start(self.reconnector.session(), timeout, done)
