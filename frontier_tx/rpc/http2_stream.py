"""Streams of one HTTP/2 connection: what waits on them to be sent, who waits for that, and sending it."""

from __future__ import annotations

from typing import Any

from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from frontier_tx.rpc.addresses import Account, Address, Bucket, Budget
from frontier_tx.rpc.engine import Engine, Http2Limits

Headers = list[tuple[bytes, bytes]]

HIGH_WATER = 64 * 1024
"""Bytes waiting on one stream from which on its writer is asked to wait."""
_CREDIT_PER_CALL = 8


class StreamSender:
    """The sending half of a connection: streams take turns, as far as windows and the transport let them.

    ``h2`` is its engine, ``account`` what it may use; without one it shares nothing with other connections.
    """

    client_side = False
    transport: Any

    def __init__(self, clock: IReactorTime, limits: Http2Limits, h2: Engine, account: Account | None) -> None:
        self.clock = clock
        self.limits = limits
        self.h2 = h2
        self.account = own_account(clock, limits) if account is None else account
        self.streams: dict[int, Any] = {}
        self.draining = self.disconnected = self.closing = False
        self._corked = self._paused = False
        self._pending: dict[int, Http2Stream] = {}
        self._busy = clock.seconds()
        self._timers: dict[str, IDelayedCall] = {}

    # What the connection fills in.

    def stream_gone(self, stream: Any, code: int | None) -> None:
        """The stream ended before its time: reset with ``code``, or None when the connection is lost."""

    def all_done(self) -> None:
        """The last stream of a draining connection is over."""

    def flush(self) -> None:
        """Write what h2 has to say; while received data is dealt with, at the end of that."""
        if not self.disconnected and not self._corked:
            self._write()

    def _write(self) -> None:
        data = self.h2.data_to_send()
        if data and self.transport is not None and not self.disconnected:
            self.transport.write(data)

    def pump(self, stream: Http2Stream | None) -> None:
        """Send what the windows and the transport take of one stream's queue."""
        if stream is None or stream.closed or self.disconnected:
            return
        while stream.out and self._send_frame(stream):
            pass
        self._settle(stream)
        self.flush()

    def _pump_all(self) -> None:
        waiting = list(self._pending.values())
        while waiting and not self._paused:
            # One frame each in turn, so that a long answer does not hold up a short one.
            waiting = [stream for stream in waiting if stream.out and self._send_frame(stream)]
        for stream in list(self._pending.values()):
            self._settle(stream)

    def sendable(self, stream: Http2Stream) -> bool:
        """Whether frames may still be sent on a stream.

        h2 may know of its end before its user does: it takes in all that was received at once, and tells afterwards.
        """
        if stream.closed or self.disconnected or self.closing:
            return False
        known = self.h2.streams.get(stream.stream_id)
        return known is not None and not known.closed

    def _send_frame(self, stream: Http2Stream) -> bool:
        if self._paused or not self.sendable(stream):
            return False
        window = self.h2.local_flow_control_window(stream.stream_id)
        size = min(window, self.h2.max_outbound_frame_size, len(stream.out))
        if size <= 0:
            return False
        self.h2.send_data(stream.stream_id, bytes(stream.out[:size]))
        del stream.out[:size]
        self.account.held(-size)
        self.account.earn(1)
        # Not held back, so that the transport can ask for a pause.
        self._write()
        stream.progressed()
        return True

    def _settle(self, stream: Http2Stream) -> None:
        if not self.sendable(stream):
            return
        if stream.out:
            self._pending[stream.stream_id] = stream
            if stream.stall_timer is None and not self._paused:
                stream.stall_timer = self.clock.callLater(self.limits.stall, self._stalled, stream)
            return
        self._pending.pop(stream.stream_id, None)
        if stream.finishing:
            if stream.last_headers is not None:
                self.h2.send_headers(stream.stream_id, stream.last_headers, end_stream=True)
            else:
                self.h2.end_stream(stream.stream_id)
            self.ended_here(stream)

    def ended_here(self, stream: Http2Stream) -> None:
        """This side sent its last frame on a stream. For a server that is the end of the call."""
        if self.client_side:
            return
        self.account.earn(_CREDIT_PER_CALL)
        if self.sendable(stream):
            # The answer is complete but the request is not: nobody will read the rest of it.
            if stream.linger and len(self._timers) < self.limits.max_streams:
                self._after(f"rest of {stream.stream_id}", stream.linger, lambda: self._cut_short(stream.stream_id))
            else:
                self._cut_short(stream.stream_id)
        self.remove(stream)

    def _cut_short(self, stream_id: int) -> None:
        known = self.h2.streams.get(stream_id)
        if known is not None and not known.closed and not (self.disconnected or self.closing):
            self.h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)
            self.flush()

    def _stalled(self, stream: Http2Stream) -> None:
        stream.stall_timer = None
        self.reset_stream(stream, ErrorCodes.CANCEL)
        self.stream_gone(stream, int(ErrorCodes.CANCEL))

    def reset_stream(self, stream: Http2Stream, code: int) -> None:
        """Reset a stream and forget it, without telling its user."""
        if self.sendable(stream):
            self.h2.reset_stream(stream.stream_id, code)
        self.remove(stream)
        self.flush()

    def remove(self, stream: Http2Stream) -> None:
        """A stream is over."""
        self.streams.pop(stream.stream_id, None)
        self._pending.pop(stream.stream_id, None)
        self._closed(stream)
        self._busy = self.clock.seconds()
        if self.draining and not self.streams:
            self.flush()
            self.all_done()

    def _closed(self, stream: Http2Stream) -> None:
        stream.closed = True
        self.account.held(-len(stream.out))
        stream.out.clear()
        stream.progressed()

    def _after(self, name: str, seconds: float, what: Any) -> None:
        self._drop(name)
        self._timers[name] = self.clock.callLater(seconds, what)

    def _drop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()


class Http2Stream:
    """One stream as its user sees it; made and driven by the connection.

    ``linger``: seconds after the end of an answer for which the client may go on with its request before the stream is
    reset. Clients that are busy sending take a reset at once for the loss of the answer.
    """

    linger = 0.0

    def __init__(self, connection: StreamSender, stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.out = bytearray()
        self.last_headers: Headers | None = None
        self.finishing = False
        self.closed = False
        self.stall_timer: IDelayedCall | None = None
        self._writable: list[Deferred[None]] = []
        self._unreturned = 0

    def send_headers(self, headers: Headers, end_stream: bool = False) -> None:
        """Send headers at once; not allowed after ``finish``."""
        if self.connection.sendable(self):
            self.connection.h2.send_headers(self.stream_id, headers, end_stream=end_stream)
            if end_stream:
                self.connection.ended_here(self)
            self.connection.flush()

    def queue(self, data: bytes) -> None:
        """Add to what ``finish`` is to send before it ends this side."""
        if not self.closed:
            self.out += data
            self.connection.account.held(len(data))

    def write(self, data: bytes) -> Deferred[None]:
        """Queue data; fires when the queue is short enough for more, also when the stream is gone."""
        if self.closed:
            return succeed(None)
        self.queue(data)
        self.connection.pump(self)
        if self.closed or len(self.out) < HIGH_WATER:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._writable.append(waiter)
        return waiter

    def finish(self, trailers: Headers | None = None) -> None:
        """End this side after what is queued, with trailers or without."""
        if not self.closed and not self.finishing:
            self.finishing = True
            self.last_headers = trailers
            self.connection.pump(self)

    def reset(self, code: int = ErrorCodes.CANCEL) -> None:
        """End the stream in both directions now, dropping what is queued."""
        if not self.closed:
            self.connection.reset_stream(self, code)

    def consumed(self, size: int) -> None:
        """``size`` received bytes need no memory any longer: the peer may send as many more."""
        self._unreturned += size
        if self._unreturned >= self.connection.limits.stream_window // 2 and self.connection.sendable(self):
            self.connection.h2.increment_flow_control_window(self._unreturned, self.stream_id)
            self._unreturned = 0
            self.connection.flush()

    def progressed(self) -> None:
        """Data left the queue: let writers go on when there is room."""
        if self.stall_timer is not None:
            self.stall_timer.cancel()
            self.stall_timer = None
        if self._writable and (self.closed or len(self.out) < HIGH_WATER):
            waiting, self._writable = self._writable, []
            for waiter in waiting:
                waiter.callback(None)


def own_account(clock: IReactorTime, limits: Http2Limits) -> Account:
    """An account for a connection that shares nothing with others."""
    now = clock.seconds()
    burst, rate = float(limits.flood_burst), float(limits.flood_rate)
    return Account(Budget(), Address("", Bucket(1, 1, now), Bucket(burst, rate, now)), clock.seconds, burst)
