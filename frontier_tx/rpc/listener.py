"""One port that speaks gRPC and REST: the first bytes of a connection decide which.

A client that opens with the HTTP/2 preface gets the gRPC engine, which also answers plain HTTP/2 requests through the
REST table; any other first bytes go to HTTP/1.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.access import certificate_names
from frontier_tx.rpc.addresses import Budget
from frontier_tx.rpc.door import ClosedLog, Door, Guest
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.grpc_server import GrpcServerConnection
from frontier_tx.rpc.http1 import Http1Connection, Http1Limits
from frontier_tx.rpc.http2_guard import PREFACE
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.rest import RestRouter
from frontier_tx.rpc.turns import BUDGET

log = Logger()

ALPN = (b"h2", b"http/1.1")
"""What is offered in a TLS handshake."""
FIRST_BYTES = 10.0
"""Seconds until a connection must show what it speaks."""


@implementer(IProtocolNegotiationFactory)
class ControlPlaneFactory(Factory):
    """Makes the connections of one control port; listen with it on any endpoint, over TLS too.

    ``connections`` counts what is open, ``refused`` what came over the bound; ``turn`` are the seconds of work in one
    turn of the reactor.
    """

    noisy = False

    def __init__(
        self,
        table: MethodTable,
        router: RestRouter,
        clock: IReactorTime,
        limits: ControlPlaneLimits | None = None,
        http1: Http1Limits | None = None,
        http2: Http2Limits | None = None,
        turn: float = BUDGET,
    ) -> None:
        self.table = table
        self.clock = clock
        self.limits = ControlPlaneLimits() if limits is None else limits
        self._http1 = replace(Http1Limits() if http1 is None else http1, max_body=self.limits.body_bytes)
        self._http2 = Http2Limits() if http2 is None else http2
        self.budget = Budget(self.limits.request_bytes, self.limits.answer_bytes)
        self.closed_log = ClosedLog(log, "control plane", clock.seconds)
        floods = 2.0 * self._http2.flood_burst, float(self._http2.flood_rate)
        self.door = Door(clock, self.limits, self.budget, self.closed_log.note, floods, turn)
        self._router = router
        self._open: set[SniffingProtocol] = set()
        self._draining: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def refused(self) -> int:
        """How many connections were turned away."""
        return self.door.refused

    def acceptableProtocols(self) -> list[bytes]:
        """What is offered in the TLS handshake (ALPN)."""
        return list(ALPN)

    def buildProtocol(self, addr: IAddress | None) -> SniffingProtocol:
        return SniffingProtocol(self)

    def grpc(self, guest: Guest, transport: Any) -> GrpcServerConnection:
        """A protocol for a client of HTTP/2."""
        connection = GrpcServerConnection(
            self.clock,
            self.table,
            self._http2,
            max_message=self.limits.body_bytes,
            account=self.door.account(guest, float(self._http2.flood_burst)),
            lane=self.door.lane(guest),
            plain=self._router.serve,
            names=certificate_names(transport),
        )
        connection.complain = lambda why: self.closed_log.note(connection.peer, why)  # type: ignore[method-assign]
        return connection

    def http1(self, guest: Guest) -> Http1Connection:
        """A protocol for a client of HTTP/1.1."""
        return Http1Connection(self.clock, self._router.serve, self._http1, self.door, guest, self.closed_log.note)

    def opened(self, protocol: SniffingProtocol) -> bool:
        """Whether one more connection is taken."""
        if not self.door.enter(protocol, protocol.host):
            return False
        self._open.add(protocol)
        return True

    def closed(self, protocol: SniffingProtocol) -> None:
        """A connection is over."""
        self._open.discard(protocol)
        self.door.leave(protocol)
        if self._draining is not None and not self._open and not self._draining.called:
            self._draining.callback(None)

    def drain(self, grace: float) -> Deferred[None]:
        """End all connections: calls under way may finish within ``grace`` seconds, streams that do not are answered
        UNAVAILABLE, then whatever is left is cut. New connections are refused from now on."""
        if self._draining is None:
            self._draining = Deferred()
            self.door.closed = True
            for protocol in list(self._open):
                protocol.drain()
            if not self._open:
                self._draining.callback(None)
            else:
                calls = [
                    self.clock.callLater(grace, self._end_all),
                    self.clock.callLater(grace + 2.0, self._cut_all),
                ]
                self._draining.addBoth(lambda _: _cancel(calls))
        waiter: Deferred[None] = Deferred()
        self._draining.addBoth(lambda _: waiter.callback(None))
        return waiter

    def _end_all(self) -> None:
        for protocol in list(self._open):
            protocol.end()

    def _cut_all(self) -> None:
        for protocol in list(self._open):
            protocol.cut()


def _cancel(calls: list[IDelayedCall]) -> None:
    for call in calls:
        if call.active():
            call.cancel()


class SniffingProtocol(Protocol):
    """A connection that has not said what it speaks, and afterwards the way to the protocol that it does."""

    transport: Any

    def __init__(self, factory: ControlPlaneFactory) -> None:
        self._factory = factory
        self._seen = b""
        self._chosen: GrpcServerConnection | Http1Connection | None = None
        self._timer: IDelayedCall | None = None
        self._taken = False
        self._since = factory.clock.seconds()
        self.host = ""

    def connectionMade(self) -> None:
        self.host = str(getattr(self.transport.getPeer(), "host", ""))
        self._taken = self._factory.opened(self)
        if not self._taken:
            self.transport.abortConnection()
            return
        self._timer = self._factory.clock.callLater(FIRST_BYTES, self.cut)

    def dataReceived(self, data: bytes) -> None:
        if self._chosen is not None:
            self._chosen.dataReceived(data)
            return
        if not self._taken:
            return
        self._seen += data
        size = min(len(self._seen), len(PREFACE))
        if self._seen[:size] != PREFACE[:size]:
            self._choose(self._factory.http1(self))
        elif size == len(PREFACE):
            self._choose(self._factory.grpc(self, self.transport))

    def _choose(self, protocol: GrpcServerConnection | Http1Connection) -> None:
        self._stop_timer()
        self._chosen = protocol
        seen, self._seen = self._seen, b""
        protocol.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        protocol.dataReceived(seen)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timer()
        if self._chosen is not None:
            self._chosen.connectionLost(reason)
        self._factory.closed(self)

    @property
    def resting_since(self) -> float | None:
        """See ``door.Guest``."""
        return self._since if self._chosen is None else self._chosen.resting_since

    def retire(self) -> None:
        """See ``door.Guest``."""
        self._taken = False
        if self._chosen is None:
            self.transport.loseConnection()
        else:
            self._chosen.retire()

    def drain(self) -> None:
        """End as soon as nothing is under way."""
        if self._chosen is None:
            self.transport.loseConnection()
        else:
            self._chosen.drain()

    def end(self) -> None:
        """End what is still under way."""
        if self._chosen is not None:
            self._chosen.end()

    def cut(self) -> None:
        """End now."""
        self._stop_timer()
        self.transport.abortConnection()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
