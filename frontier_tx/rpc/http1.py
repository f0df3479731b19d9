"""One HTTP/1.1 connection in Twisted: h11 for the protocol, and around it limits on time and size, and turns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.rpc.access import certificate_names
from frontier_tx.rpc.addresses import Account
from frontier_tx.rpc.door import Door, Guest
from frontier_tx.rpc.exchange import UNREAD, Serve
from frontier_tx.rpc.http1_exchange import Http1Exchange, plain_answer
from frontier_tx.rpc.turns import Lane

_AHEAD = 16 * 1024
"""Bytes received and not dealt with, from which on nothing more is read."""
_END = b"\r\n\r\n"
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_METHOD = re.compile(rb"[A-Za-z!#$%&'*+.^_`|~-]")
_BARE = "lines of a head end with CR and LF\n"
_NO_REQUEST = "no HTTP request, or one with too large a head"


@dataclass(frozen=True, slots=True)
class Http1Limits:
    """Times in seconds: the head of a request must arrive within ``request``, its body within ``body``; a connection
    may rest for ``idle`` between requests; an answer that is not taken is given up after ``stall``."""

    request: float = 15.0
    body: float = 60.0
    idle: float = 60.0
    stall: float = 30.0
    max_header_bytes: int = 16 * 1024
    max_body: int = UNREAD


@implementer(IPushProducer)
class Http1Connection(Protocol):
    """Serves the requests of one connection, one after the other.

    ``guest`` is who was let in at the door already; None: this connection asks by itself. ``complain`` is told of a
    connection that is closed for what it sent.
    """

    transport: Any
    account: Account
    lane: Lane

    def __init__(
        self,
        clock: IReactorTime,
        serve: Serve,
        limits: Http1Limits,
        door: Door,
        guest: Guest | None = None,
        complain: Callable[[str, str], None] = lambda peer, why: None,
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.max_body = limits.max_body
        self.names: tuple[str, ...] | None = None
        self.closing = self.paused = False
        self._serve = serve
        self._door = door
        self._guest: Guest = self if guest is None else guest
        self._complain = complain
        self._input = bytearray()
        self._looked_at = 0
        self._exchange: Http1Exchange | None = None
        self._last = False
        self._asked = False
        self._full = False
        self._resting = clock.seconds()
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._stalled: IDelayedCall | None = None
        self.peer = ""

    # From the transport.

    def connectionMade(self) -> None:
        address = self.transport.getPeer()
        host = str(getattr(address, "host", ""))
        if self._guest is self and not self._door.enter(self, host):
            self.closing = True
            self.transport.abortConnection()
            return
        self.peer = f"{host}:{getattr(address, 'port', '')}"
        self.account = self._door.account(self._guest, 0.0)
        self.lane = self._door.lane(self._guest)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._within(self.limits.request)

    def dataReceived(self, data: bytes) -> None:
        if self.closing:
            return
        self._input += data
        self._ask()
        if len(self._input) >= _AHEAD and not self._full:
            self._full = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        lost = not self.peer
        self.closing = True
        self._stop_timers()
        if lost:
            return
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()
        self.account.close()
        self.lane.close()
        if self._guest is self:
            self._door.leave(self)

    def pauseProducing(self) -> None:
        self.paused = True
        if self._stalled is None:
            self._stalled = self.clock.callLater(self.limits.stall, self._abort)

    def resumeProducing(self) -> None:
        self.paused = False
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._exchange is not None:
            self._exchange.go_on()
        self._ask()

    def stopProducing(self) -> None:
        self.pauseProducing()

    # Requests.

    @property
    def resting_since(self) -> float | None:
        """See ``door.Guest``."""
        return None if self._exchange is not None or self._input else self._resting

    def turn(self) -> Deferred[None]:
        """Fires when it is this connection's turn, for work that goes on in slices."""
        return self.lane.turn()

    def _ask(self) -> None:
        exchange = self._exchange
        wanted = len(self._input) > self._looked_at if exchange is None else self._input and exchange.arriving
        if wanted and not (self._asked or self.closing or self.paused):
            self._asked = True
            self.lane.ask(self._in_turn, len(self._input))

    def _in_turn(self) -> None:
        self._asked = False
        if self.closing or self.paused:
            # A client that does not read its answers gets no more of them.
            return
        if self._exchange is not None:
            self._exchange.feed(self._take(len(self._input)))
        else:
            self._begin()
        self._ask()
        if self._full and len(self._input) < _AHEAD and not self.closing:
            self._full = False
            self.transport.resumeProducing()

    def _begin(self) -> None:
        if self._input.startswith((b"\r", b"\n")):
            del self._input[: len(self._input) - len(self._input.lstrip(b"\r\n"))]
            self._looked_at = 0
        if not self._input:
            return
        end = self._input.find(_END, max(0, self._looked_at - len(_END)))
        size = len(self._input) if end < 0 else end + len(_END)
        if not _METHOD.match(self._input):
            self._refuse(400, "this port speaks HTTP\n")
        elif size > self.limits.max_header_bytes:
            self._refuse(431, f"the head of a request may have {self.limits.max_header_bytes} bytes\n")
        elif b"\n\n" in self._input[max(0, self._looked_at - 1) : size]:
            self._refuse(400, _BARE)
        elif end < 0:
            if not self._looked_at:
                self._within(self.limits.request)
            self._looked_at = size
        else:
            self._looked_at = 0
            self._start(self._take(size))

    def _start(self, head: bytes) -> None:
        if head.count(b"\n") != head.count(b"\r\n"):
            # Who stands in between may have read another head.
            self._refuse(400, _BARE)
            return
        line, _, rest = head.partition(b"\r\n")
        # As they are in the query of a curl; h11 takes them escaped only.
        line = _NOT_ASCII.sub(lambda found: b"%%%02X" % found[0][0], line)
        parser = h11.Connection(h11.SERVER, self.limits.max_header_bytes * 4)
        parser.receive_data(line + b"\r\n" + rest)
        try:
            request = parser.next_event()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, f"{error}".partition(": bytearray(")[0] + "\n")
            return
        assert isinstance(request, h11.Request)
        if self.names is None:
            self.names = certificate_names(self.transport)
        exchange = self._exchange = Http1Exchange(self, parser, request)
        exchange.last = exchange.last or self._last
        exchange.feed(b"")
        if not self.closing:
            if exchange.arriving:
                self._within(self.limits.body)
            self._serve(exchange.request, exchange)

    def _take(self, size: int) -> bytes:
        taken = bytes(memoryview(self._input)[:size])
        del self._input[:size]
        return taken

    def give_back(self, data: bytes) -> None:
        """Bytes behind a body, which belong to the next request."""
        self._input[:0] = data

    def done(self) -> None:
        """Request and answer are complete."""
        self._exchange = None
        self._resting = self.clock.seconds()
        self._within(self.limits.idle)
        self._ask()

    def arrived(self) -> None:
        """The request is complete."""
        self._due = float("inf")

    def ask(self) -> None:
        """More of the request may be dealt with."""
        self._ask()

    def _refuse(self, status: int, text: str) -> None:
        self._complain(self.peer, _NO_REQUEST)
        self.transport.write(plain_answer(status, text.encode("utf-8", "replace")))
        self.lose()

    # Ending.

    def retire(self) -> None:
        """See ``door.Guest``."""
        self.lose()

    def drain(self) -> None:
        """End as soon as nothing is under way."""
        self._last = True
        if self._exchange is None:
            self.lose()
        else:
            self._exchange.last = True

    def end(self) -> None:
        """End what is still under way."""
        self.lose()

    def lose(self, linger: float = 0.0) -> None:
        """Close once everything is written, or ``linger`` seconds later; cut if that takes too long."""
        if not self.closing:
            self.closing = True
            self._input.clear()
            self.transport.unregisterProducer()
            if linger:
                self._full = False
                self.transport.resumeProducing()
                self._within(linger)
            else:
                self._within(self.limits.stall)
                self.transport.loseConnection()

    def _abort(self) -> None:
        self._stalled = None
        self.closing = True
        self.transport.abortConnection()

    # Time.

    def _within(self, seconds: float) -> None:
        """What is awaited must come within so long."""
        self._due = self.clock.seconds() + seconds
        if self._timer is None:
            self._timer = self.clock.callLater(seconds, self._late)
        elif self._timer.getTime() > self._due:
            self._timer.reset(seconds)

    def _late(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        if self._asked and not self.closing:
            # It is not the client's fault that its turn has not come.
            self._due = now + self.limits.request
        if now < self._due:
            if self._due != float("inf"):
                self._timer = self.clock.callLater(self._due - now, self._late)
        elif self.closing:
            if not self.transport.disconnecting:
                self._due = now + self.limits.stall
                self._timer = self.clock.callLater(self.limits.stall, self._late)
                self.transport.loseConnection()
            else:
                self.transport.abortConnection()
        else:
            # Nothing for the log: anyone can cause it at will.
            if self._exchange is not None:
                self._exchange.too_late()
            self.lose()

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._stalled):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._stalled = None


class HttpFactory(Factory):
    """Makes HTTP/1.1 connections for one server, on a door of its own."""

    noisy = False

    def __init__(self, serve: Serve, clock: IReactorTime, limits: Http1Limits, door: Door) -> None:
        self.door = door
        self._made = serve, clock, limits

    def buildProtocol(self, addr: IAddress | None) -> Http1Connection:
        serve, clock, limits = self._made
        return Http1Connection(clock, serve, limits, self.door)
