"""ClusterService for Twisted: a service of every Frontier that Frontlas lists. See docs/cluster-service.md."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Self, Unpack

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint

from frontier_tx.clients.cluster.core import ClusterCore, ClusterOptions
from frontier_tx.clients.cluster.frontlas_client import Atlas, EndpointFor
from frontier_tx.clients.cluster.member import FrontierState
from frontier_tx.clients.cluster.route_learning import HearingIntake
from frontier_tx.clients.core.home import ReactorHome
from frontier_tx.clients.core.intake import Bounds
from frontier_tx.clients.deferring import Handler, deferred, run
from frontier_tx.clients.incoming import Incoming, Presence
from frontier_tx.clients.link import ClientProtocol
from frontier_tx.clients.stream import Stream


class ClusterService(Incoming, Presence):
    """A service over all Frontiers of a cluster; its surface is that of ``Service``.

    :param frontlas: ``host:port`` of Frontlas, or several of them that share one registry.
    :param name: see ``Service``, as ``topics``, ``service_id`` and ``error_texts``; without an id the first Frontier
        gives it.
    :param tls: for the connections to Frontiers; ``frontlas_tls`` for those to Frontlas.
    :param endpoint_for: makes the endpoint for a listed host and port, in place of TCP and ``tls``;
        ``frontlas_endpoint_for`` the same for Frontlas.
    :param options: see ``ClusterOptions``.
    """

    #: The class of the connections; a subclass of it may be put here.
    protocol: type[ClientProtocol] = ClientProtocol

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
        bounds: Bounds | None = None,
        error_texts: bool = False,
        endpoint_for: EndpointFor | None = None,
        frontlas_endpoint_for: EndpointFor | None = None,
        **options: Unpack[ClusterOptions],
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        self.name = name
        self.intake = HearingIntake(run, bounds, error_texts=error_texts)
        self.atlas = Atlas(
            frontlas,
            reactor,
            frontlas_endpoint_for or _endpoints(reactor, frontlas_tls),
            secure=frontlas_tls is not None,
            timeout=options.get("connect_timeout", 5.0),
        )
        self.core = ClusterCore(
            self.intake,
            self.atlas,
            reactor,
            endpoint_for or _endpoints(reactor, tls),
            home=ReactorHome(reactor),
            name=name,
            topics=topics,
            service_id=service_id,
            protocol=self.protocol,
            **options,
        )
        self._home = self.core.home
        self.topics = tuple(topics)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_id}>"

    # -- connecting ---------------------------------------------------------------------------------------

    def connect(self, wait: bool = True) -> "Deferred[None]":
        """Get the first list, and connect to all Frontiers on it.

        :param wait: for the first connection; it does not wait where the list is empty.
        :return: fails, and all is over, with FrontlasUnavailable or LookupRefused, or, where it waits, with
            ConnectFailed when no Frontier could be connected to.
        """
        self._home.settle()
        return self.core.connect(wait)

    def when_online(self) -> "Deferred[None]":
        """Fires when a connection to any Frontier is up; EndClosed when there will be none."""
        self._home.check()
        return self.core.roster.when_online()

    def close(self) -> "Deferred[None]":
        """Say goodbye to all Frontiers and stop; fires when the connections are gone, in bounded time."""
        self._home.check()
        return self.core.close()

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
        return self.core.roster.online

    @property
    def service_id(self) -> int:
        """The same at every Frontier; 0 before the first gave one."""
        return self.core.roster.service_id

    @property
    def frontiers(self) -> list[FrontierState]:
        """The Frontiers of the cluster as this service sees them."""
        return self.core.roster.states

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
        self._home.check()
        return deferred(
            lambda done: self.core.call(edge_id, method, data, done, custom=custom, timeout=timeout, deadline=deadline)
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
        self._home.check()
        return deferred(
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

    def open_stream(self, target: str | int, meta: bytes = b"") -> "Deferred[Stream]":
        """Open a stream to an edge, wherever it is; Frontlas is asked each time, unless the edge was heard just now."""
        self._home.check()
        return deferred(lambda done: self.core.open(target, meta, self._streaming(done)))

    def register(self, method: str, handler: Handler, *, timeout: float | None = None) -> "Deferred[None]":
        """Answer calls of this method from edges of all Frontiers, present and later.

        :return: fires when the Frontiers that are connected know; fails with the first refusal of one.
        """
        self._home.check()
        return maybeDeferred(self.core.register, method, handler, timeout=timeout)

    def list_streams(self) -> list[Stream]:
        """All open streams of all connections, however opened."""
        self._home.check()
        return [self._stream(channel) for channel in self.core.channels()]


def _endpoints(reactor: Any, tls: IOpenSSLClientConnectionCreator | None) -> EndpointFor:
    def endpoint_for(host: str, port: int) -> IStreamClientEndpoint:
        made = _tcp(reactor, host, port)
        return made if tls is None else wrapClientTLS(tls, made)

    return endpoint_for


def _tcp(reactor: Any, host: str, port: int) -> IStreamClientEndpoint:
    try:
        kind = TCP4ClientEndpoint if ip_address(host).version == 4 else TCP6ClientEndpoint
    except ValueError:
        named: IStreamClientEndpoint = HostnameEndpoint(reactor, host, port)
        return named
    # A look-up of names tells of a refusal only when it would have tried the next address, 0.3 s later.
    numbered: IStreamClientEndpoint = kind(reactor, host, port)
    return numbered
