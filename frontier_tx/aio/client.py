"""Edge and Service for asyncio."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypedDict, Unpack

from frontier_tx.aio.clock import LoopClock
from frontier_tx.aio.futures import Handler, Runner, Tasks, outcome
from frontier_tx.aio.home import LoopHome
from frontier_tx.aio.incoming import Incoming, Presence, abandon, stream_of
from frontier_tx.aio.link import AioProtocol
from frontier_tx.aio.stream import Speaker, Stream
from frontier_tx.aio.transport import Dialer, LoopEndpoint, tcp, unix
from frontier_tx.backoff import Backoff
from frontier_tx.clients.core.channel import Channel
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Bounds, Done, Intake
from frontier_tx.clients.core.keeper import CLOSED, NOT_CONNECTED, Keeper
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.values import addressed, callback, edge_target, id_bytes, instance, note, octets
from frontier_tx.clients.dialling import dial_to
from frontier_tx.clients.where import host_of
from frontier_tx.errors import EndClosed, Replaced
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet

log = logging.getLogger("frontier.client")


class ClientOptions(TypedDict, total=False):
    """The parameters of ``Client`` that a service has too."""

    tls: ssl.SSLContext | None
    reconnect: Backoff | None
    intake: Intake | None
    bounds: Bounds | None
    limits: Limits | None
    connect_seconds: float
    write_stall_seconds: float
    wall_clock: Callable[[], float]
    on_online: Callable[[], Any] | None
    on_offline: Callable[[str], Any] | None
    error_texts: bool | None


class Client(Incoming):
    """What edges and services have in common. Use it with ``async with``, or await ``connect`` and ``close``.

    It belongs to the loop in which ``connect`` is called, or ``receive`` or ``accept_stream`` before that.

    :param host: a host name, ``host:port``, ``unix:/path``, or a function that connects a protocol factory.
    :param tls: with a host name or ``host:port``.
    :param reconnect: the waits between attempts when a connection is lost; None: no second one. The first
        connection is one attempt in either case.
    :param intake: handlers, messages and accepted streams, to be shared by several clients; its own when None.
    :param bounds: what may be held; given with ``intake`` it is the intake's that count.
    :param on_online: called each time that a connection is up, ``on_offline`` with the reason when it ended. Both may
        be coroutine functions; what they raise stands in the log, and ``close`` cancels them.
    :param error_texts: whether callers read what a handler raised, whatever it was. Otherwise they do so of errors that
        are meant for them, and get a reference number of others. None: yes for an edge, whose callers are services; no
        for a service, whose callers may be anybody.
    """

    #: The class of the connections; a subclass of it may be put here.
    protocol: type[AioProtocol] = AioProtocol
    default_port: int
    tailed = False

    def __init__(
        self,
        host: str | Dialer = "127.0.0.1",
        port: int | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        wanted_id: int = 0,
        meta: bytes = b"",
        reconnect: Backoff | None = Backoff(),  # noqa: B008 - frozen
        intake: Intake | None = None,
        bounds: Bounds | None = None,
        limits: Limits | None = None,
        connect_seconds: float = 30.0,
        write_stall_seconds: float = 30.0,
        wall_clock: Callable[[], float] = time.time,
        on_online: Callable[[], Any] | None = None,
        on_offline: Callable[[str], Any] | None = None,
        error_texts: bool | None = None,
    ) -> None:
        self._dialer = self._as_dialer(host, port, tls)
        self._limits = limits
        self._connect_seconds = connect_seconds
        self._write_stall_seconds = write_stall_seconds
        self._owns_intake = intake is None
        self._tasks = Tasks()
        self._home: Home = LoopHome()
        told = not self.tailed if error_texts is None else error_texts
        self.intake = intake or Intake(Runner(self._tasks).run, bounds, error_texts=told)
        self._on_online = callback(on_online or (lambda: None), "on_online")
        self._on_offline = callback(on_offline or (lambda reason: None), "on_offline")
        id_bytes(wanted_id, "wanted id")
        self._options: dict[str, Any] = {
            "meta": octets(meta, "meta"),
            "wanted_id": wanted_id,
            "reconnect": instance(reconnect, Backoff, "reconnect"),
        }
        self._wall_clock = wall_clock
        self._keeper: Keeper | None = None
        self._closed = False

    def _as_dialer(self, host: str | Dialer, port: int | None, tls: ssl.SSLContext | None) -> Dialer:
        named = host_of(host, port, self.default_port) if isinstance(host, str) else None
        if named is not None:
            return tcp(*named, tls)
        if port is not None or tls is not None:
            raise ValueError(f"port= and tls= go with a host name, {host!r} is none")
        if not isinstance(host, str):
            if not callable(host):
                raise TypeError(f"host: expected a host name or a function, not {type(host).__name__}")
            return host
        if host.startswith("unix:"):
            return unix(host.removeprefix("unix:"))
        raise ValueError(f"{host!r} is neither a host name, nor host:port, nor unix:/path")

    def _came_online(self) -> None:
        self._tasks.tell("on_online", self._on_online)

    def _went_offline(self, reason: str) -> None:
        if reason == Replaced.text:
            log.warning("%r is offline: %s. Is there a second one of it?", self, reason)
        self._tasks.tell("on_offline", self._on_offline, reason)

    def _cannot_connect(self, why: str) -> None:
        log.warning("%r cannot connect: %s; it keeps trying", self, why)

    def _finished(self) -> None:
        if self._owns_intake:
            self.intake.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client_id}>"

    # -- connecting ---------------------------------------------------------------------------------------

    @property
    def keeper(self) -> Keeper:
        """What keeps it connected.

        :raises EndClosed: ``connect`` was not called yet.
        """
        if self._keeper is None:
            raise self._not_connected()
        return self._keeper

    def _not_connected(self) -> EndClosed:
        error = EndClosed()
        error.add_note(CLOSED if self._closed else NOT_CONNECTED)
        return error

    async def connect(self, *, keep_trying: bool = False) -> None:
        """Connect: one attempt, or as many as it takes.

        :param keep_trying: go on with the waits of ``reconnect`` until a connection is up; the log says why it is not.
        :raises ConnectionRefused: (of ``frontier_tx.wire.errors``) with the gateway's reason.
        :raises OSError: nobody listens there. :raises ConnectFailed: it ended during the handshake.
        :raises EndClosed: it was closed, before or meanwhile.
        """
        self._home.settle()
        if self._closed:
            raise self._not_connected()
        if self._keeper is not None:
            raise RuntimeError("a client connects once; make a new one")
        clock = LoopClock(asyncio.get_running_loop())
        alarms = Alarms(clock)

        def finished() -> None:
            alarms.stop()
            self._finished()

        endpoint = LoopEndpoint(self._dialer, self._tasks, self._connect_seconds)
        keeper = self._keeper = Keeper(
            dial_to(endpoint, alarms, Outlet(clock), self._limits, self._write_stall_seconds, self.protocol),
            self.intake,
            alarms,
            self._wall_clock,
            home=self._home,
            tailed=self.tailed,
            connected=self._came_online,
            lost=self._went_offline,
            finished=finished,
            failing=self._cannot_connect,
            **self._options,
        )

        def start(done: Done) -> Callable[[], None]:
            keeper.start(done, keep_trying=keep_trying)
            return keeper.give_up

        try:
            await outcome(start)
        except asyncio.CancelledError:
            await self._tasks.ended()
            raise

    async def when_online(self) -> None:
        """Return when a connection is up; EndClosed when there will be none."""
        self._home.check()
        await outcome(self.keeper.when_online)

    async def close(self) -> None:
        """Say goodbye and stop; returns when the connection is gone, in bounded time."""
        self._home.check()
        self._closed = True
        # What is told of the end itself is not among them.
        self._tasks.cancel_callbacks()
        if self._keeper is None:
            self._finished()
            return
        keeper = self._keeper

        def start(done: Done) -> None:
            keeper.close(done)

        await outcome(start)
        await self._tasks.ended()

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
        return self._keeper is not None and self._keeper.online

    @property
    def client_id(self) -> int:
        """The id that the gateway gave; 0 before."""
        return self._keeper.client_id if self._keeper is not None else 0

    # -- speaking -----------------------------------------------------------------------------------------

    def _channel(self) -> Channel:
        return self.keeper.channel()

    async def register(
        self,
        method: str,
        handler: Handler,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - local to the operation
    ) -> None:
        """Answer calls of this method, now and after each reconnect; returns when the gateway knows.

        Before ``connect`` it only notes the handler.
        """
        self._home.check()
        if self._closed:
            raise self._not_connected()
        if self._keeper is None:
            note(self.intake.methods, method, handler)
            return
        keeper = self._keeper

        await outcome(lambda done: keeper.register(method, handler, done, timeout))

    # -- streams ------------------------------------------------------------------------------------------

    async def open_stream(self, target: str, meta: bytes = b"") -> Stream:
        """Open a stream; ``target`` is a service's name (from an edge) or an edge's id (from a service).

        To nobody it opens and ends at once: that is this protocol's way to say so.
        """
        self._home.check()
        opened = await outcome(lambda done: self._channel().end.open(target, meta, done), abandon)
        return stream_of(opened)

    def list_streams(self) -> list[Stream]:
        """All open streams, however opened."""
        self._home.check()
        end = self._keeper.end if self._keeper is not None else None
        return [stream_of(channel) for channel in end.streams()] if end is not None else []


class Edge(Client, Speaker):
    """A client of edgebound.

    :param meta: anything that services shall know of this edge.
    :param wanted_id: sent with each connect; a gateway that allocates ids ignores it.
    """

    default_port = 30012

    @property
    def edge_id(self) -> int:
        """The id that the gateway gave; may change with a reconnect. 0 before the first."""
        return self.client_id


class Service(Client, Presence):
    """A client of servicebound. Parameters as of ``Client``, and:

    :param name: edges open streams to it, and logs show it.
    :param topics: messages of these topics come here.
    :param service_id: the id that it wants to have; 0: any.
    """

    default_port = 30011
    tailed = True

    def __init__(
        self,
        host: str | Dialer = "127.0.0.1",
        port: int | None = None,
        *,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(host, port, meta=service_meta(name, topics), wanted_id=service_id, **options)
        self.name = name
        self.topics = tuple(topics)

    @property
    def service_id(self) -> int:
        """The id that the gateway confirmed; 0 before."""
        return self.client_id

    async def call(
        self,
        edge_id: int,
        method: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the peer is told of it
        deadline: float | None = None,
    ) -> bytes:
        """Call a method of an edge; see ``Edge.call``. EdgeNotOnline when it is not there."""
        self._home.check()
        value: bytes = await outcome(
            lambda done: self._channel().call(
                method, data, done, custom=addressed(custom, edge_id), timeout=timeout, deadline=deadline
            )
        )
        return value

    async def publish(
        self,
        edge_id: int,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        topic: str = "",
        timeout: float | None = None,  # noqa: ASYNC109 - the peer is told of it
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> None:
        """Send a message to an edge; see ``Edge.publish``."""
        self._home.check()
        await outcome(
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

    async def open_stream(self, target: str | int, meta: bytes = b"") -> Stream:
        """Open a stream to an edge: its id, also in decimal. ValueError when it cannot be one."""
        return await super().open_stream(edge_target(target), meta)
