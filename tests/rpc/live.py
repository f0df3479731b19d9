"""A plane on a real port of the loopback, for clients that are not ours."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.threads import deferToThread

from frontier_tx.rpc.grpc_standard import Serving
from frontier_tx.rpc.listener import ListenerLimits, PlaneFactory
from frontier_tx.rpc.methods import Plane
from frontier_tx.rpc.rest import RestRouter
from tests.rpc.support import make_plane

reactor: Any = _reactor
in_thread = deferToThread


class Live:
    """One listening plane; ``port`` is its number after ``open``."""

    def __init__(self, limits: ListenerLimits | None = None, plane: Plane | None = None, **options: Any) -> None:
        self.serving = Serving()
        self.handlers: Any = None
        if plane is None:
            plane, self.handlers = make_plane(reactor, serving=self.serving, **options)
        self.plane = plane
        self.factory = PlaneFactory(plane, RestRouter(plane), reactor, limits)
        self.port = 0
        self._listening: Any = None

    async def open(self, tls: Any = None) -> Live:
        """Listen, on TLS with these options."""
        if tls is None:
            endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        else:
            endpoint = SSL4ServerEndpoint(reactor, 0, tls, interface="127.0.0.1")
        self._listening = await endpoint.listen(self.factory)
        self.port = self._listening.getHost().port
        return self

    @property
    def address(self) -> str:
        """Where to connect."""
        return f"127.0.0.1:{self.port}"

    async def close(self) -> None:
        """Stop, leaving nothing behind."""
        await self._listening.stopListening()
        await self.factory.drain(0.05)
