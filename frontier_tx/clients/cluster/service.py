"""ClusterService for Twisted: a service of every Frontier that Frontlas lists. See docs/cluster-service.md."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint

from frontier_tx.clients.cluster.face import ClusterFace, ClusterOptions
from frontier_tx.clients.cluster.frontlas_client import EndpointFor
from frontier_tx.clients.core.home import ReactorHome
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.deferring import DeferredCallbacks, Deferring, run
from frontier_tx.clients.stream import Stream


class ClusterService(
    Deferring,
    ClusterFace[Deferred[bytes], Deferred[None], Deferred[Message], Deferred[Stream], Stream],
):
    """A service over all Frontiers of a cluster. Parameters as of ``ClusterOptions``, and:

    :param tls: for the connections to Frontiers; ``frontlas_tls`` for those to Frontlas.
    :param endpoint_for: makes the endpoint for a listed host and port, in place of TCP and ``tls``;
        ``frontlas_endpoint_for`` the same for Frontlas.
    """

    def __init__(
        self,
        frontlas: str | Sequence[str] = "127.0.0.1:40011",
        *,
        tls: IOpenSSLClientConnectionCreator | None = None,
        frontlas_tls: IOpenSSLClientConnectionCreator | None = None,
        reactor: Any = None,
        endpoint_for: EndpointFor | None = None,
        frontlas_endpoint_for: EndpointFor | None = None,
        **options: Unpack[ClusterOptions],
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        super().__init__(
            frontlas,
            reactor,
            ReactorHome(reactor),
            DeferredCallbacks(),
            run,
            endpoint_for or _endpoints(reactor, tls),
            frontlas_endpoint_for or _endpoints(reactor, frontlas_tls),
            frontlas_tls is not None,
            **options,
        )

    def _stream(self, session: StreamSession) -> Stream:
        return session.owner if session.owner is not None else Stream(session, self.reactor)


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
