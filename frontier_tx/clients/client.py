"""Edge and Service for Twisted."""

from collections.abc import Sequence
from typing import Any, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, clientFromString, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint

from frontier_tx.clients.core.home import ReactorHome
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.presence import service_meta
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.core.values import host_of
from frontier_tx.clients.deferring import DeferredCallbacks, Deferring, run
from frontier_tx.clients.stream import Stream
from frontier_tx.clients.surface.client import ClientFace, ClientOptions, EdgeOptions, OneEdge, OneService


class Client(Deferring, ClientFace[Deferred[None], Deferred[Message], Deferred[Stream], Stream]):
    """An edge or a service.

    :param endpoint: a host name, ``host:port``, a Twisted client endpoint, or its string form (``tls:host:port``).
    :param port: with a host name.
    :param tls: with a host name or ``host:port``: options as of ``twisted.internet.ssl.optionsForClientTLS``.
    :param reactor: the reactor; Twisted's installed one when None.
    :param options: see ``ClientFace``.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint | str = "127.0.0.1",
        port: int | None = None,
        *,
        tls: IOpenSSLClientConnectionCreator | None = None,
        reactor: Any = None,
        **options: Unpack[EdgeOptions],
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        dialled = self._as_endpoint(endpoint, port, tls)
        super().__init__(dialled, reactor, ReactorHome(reactor), DeferredCallbacks(), run, **options)

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

    def _stream(self, session: StreamSession) -> Stream:
        return session.owner if session.owner is not None else Stream(session, self.reactor)


class Edge(Client, OneEdge[Deferred[bytes], Deferred[None]]):
    """A client of edgebound. ``meta`` is anything that services shall know of this edge."""


class ServiceOptions(ClientOptions, total=False):
    """The parameters of ``Client`` that a service has too."""

    tls: IOpenSSLClientConnectionCreator | None
    reactor: Any


class Service(Client, OneService[Deferred[bytes], Deferred[None]]):
    """A client of servicebound. Parameters as of ``Client``, and:

    :param name: edges open streams to it, and logs show it.
    :param topics: messages of these topics come here.
    :param service_id: the id that it wants to have; 0: any.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint | str = "127.0.0.1",
        port: int | None = None,
        *,
        name: str = "",
        topics: Sequence[str] = (),
        service_id: int = 0,
        **options: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(endpoint, port, meta=service_meta(name, topics), wanted_id=service_id, **options)
        self.name = name
        self.topics = tuple(topics)
