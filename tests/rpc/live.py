"""A table on a real port of the loopback, for clients that are not ours."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.threads import deferToThread

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.grpc_standard import Serving
from frontier_tx.rpc.listener import ControlPlaneFactory
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.rest import RestRouter
from tests.rpc.support import make_table

reactor: Any = _reactor
in_thread = deferToThread


class Live:
    """One listening table; ``port`` is its number after ``open``."""

    def __init__(
        self, limits: ControlPlaneLimits | None = None, table: MethodTable | None = None, **options: Any
    ) -> None:
        self.serving = Serving()
        self.handlers: Any = None
        if table is None:
            table, self.handlers = make_table(reactor, serving=self.serving, **options)
        self.table = table
        self.factory = ControlPlaneFactory(table, RestRouter(table), reactor, limits)
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
