"""One call of a gRPC client, from its headers to its status."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError
from h2.errors import ErrorCodes
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall

from frontier_tx.rpc.contract import MethodSpec
from frontier_tx.rpc.grpc_framing import MessageReader, decode_message
from frontier_tx.rpc.header_block import TOO_LARGE
from frontier_tx.rpc.http2 import Http2Connection
from frontier_tx.rpc.http2_stream import Headers, Http2Stream
from frontier_tx.rpc.status import RpcError, Status, status_of_http, status_of_number

_QUEUED = 16
"""Responses that wait for the reader of a stream before the server is made to wait."""
_MAX_QUEUED = 10_000
"""Responses that fit the receive window of a stream but are too many to be held as objects."""


class ClientCall(Http2Stream):
    """One call as the connection sees it."""

    connection: Http2Connection

    def __init__(self, connection: Http2Connection, stream_id: int, method: MethodSpec, max_message: int) -> None:
        super().__init__(connection, stream_id)
        self.timer: IDelayedCall | None = None
        self.error: RpcError | None = None
        self.done = False
        self.started = False
        self.owed = 0
        self.responses: deque[Any] = deque()
        self._method = method
        self._reader = MessageReader(max_message)
        self._http_error: RpcError | None = None
        self._waiting: Deferred[None] | None = None

    def single(self) -> Deferred[Any]:
        """The one response."""

        async def wait() -> Any:
            try:
                await self.wait(until_end=True)
            except CancelledError:
                self.cancel()
                raise
            if self.error is not None:
                raise self.error
            if len(self.responses) != 1:
                raise RpcError(Status.INTERNAL, f"the server sent {len(self.responses)} responses to a unary call")
            return self.responses[0]

        return Deferred.fromCoroutine(wait())

    async def wait_head(self) -> None:
        """Wait for the headers of the response or the end."""
        while not (self.done or self.started):
            self._waiting = Deferred()
            await self._waiting

    async def wait(self, until_end: bool = False) -> None:
        """Wait for a response or the end."""
        while not self.done and (until_end or not self.responses):
            self._waiting = Deferred()
            await self._waiting

    def head(self, headers: Headers) -> None:
        """The headers of the response."""
        fields = dict(headers)
        if self._too_large(fields):
            return
        number = fields.get(b":status", b"0")
        http_status = int(number) if number.isdigit() else 0
        if b"grpc-status" in fields:
            self.trailers(headers)
        elif http_status != 200 or not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            status = status_of_http(http_status) if http_status != 200 else Status.UNKNOWN
            self._http_error = RpcError(status, f"the server answered HTTP {http_status} without a gRPC status")
        else:
            self.started = True
            self._wake()

    def data(self, data: bytes, size: int) -> None:
        """Bytes of responses."""
        if self._http_error is not None:
            self.consumed(size)
            return
        try:
            for message in self._reader.feed(data):
                if len(self.responses) >= _MAX_QUEUED:
                    raise RpcError(Status.RESOURCE_EXHAUSTED, f"{_MAX_QUEUED} responses wait to be read")
                self.responses.append(self._method.response.FromString(message))
        except DecodeError:
            self._broken(RpcError(Status.INTERNAL, f"the response to {self._method.path} cannot be decoded"))
        except RpcError as error:
            self._broken(error)
        else:
            if len(self.responses) < _QUEUED:
                self.consumed(size)
            else:
                self.owed += size
            if self.responses:
                self._wake()

    def _too_large(self, fields: dict[bytes, bytes]) -> bool:
        if TOO_LARGE not in fields:
            return False
        limit = self.connection.limits.max_header_bytes
        self._broken(RpcError(Status.RESOURCE_EXHAUSTED, f"the headers of the answer are larger than {limit} bytes"))
        return True

    def trailers(self, headers: Headers) -> None:
        """The status."""
        fields = dict(headers)
        if self._too_large(fields):
            return
        status = status_of_number(fields.get(b"grpc-status", b"").decode("latin-1"))
        if status is not Status.OK:
            self.error = RpcError(status, decode_message(fields.get(b"grpc-message", b"")))
        self._http_error = None if b"grpc-status" in fields else self._http_error
        self._over()
        self.end(self.error or self._http_error)

    def ended(self) -> None:
        """The server sends no more."""
        self._over()
        self.end(self._http_error or RpcError(Status.INTERNAL, "the server ended the call without a status"))

    def _over(self) -> None:
        # A server may answer before it has the whole request; the rest is of no use then.
        self.connection.reset_stream(self, ErrorCodes.NO_ERROR)

    def expire(self) -> None:
        """The deadline passed."""
        self.timer = None
        self._broken(RpcError(Status.DEADLINE_EXCEEDED, "the deadline passed before the answer came"))

    def cancel(self) -> None:
        """Nobody waits for the answer any longer."""
        self._broken(RpcError(Status.CANCELLED, "the call was cancelled"))

    def _broken(self, error: RpcError) -> None:
        if not self.done:
            self.reset(ErrorCodes.CANCEL)
            self.end(error)

    def end(self, error: RpcError | None) -> None:
        """The call is over."""
        if self.done:
            return
        self.done = True
        self.error = error
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class ResponseStream(AsyncIterator[Any]):
    """The responses of a streaming call; it ends with the call, with ``RpcError`` if that failed."""

    def __init__(self, call: ClientCall) -> None:
        self._call = call

    async def __anext__(self) -> Any:
        call = self._call
        await call.wait()
        if not call.responses:
            if call.error is not None:
                raise call.error
            raise StopAsyncIteration
        response = call.responses.popleft()
        if call.owed and len(call.responses) < _QUEUED:
            owed, call.owed = call.owed, 0
            call.consumed(owed)
        return response

    async def started(self) -> None:
        """Wait until the server serves the stream; raises ``RpcError`` when it does not. Not while iterating."""
        await self._call.wait_head()
        if self._call.error is not None:
            raise self._call.error

    def cancel(self) -> None:
        """End the call; its reader gets CANCELLED after the responses that have arrived."""
        self._call.cancel()
