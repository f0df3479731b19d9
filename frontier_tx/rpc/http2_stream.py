"""One HTTP/2 stream: what waits on it to be sent, and who waits for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

if TYPE_CHECKING:
    from frontier_tx.rpc.http2 import Http2Connection

Headers = list[tuple[bytes, bytes]]

HIGH_WATER = 64 * 1024
"""Bytes waiting on one stream from which on its writer is asked to wait."""


class Http2Stream:
    """One stream as its user sees it; made and driven by the connection.

    ``linger``: seconds after the end of an answer for which the client may go on with its request before the stream is
    reset. Clients that are busy sending take a reset at once for the loss of the answer.
    """

    linger = 0.0

    def __init__(self, connection: Http2Connection, stream_id: int) -> None:
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
