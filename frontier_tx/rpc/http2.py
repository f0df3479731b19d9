"""One HTTP/2 connection in Twisted: h2 for the protocol, and around it what h2 leaves to its user.

That is sending under flow control with back-pressure, giving back receive windows, limits on time and on floods, and an
orderly end. Server and client subclass it and see streams.
"""

from __future__ import annotations

from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.rpc.addresses import Account
from frontier_tx.rpc.engine import Engine, Http2Limits
from frontier_tx.rpc.http2_guard import LAST_STREAM_ID, PREFACE, BadBlock, FrameGuard, FrameTooLong, GoAway
from frontier_tx.rpc.http2_stream import Headers, StreamSender
from frontier_tx.rpc.turns import Lane

log = Logger()

DRAIN_PING = b"draining"
DRAIN_WAIT = 1.0
"""Seconds between the two GOAWAY frames of an orderly end when the peer does not answer the ping between them."""
_FRAMES = 8
"""Frames that are dealt with in one step; one that opens a stream ends it."""
_AHEAD = 32 * 1024
"""Bytes received and not dealt with, from which on nothing more is read: more than any one frame has."""


@implementer(IPushProducer)
class Http2Connection(StreamSender, Protocol):
    """What server and client have in common; subclasses implement the ``…_received`` and ``stream_…`` hooks."""

    def __init__(
        self, clock: IReactorTime, limits: Http2Limits, account: Account | None = None, lane: Lane | None = None
    ) -> None:
        super().__init__(clock, limits, Engine(limits, client_side=self.client_side), account)
        self._lane = lane
        self._asked = False
        self._full = False
        self._incomplete_since: float | None = None
        self._guard = FrameGuard(0 if self.client_side else len(PREFACE), self.h2.decoder)
        self._unreturned = 0
        self._heard = self._busy
        self._pinged: float | None = None

    # What subclasses fill in.

    def complain(self, why: str) -> None:
        """The connection ends for what the peer sent."""

    def handshaken(self) -> None:
        """The peer sent its settings."""

    def headers_received(self, stream_id: int, headers: Headers) -> None:
        """Headers came: of a new request for a server, of a response for a client."""

    def trailers_received(self, stream: Any, headers: Headers) -> None:
        """The headers after the data of a stream came."""

    def stream_data(self, stream: Any, data: bytes, size: int) -> None:
        """Data came; ``size`` is what it took of the window, to be given back by ``stream.consumed``."""

    def stream_ended(self, stream: Any) -> None:
        """The peer sends no more on this stream."""

    def goaway_received(self, goaway: GoAway) -> None:
        """The peer wants the connection to end; calls on streams up to its number go on."""

    @property
    def peer(self) -> str:
        """``host:port`` at the other end."""
        address = self.transport.getPeer() if self.transport is not None else None
        host = getattr(address, "host", None)
        return str(address) if host is None else f"{host}:{getattr(address, 'port', '')}"

    @property
    def resting_since(self) -> float | None:
        """Since when there is no stream and nothing to deal with, in seconds; None while there is."""
        return None if self.streams or self._asked else self._busy

    # From the transport.

    def connectionMade(self) -> None:
        assert self.transport is not None
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.h2.initiate_connection()
        extra = self.limits.connection_window - self.h2.inbound_flow_control_window
        if extra > 0:
            self.h2.increment_flow_control_window(extra)
        self._after("handshake", self.limits.handshake, self.abort)
        self._after("check", self.limits.ping_timeout, self._check)
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        if self.disconnected or self.closing:
            return
        self._heard = self.clock.seconds()
        self._pinged = None
        self._guard.feed(data)
        if self._lane is None:
            while self._work():
                pass
        else:
            self._ask()
            if self._guard.waiting >= _AHEAD and not self._full:
                self._full = True
                self._hold_back()

    def turn(self) -> Deferred[None]:
        """Fires when it is this connection's turn, for work that goes on in slices."""
        return succeed(None) if self._lane is None else self._lane.turn()

    def _ask(self) -> None:
        if not self._asked and self._lane is not None:
            self._asked = True
            self._lane.ask(self._in_turn, self._guard.waiting)

    def _in_turn(self) -> None:
        self._asked = False
        if self._work():
            self._ask()
        elif self._full and not self._paused:
            self._full = False
            self._let_on()

    def _work(self) -> bool:
        """Deal with some of what was received; whether there may be more to do now."""
        if self.disconnected or self.closing or (self._paused and not self.client_side):
            # A client that does not read its answers gets no more of them.
            return False
        self._corked = True
        try:
            for _ in range(_FRAMES):
                opened = self._take()
                if opened is None:
                    return False
                if opened:
                    break
        finally:
            self._corked = False
            self._write()
        return True

    def _take(self) -> bool | None:
        """Deal with one frame: whether it opened a stream, or None when there is none or the connection ends."""
        try:
            piece = self._guard.take()
        except FrameTooLong as error:
            self.complain(f"HTTP/2: {error}")
            self.give_up(ErrorCodes.FRAME_SIZE_ERROR, str(error).encode())
            return None
        except BadBlock as error:
            self.complain(f"HTTP/2: {error}")
            self.give_up(error.code, str(error).encode("utf-8", "replace"))
            return None
        if piece is None:
            if not self._guard.inside:
                self._incomplete_since = None
            elif self._incomplete_since is None:
                self._incomplete_since = self._heard
            return None
        weight, self._guard.weight = self._guard.weight, 0
        if weight and not self.account.spend(weight):
            self.complain("HTTP/2: too many frames that move nothing")
            self.give_up(ErrorCodes.ENHANCE_YOUR_CALM, b"too many frames that move nothing")
            return None
        if piece.goaway is not None:
            self._incomplete_since = None
            self.goaway_received(piece.goaway)
        elif piece.data:
            self._incomplete_since = None
            self._received(piece.data)
        return None if self.disconnected or self.closing else piece.opens

    def _received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except H2Error as error:
            self.complain(f"HTTP/2: {error}")
            self._write()
            self.lose()
            self._end_all()
            return
        except Exception as error:
            # A parser under h2 let something else through; the bytes are the peer's, so the peer goes.
            self.complain(f"HTTP/2: bytes that broke the parser: {error!r}")
            self.give_up(ErrorCodes.PROTOCOL_ERROR, b"malformed frame")
            return
        for event in events:
            self._dispatch(event)
            if self.disconnected or self.closing:
                return

    def _hold_back(self) -> None:
        if self.transport is not None:
            self.transport.pauseProducing()

    def _let_on(self) -> None:
        if self.transport is not None and not (self.disconnected or self.closing):
            self.transport.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.disconnected = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._end_all()
        self.account.close()
        if self._lane is not None:
            self._lane.close()

    def _end_all(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        self._pending.clear()
        for stream in streams:
            self._closed(stream)
            self.stream_gone(stream, None)

    def pauseProducing(self) -> None:
        self._paused = True
        self._after("stall", self.limits.stall, self.abort)
        if not self.client_side:
            # A client that does not read its answers is not read from. Two peers that both did so could wait for each
            # other for ever, so only the server does.
            self._hold_back()

    def resumeProducing(self) -> None:
        self._paused = False
        self._drop("stall")
        self._pump_all()
        self.flush()
        if not self.client_side and not self._paused:
            if self._guard.waiting:
                self._ask()
            else:
                self._full = False
            if not self._full:
                self._let_on()

    def stopProducing(self) -> None:
        self._paused = True

    # Events of h2.

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            assert event.flow_controlled_length is not None
            self._returned(event.flow_controlled_length)
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                self.stream_data(stream, event.data or b"", event.flow_controlled_length)
        elif isinstance(event, RequestReceived | ResponseReceived):
            assert event.stream_id is not None
            self._busy = self._heard
            self.headers_received(event.stream_id, event.headers or [])
        elif isinstance(event, StreamEnded):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                self.stream_ended(stream)
        elif isinstance(event, TrailersReceived):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                self.trailers_received(stream, event.headers or [])
        elif isinstance(event, WindowUpdated):
            if event.stream_id:
                self.pump(self._pending.get(event.stream_id))
            else:
                self._pump_all()
        elif isinstance(event, StreamReset):
            self._forget(event.stream_id, int(event.error_code or 0))
        elif isinstance(event, RemoteSettingsChanged):
            self._drop("handshake")
            self.handshaken()
            self._pump_all()
        elif isinstance(event, PingAckReceived) and event.ping_data == DRAIN_PING:
            self._last_goaway()

    def _returned(self, size: int) -> None:
        # The window of the connection is given back at once: what a stream may hold is bounded by its own, and one
        # stream that is not read must not stop the others.
        self._unreturned += size
        if self._unreturned >= self.limits.connection_window // 2:
            self.h2.increment_flow_control_window(self._unreturned)
            self._unreturned = 0

    # Streams.

    def all_done(self) -> None:
        """The last stream of a draining connection is over."""
        self.lose()

    def refuse(self, stream_id: int) -> None:
        """Turn a stream away that nobody has looked at."""
        known = self.h2.streams.get(stream_id)
        if known is not None and not known.closed:
            self.h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        self._guard.weight += 1

    def _forget(self, stream_id: int | None, code: int) -> None:
        stream = self.streams.get(stream_id or 0)
        if stream is not None:
            self.remove(stream)
            self.stream_gone(stream, code)

    # Ending.

    def drain(self) -> None:
        """End in order: no new streams, then, when those under way are over, the connection."""
        if self.draining or self.disconnected:
            return
        self.draining = True
        self._goaway(GoAway(LAST_STREAM_ID, 0))
        self.h2.ping(DRAIN_PING)
        self.flush()
        self._after("drain", DRAIN_WAIT, self._last_goaway)

    def _last_goaway(self) -> None:
        self._drop("drain")
        if self.disconnected or not self.draining:
            return
        self._goaway(GoAway(self.h2.highest_inbound_stream_id, 0))
        if not self.streams:
            self.all_done()

    def _goaway(self, goaway: GoAway) -> None:
        # Past h2, which would refuse all further frames.
        self._write()
        if self.transport is not None:
            self.transport.write(goaway.serialize())

    def give_up(self, code: int, text: bytes) -> None:
        """End the connection because of the peer, telling it why."""
        self._goaway(GoAway(self.h2.highest_inbound_stream_id, int(code), text))
        self.lose()
        # The calls end now, however long the peer takes to read that.
        self._end_all()

    def lose(self) -> None:
        """Close once everything is written; cut if that takes too long."""
        if self.transport is not None and not self.disconnected and not self.closing:
            self.closing = True
            self._write()
            self._after("stall", self.limits.stall, self.abort)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None and not self.disconnected:
            self.transport.abortConnection()

    # Time.

    def _check(self) -> None:
        limits, now = self.limits, self.clock.seconds()
        if self._pinged is not None and now - self._pinged >= limits.ping_timeout:
            self.abort()
            return
        since = self._incomplete_since
        if not self.client_side and since is not None and self._guard.inside and now - since >= limits.request:
            self.complain(f"HTTP/2: a frame that was not complete within {limits.request:g} s")
            self.give_up(ErrorCodes.ENHANCE_YOUR_CALM, b"a frame took too long")
            return
        if not self.streams:
            if now - self._busy >= limits.idle and not self.draining:
                self.drain()
        elif self._pinged is None and now - self._heard >= limits.ping_every:
            self._pinged = now
            self.h2.ping(b"are you?")
            self.flush()
        self._after("check", limits.ping_timeout, self._check)
