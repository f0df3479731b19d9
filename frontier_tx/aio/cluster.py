"""ClusterService for asyncio: a service of every Frontier that Frontlas lists. See docs/cluster-service.md."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Self, Unpack

from frontier_tx.aio.clock import LoopClock
from frontier_tx.aio.futures import Handler, Runner, Tasks, outcome, settled
from frontier_tx.aio.home import LoopHome
from frontier_tx.aio.incoming import Incoming, Presence, abandon, stream_of
from frontier_tx.aio.link import LOG, AioProtocol
from frontier_tx.aio.stream import Stream
from frontier_tx.aio.transport import Dialer, LoopEndpoint, tcp
from frontier_tx.clients.cluster.core import ClusterCore, ClusterOptions
from frontier_tx.clients.cluster.frontlas_client import Atlas, EndpointFor, addresses_of
from frontier_tx.clients.cluster.member import FrontierState
from frontier_tx.clients.cluster.route_learning import HearingIntake
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Bounds
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.values import id_bytes, note
from frontier_tx.errors import EndClosed

#: Makes what connects a transport to a host and a port, see ``Dialer``.
DialerFor = Callable[[str, int], Dialer]


class ClusterService(Incoming, Presence):
    """A service over all Frontiers of a cluster; its surface is that of ``Service``.

    It belongs to the loop in which ``connect`` is called, or ``receive`` or ``accept_stream`` before that.

    :param frontlas: ``host:port`` of Frontlas, or several of them that share one registry.
    :param name: see ``Service``, as ``topics``, ``service_id`` and ``error_texts``; without an id the first Frontier
        gives it.
    :param tls: for the connections to Frontiers; ``frontlas_tls`` for those to Frontlas.
    :param dialer_for: makes what connects to a listed host and port, in place of TCP and ``tls``;
        ``frontlas_dialer_for`` the same for Frontlas.
    :param options: see ``ClusterOptions``.
    """

    #: The class of the connections; a subclass of it may be put here.
    protocol: type[AioProtocol] = AioProtocol
    intake: HearingIntake

    def __init__(
        self,
        frontlas: str | Sequence[str] = "127.0.0.1:40011",
        *,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        tls: ssl.SSLContext | None = None,
        frontlas_tls: ssl.SSLContext | None = None,
        bounds: Bounds | None = None,
        error_texts: bool = False,
        dialer_for: DialerFor | None = None,
        frontlas_dialer_for: DialerFor | None = None,
        **options: Unpack[ClusterOptions],
    ) -> None:
        # What is wrong is to be said here, not when it connects.
        service_meta(name, topics)
        id_bytes(service_id, "service_id")
        addresses_of(frontlas)
        self.name = name
        self.topics = tuple(topics)
        self._tasks = Tasks()
        self._home: Home = LoopHome()
        self.intake = HearingIntake(Runner(self._tasks).run, bounds, error_texts=error_texts)
        self._frontlas = frontlas
        self._wanted_id = service_id
        self._secure = frontlas_tls is not None
        self._dialer_for = dialer_for or (lambda host, port: tcp(host, port, tls))
        self._frontlas_dialer_for = frontlas_dialer_for or (lambda host, port: tcp(host, port, frontlas_tls))
        self._options = options
        self._core: ClusterCore | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_id}>"

    # -- connecting ---------------------------------------------------------------------------------------

    @property
    def core(self) -> ClusterCore:
        """What does the work.

        :raises EndClosed: ``connect`` was not called yet.
        """
        if self._core is None:
            raise EndClosed
        return self._core

    @property
    def atlas(self) -> Atlas:
        """What asks Frontlas; its ``trouble`` is empty while all is well. EndClosed before ``connect``."""
        return self.core.atlas

    async def connect(self, wait: bool = True) -> None:
        """Get the first list, and connect to all Frontiers on it. Where it fails or is cancelled all is over.

        :param wait: for the first connection; it does not wait where the list is empty.
        :raises FrontlasUnavailable: no Frontlas answers. :raises LookupRefused: one answers with an error.
        :raises ConnectFailed: where it waits, when no Frontier could be connected to.
        :raises EndClosed: it was closed, before or meanwhile.
        """
        self._home.settle()
        if self._closed:
            raise EndClosed
        if self._core is not None:
            raise RuntimeError("a client connects once; make a new one")
        clock = LoopClock(asyncio.get_running_loop())
        seconds = self._options.get("connect_timeout", 5.0)
        atlas = Atlas(
            self._frontlas,
            clock,
            self._endpoints(self._frontlas_dialer_for, seconds),
            secure=self._secure,
            timeout=seconds,
            log=LOG,
        )
        core = self._core = ClusterCore(
            self.intake,
            atlas,
            clock,
            self._endpoints(self._dialer_for, seconds),
            home=self._home,
            name=self.name,
            topics=self.topics,
            service_id=self._wanted_id,
            protocol=self.protocol,
            log=LOG,
            **self._told(),
        )
        try:
            await settled(lambda: core.connect(wait))
        except BaseException:
            await self._tasks.ended()
            raise

    def _told(self) -> ClusterOptions:
        """The options, with callbacks that may be coroutine functions."""
        options = self._options.copy()
        on_online, on_offline = options.get("on_online"), options.get("on_offline")
        if on_online is not None:
            options["on_online"] = lambda: self._tasks.tell("on_online", on_online)
        if on_offline is not None:
            options["on_offline"] = lambda reason: self._tasks.tell("on_offline", on_offline, reason)
        return options

    def _endpoints(self, dialer_for: DialerFor, seconds: float) -> EndpointFor:
        return lambda host, port: LoopEndpoint(dialer_for(host, port), self._tasks, seconds)

    async def when_online(self) -> None:
        """Return when a connection to any Frontier is up; EndClosed when there will be none."""
        self._home.check()
        await settled(lambda: self.core.roster.when_online())

    async def close(self) -> None:
        """Say goodbye to all Frontiers and stop; returns when the connections are gone, in bounded time."""
        self._home.check()
        self._closed = True
        # What is told of the end itself is not among them.
        self._tasks.cancel_callbacks()
        if self._core is None:
            self.intake.close()
            return
        await settled(self._core.close)
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
        """Whether a connection to any Frontier is up."""
        return self._core is not None and self._core.roster.online

    @property
    def service_id(self) -> int:
        """The same at every Frontier; 0 before the first gave one."""
        return self._core.roster.service_id if self._core is not None else self._wanted_id

    @property
    def frontiers(self) -> list[FrontierState]:
        """The Frontiers of the cluster as this service sees them."""
        return self._core.roster.states if self._core is not None else []

    # -- speaking -----------------------------------------------------------------------------------------

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
        """Call a method of an edge, wherever it is; see ``Service.call``. The time limits cover the look-up.

        :raises UnknownEdge: (an EdgeNotOnline) Frontlas knows no such edge; besides FrontlasUnavailable, LookupRefused,
            ConnectFailed.
        """
        self._home.check()
        value: bytes = await outcome(
            lambda done: self.core.call(edge_id, method, data, done, custom=custom, timeout=timeout, deadline=deadline)
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
        """Send a message to an edge, wherever it is; see ``Service.publish`` and ``call``."""
        self._home.check()
        await outcome(
            lambda done: self.core.publish(
                edge_id,
                topic,
                data,
                done,
                custom=custom,
                timeout=timeout,
                deadline=deadline,
                at_most_once=at_most_once,
            )
        )

    async def open_stream(self, target: str | int, meta: bytes = b"") -> Stream:
        """Open a stream to an edge, wherever it is; Frontlas is asked each time, unless the edge was heard just now."""
        self._home.check()
        return stream_of(await outcome(lambda done: self.core.open(target, meta, done), abandon))

    async def register(
        self,
        method: str,
        handler: Handler,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - local to the operation
    ) -> None:
        """Answer calls of this method from edges of all Frontiers, present and later.

        It returns when the Frontiers that are connected know, and raises the first refusal of one. Before ``connect``
        it only notes the handler.
        """
        self._home.check()
        core = self._core
        if core is None:
            note(self.intake.methods, method, handler)
            return
        await settled(lambda: core.register(method, handler, timeout=timeout))

    def list_streams(self) -> list[Stream]:
        """All open streams of all connections, however opened."""
        self._home.check()
        return [stream_of(channel) for channel in self._core.channels()] if self._core is not None else []
