"""ClusterService for asyncio: a service of every Frontier that Frontlas lists. See docs/cluster-service.md."""

import ssl
from collections.abc import Callable, Sequence
from typing import Unpack

from frontier_tx.aio.client import AioClient, Later, LaterBytes, LaterMessage, LaterStream
from frontier_tx.aio.futures import Tasks
from frontier_tx.aio.loop import LoopClock, LoopHome
from frontier_tx.aio.stream import Stream
from frontier_tx.aio.transport import Dialer, LoopEndpoint, tcp
from frontier_tx.clients.cluster.face import ClusterFace, ClusterOptions
from frontier_tx.clients.cluster.frontlas_client import EndpointFor

#: Makes what connects a transport to a host and a port, see ``Dialer``.
DialerFor = Callable[[str, int], Dialer]


class ClusterService(AioClient, ClusterFace[LaterBytes, Later, LaterMessage, LaterStream, Stream]):
    """A service over all Frontiers of a cluster. Parameters as of ``ClusterOptions``, and:

    It belongs to the loop in which ``connect`` is called, or ``receive`` or ``accept_stream`` before that.

    :param tls: for the connections to Frontiers; ``frontlas_tls`` for those to Frontlas.
    :param dialer_for: makes what connects to a listed host and port, in place of TCP and ``tls``;
        ``frontlas_dialer_for`` the same for Frontlas.
    """

    def __init__(
        self,
        frontlas: str | Sequence[str] = "127.0.0.1:40011",
        *,
        tls: ssl.SSLContext | None = None,
        frontlas_tls: ssl.SSLContext | None = None,
        dialer_for: DialerFor | None = None,
        frontlas_dialer_for: DialerFor | None = None,
        **options: Unpack[ClusterOptions],
    ) -> None:
        tasks = Tasks()
        seconds = options.get("connect_timeout", 5.0)

        def endpoints(dialer_for: DialerFor | None, tls: ssl.SSLContext | None) -> EndpointFor:
            made = dialer_for or (lambda host, port: tcp(host, port, tls))
            return lambda host, port: LoopEndpoint(made(host, port), tasks, seconds)

        ClusterFace.__init__(
            self,
            frontlas,
            LoopClock(),
            LoopHome(),
            tasks,
            tasks.run,
            endpoints(dialer_for, tls),
            endpoints(frontlas_dialer_for, frontlas_tls),
            frontlas_tls is not None,
            **options,
        )

    async def connect(self, wait: bool = True) -> None:
        """See ``ClusterFace.connect``."""
        await self._connected(ClusterFace.connect(self, wait))
