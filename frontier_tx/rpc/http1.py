"""HTTP/1.1 on twisted.web, with limits on time and size that it does not have by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from frontier_tx.rpc.access import certificate_names
from frontier_tx.rpc.addresses import Account
from frontier_tx.rpc.door import Door, DoorLimits, Guest
from frontier_tx.rpc.rest import PLAIN_404, PLAIN_429, HttpHeaders, RestRequest, RestRouter
from frontier_tx.rpc.turns import Lane

MAX_BODY = 1024 * 1024
"""Bytes of a request body that are let pass; no body is ever kept."""
PART = 64 * 1024
"""Bytes of an answer that are handed to the transport in one go."""
_AHEAD = 16 * 1024
"""Bytes received and not dealt with, from which on nothing more is read."""
_END = b"\r\n\r\n"
_CLOSING = b"Connection: close\r\nContent-Length: 0\r\n\r\n"


# twisted.web has hardly any types.
_HTTPChannel: Any = HTTPChannel
_Site: Any = Site


@dataclass(frozen=True, slots=True)
class Http1Limits:
    """Times in seconds: a whole request must arrive within ``request``; a connection may rest for ``idle`` between
    requests; an answer that is not taken is given up after ``stall``."""

    request: float = 15.0
    idle: float = 60.0
    stall: float = 30.0
    max_header_bytes: int = 16 * 1024


class LimitedChannel(_HTTPChannel):  # type: ignore[misc]
    """A channel that also bounds how long one request may take to arrive, however its bytes are dripped."""

    limits = Http1Limits()
    clock: IReactorTime
    guest: Guest
    account: Account
    _lane: Lane | None = None
    _resting = 0.0
    _deadline: IDelayedCall | None = None
    _stalled: IDelayedCall | None = None
    _asked = False
    _full = False
    _finished = False

    def connectionMade(self) -> None:
        self._input = bytearray()
        self._looked_at = 0
        self.totalHeadersSize = self.limits.max_header_bytes
        door = self.site.door
        self._resting = self.clock.seconds()
        if self.guest is self and not door.enter(self, str(getattr(self.transport.getPeer(), "host", ""))):
            self._finished = True
            self.transport.abortConnection()
            return
        self.account = door.account(self.guest, 0.0)
        self._lane = door.lane(self.guest)
        super().connectionMade()
        self._expect()

    @property
    def resting_since(self) -> float | None:
        """See ``door.Guest``."""
        return None if self.requests or self._input else self._resting

    def retire(self) -> None:
        """See ``door.Guest``."""
        self.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._finished:
            return
        self._input += data
        self._ask()
        if len(self._input) >= _AHEAD and not self._full:
            self._full = True
            self._networkProducer.pauseProducing()

    def turn(self) -> Deferred[None]:
        """Fires when it is this connection's turn, for work that goes on in slices."""
        return succeed(None) if self._lane is None else self._lane.turn()

    def _ask(self) -> None:
        ready = self._input and not (self._asked or self._handlingRequest or self._waitingForTransport)
        if ready and not self._finished and self._lane is not None:
            self._asked = True
            self._lane.ask(self._in_turn, len(self._input))

    def _in_turn(self) -> None:
        self._asked = False
        if self._finished or self._handlingRequest or self._waitingForTransport:
            return
        # One request at most goes to the parser, which would serve all that it has.
        end = self._input.find(_END, max(0, self._looked_at - len(_END)))
        size = len(self._input) if end < 0 else end + len(_END)
        piece = bytes(memoryview(self._input)[:size])
        del self._input[:size]
        if self._deadline is None:
            self._expect()
        super().dataReceived(piece)
        self._go_on()

    def _go_on(self) -> None:
        if self._finished:
            self._input.clear()
            return
        self._ask()
        if self._full and len(self._input) < _AHEAD and not (self._handlingRequest or self._waitingForTransport):
            self._full = False
            self._networkProducer.resumeProducing()

    def requestDone(self, request: Any) -> None:
        self._full = self._full or len(self._input) >= _AHEAD
        self._resting = self.clock.seconds()
        super().requestDone(request)
        if self._full and not self._finished:
            self._networkProducer.pauseProducing()
        self._go_on()

    def loseConnection(self) -> None:
        self._finished = True
        super().loseConnection()

    def allContentReceived(self) -> None:
        self._expected()
        super().allContentReceived()

    def pauseProducing(self) -> None:
        super().pauseProducing()
        if self._stalled is None:
            self._stalled = self.clock.callLater(self.limits.stall, self.forceAbortClient)

    def resumeProducing(self) -> None:
        self._flowing()
        super().resumeProducing()
        self._full = len(self._input) >= _AHEAD
        if self._full:
            self._networkProducer.pauseProducing()
        self._go_on()

    def connectionLost(self, reason: Failure) -> None:
        self._finished = True
        self._expected()
        self._flowing()
        if self._lane is None:
            return
        super().connectionLost(reason)
        self.account.close()
        self._lane.close()
        if self.guest is self:
            self.site.door.leave(self)

    def _expect(self) -> None:
        self._deadline = self.clock.callLater(self.limits.request, self.timeoutConnection)

    def _expected(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _flowing(self) -> None:
        if self._stalled is not None and self._stalled.active():
            self._stalled.cancel()
        self._stalled = None

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.site.complain(self.transport.getPeer(), "no HTTP request, or one with too large a head")
        if max(self._receivedHeaderSize, 0) > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _CLOSING)
            self.loseConnection()
        else:
            super()._respondToBadRequestAndDisconnect()

    def lineLengthExceeded(self, line: bytes) -> Any:
        self.site.complain(self.transport.getPeer(), "no HTTP request, or one with too large a head")
        self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _CLOSING)
        self.loseConnection()

    def timeoutConnection(self) -> None:
        if self._asked:
            # It is not the client's fault that its turn has not come.
            self.resetTimeout()
            if self._deadline is not None and not self._deadline.active():
                self._expect()
            return
        # Nothing for the log: anyone can cause it at will.
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()

    def forceAbortClient(self) -> None:
        self._abortingCall = self._stalled = None
        if self.transport is not None:
            self.transport.abortConnection()


class LimitedRequest(Request):
    """A request whose body passes by unread."""

    _passed = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > MAX_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._passed += len(data)
        if self._passed > MAX_BODY:
            self._refuse()

    def _refuse(self) -> None:
        channel: Any = self.channel
        if not self._refused and channel is not None and channel.transport is not None:
            self._refused = True
            channel.transport.write(b"HTTP/1.1 413 Content Too Large\r\n" + _CLOSING)
            channel.loseConnection()


class LimitedSite(_Site):  # type: ignore[misc]
    """A site for a resource tree, on the clock given and without an access log."""

    requestFactory = LimitedRequest
    noisy = False

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        limits: Http1Limits,
        door: Door | None = None,
        complain: Callable[[Any, str], None] = lambda peer, why: None,
    ) -> None:
        super().__init__(resource, timeout=limits.idle, reactor=clock, parsePOSTFormSubmission=False)
        self.limits = limits
        self.complain = complain
        self.door = Door(clock, DoorLimits()) if door is None else door
        self.displayTracebacks = False

    def startFactory(self) -> None:
        """No access log, hence no clock of its own for it."""

    def stopFactory(self) -> None:
        """Nothing was started."""

    def buildProtocol(self, addr: IAddress | None) -> LimitedChannel:
        """A channel that asks the door by itself."""
        return self.channel_for(None)

    def channel_for(self, guest: Guest | None) -> LimitedChannel:
        """A channel for somebody who was let in already."""
        channel = LimitedChannel()
        channel.guest = channel if guest is None else guest
        channel.factory = self
        channel.site = self
        channel.requestFactory = self.requestFactory
        channel.limits = self.limits
        channel.clock = self.reactor
        channel.callLater = self.reactor.callLater
        channel.timeOut = self.limits.idle
        return channel


@implementer(IResource)
class RestResource:
    """A leaf of a resource tree that hands every request to a ``RestRouter``."""

    isLeaf = True
    server = None

    def __init__(self, router: RestRouter) -> None:
        self._router = router

    def getChildWithDefault(self, name: bytes, request: Any) -> Any:
        return self

    def putChild(self, path: bytes, child: Any) -> None:
        raise NotImplementedError("a REST resource has no children")

    def render(self, request: Any) -> int:
        fields = {
            name.decode("latin-1").lower(): values[0].decode("latin-1")
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        address = request.client
        peer = f"{getattr(address, 'host', '')}:{getattr(address, 'port', '')}"
        verb = request.method.decode("latin-1")
        turn, names = request.channel.turn, certificate_names(request.channel.transport)
        self._router.serve(RestRequest(verb, request.uri, fields, peer, turn, names), Http1Exchange(request))
        return NOT_DONE_YET


@implementer(IPushProducer)
class Http1Exchange:
    """The answer to one HTTP/1.1 request, see ``rest.Exchange``."""

    def __init__(self, request: Any) -> None:
        self.on_gone: Callable[[], None] | None = None
        self._request = request
        self._paused: Deferred[None] | None = None
        self._gone = False
        self._account: Any = None
        self._rest = memoryview(b"")
        request.notifyFinish().addErrback(self._lost)

    def answer(self, status: int, headers: HttpHeaders, body: bytes) -> None:
        if self._gone:
            return
        account = self._request.channel.account
        if account.clogged(len(body)):
            status, headers, body = 429, list(PLAIN_429), b"too much waits to be read; read it first\n"
        self._head(status, [*headers, ("Content-Length", str(len(body)))])
        if len(body) <= PART or self._request.method == b"HEAD":
            # Also an empty body is written: that is what sends the headers.
            self._request.write(body)
            self._request.finish()
            return
        self._account = account
        self._account.held(len(body))
        self._rest = memoryview(body)
        self._request.registerProducer(self, True)
        self._feed()

    def _feed(self) -> None:
        while self._rest and self._paused is None and not self._gone:
            part, self._rest = self._rest[:PART], self._rest[PART:]
            self._account.held(-len(part))
            self._request.write(bytes(part))
        if not self._rest and not self._gone:
            self.finish()

    def start(self, status: int, headers: HttpHeaders) -> None:
        self._head(status, headers)
        if not self._gone:
            self._request.registerProducer(self, True)
            self._request.write(b"")

    def write(self, data: bytes) -> Deferred[None]:
        if not self._gone:
            self._request.write(data)
        if self._paused is None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._paused.addBoth(lambda _: waiter.callback(None))
        return waiter

    def finish(self) -> None:
        if not self._gone:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)
        if self._rest:
            self._feed()

    def stopProducing(self) -> None:
        self.resumeProducing()

    def _head(self, status: int, headers: HttpHeaders) -> None:
        if self._gone:
            return
        self._request.setResponseCode(status)
        self._request.responseHeaders.removeHeader(b"server")
        self._request.responseHeaders.removeHeader(b"content-type")
        self._request.defaultContentType = None
        for name, value in headers:
            self._request.responseHeaders.addRawHeader(name.encode("latin-1"), value.encode("latin-1", "replace"))

    def _lost(self, _: Failure) -> None:
        self._gone = True
        self._rest = memoryview(b"")
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()
        self.resumeProducing()


def not_found(request: Any) -> bytes:
    """Make an answer the usual 404 page; gives its body."""
    request.setResponseCode(404)
    for name, value in PLAIN_404:
        request.setHeader(name.encode(), value.encode())
    return b"404 page not found\n"
