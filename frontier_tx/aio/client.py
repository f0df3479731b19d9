"""Edge and Service for asyncio."""

import ssl
from collections.abc import Coroutine, Sequence
from typing import Any, TypeAlias, Unpack

from frontier_tx.aio.futures import LOG, Awaiting, Tasks
from frontier_tx.aio.loop import LoopClock, LoopHome
from frontier_tx.aio.stream import Stream
from frontier_tx.aio.transport import Dialer, LoopEndpoint, tcp, unix
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.core.values import host_of
from frontier_tx.clients.protocol import ClientProtocol
from frontier_tx.clients.surface.client import ClientFace, ClientOptions, EdgeOptions, Incoming, OneEdge, OneService

LaterBytes: TypeAlias = Coroutine[Any, Any, bytes]
Later: TypeAlias = Coroutine[Any, Any, None]
LaterMessage: TypeAlias = Coroutine[Any, Any, Message]
LaterStream: TypeAlias = Coroutine[Any, Any, Stream]


class AioProtocol(ClientProtocol):
    """The client's end of a connection."""

    log = LOG


class AioClient(Awaiting, Incoming[Later, LaterMessage, LaterStream, Stream]):
    """What clients of asyncio have in common: tasks, which end with them."""

    log = LOG
    protocol: type[ClientProtocol] = AioProtocol
    _callbacks: Tasks

    def _stream(self, session: StreamSession) -> Stream:
        return session.owner if session.owner is not None else Stream(session)

    async def _connected(self, connecting: Later) -> None:
        try:
            await connecting
        except BaseException:
            await self._callbacks.ended()
            raise

    async def close(self) -> None:
        """Say goodbye and stop; returns when the connections are gone, in bounded time.

        What was written to streams is sent first. Callbacks that still run are cancelled, and the streams on which
        somebody is still writing are cut, so that they do not look complete.
        """
        self._home.check()
        # ``on_offline`` is called later, and runs.
        self._callbacks.cancel_callbacks()
        await super().close()
        await self._callbacks.ended()


class Client(AioClient, ClientFace[Later, LaterMessage, LaterStream, Stream]):
    """An edge or a service. It belongs to the loop in which ``connect`` is called, or ``receive`` or ``accept_stream``
    before that.

    :param host: a host name, ``host:port``, ``unix:/path``, or a function that connects a protocol factory.
    :param tls: with a host name or ``host:port``.
    :param connect_seconds: for one attempt to connect the transport.
    :param options: see ``ClientFace``.
    """

    def __init__(
        self,
        host: str | Dialer = "127.0.0.1",
        port: int | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        connect_seconds: float = 30.0,
        **options: Unpack[EdgeOptions],
    ) -> None:
        tasks = Tasks()
        endpoint = LoopEndpoint(self._as_dialer(host, port, tls), tasks, connect_seconds)
        ClientFace.__init__(self, endpoint, LoopClock(), LoopHome(), tasks, tasks.run, **options)

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

    async def connect(self, *, keep_trying: bool = False) -> None:
        """See ``ClientFace.connect``."""
        await self._connected(ClientFace.connect(self, keep_trying=keep_trying))


class Edge(Client, OneEdge[LaterBytes, Later]):
    """A client of edgebound. ``meta`` is anything that services shall know of this edge."""


class ServiceOptions(ClientOptions, total=False):
    """The parameters of ``Client`` that a service has too."""

    tls: ssl.SSLContext | None
    connect_seconds: float


class Service(Client, OneService[LaterBytes, Later]):
    """A client of servicebound. Parameters as of ``Client``, and:

    :param name: edges open streams to it, and logs show it.
    :param topics: messages of these topics come here.
    :param service_id: the id that it wants to have; 0: any.
    """

    def __init__(
        self,
        host: str | Dialer = "127.0.0.1",
        port: int | None = None,
        *,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        **options: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(host, port, meta=service_meta(name, topics), wanted_id=service_id, **options)
        self.name = name
        self.topics = tuple(topics)
