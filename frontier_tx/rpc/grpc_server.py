"""The server side of gRPC over one HTTP/2 connection; other requests on it go to a plain HTTP handler."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from frontier_tx.rpc.addresses import Account
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.exchange import Serve
from frontier_tx.rpc.grpc_framing import MAX_MESSAGE, MessageReader, crowded, encode_message, frame, parse_timeout
from frontier_tx.rpc.header_block import TOO_LARGE
from frontier_tx.rpc.http2 import Http2Connection
from frontier_tx.rpc.http2_exchange import Http2Exchange
from frontier_tx.rpc.http2_guard import GoAway
from frontier_tx.rpc.http2_stream import Headers, Http2Stream
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.slices import bytes_in_slices, long_list
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.rpc.turns import Lane

TOO_LARGE_NAME = TOO_LARGE.decode()

_HEAD: Headers = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity"),
]
MAX_VALUES = 10_500
"""Values that a large request may hold, of packed numbers more; beyond it the decoder would be busy for long."""
_PLAIN_SIZE = 64 * 1024
"""Bytes of a request that are decoded without a look at how much is in them."""
_QUEUED_REQUESTS = 16
"""Requests of a client stream that wait for the handler before the client is made to wait."""
_MAX_QUEUED_REQUESTS = 1024
"""Requests that fit the receive window of a stream but are too many to be held as objects."""

_CLOGGED = RpcError(
    Status.RESOURCE_EXHAUSTED, "too much waits to be read on this connection; read it, and ask for less at a time"
)


class GrpcServerConnection(Http2Connection):
    """One connection of a gRPC client.

    ``plain`` gets requests whose content type is not gRPC; without it they are answered with 415. ``names`` are those
    in the client's certificate.
    """

    def __init__(
        self,
        clock: IReactorTime,
        table: MethodTable,
        limits: Http2Limits,
        *,
        max_message: int = MAX_MESSAGE,
        account: Account | None = None,
        lane: Lane | None = None,
        plain: Serve | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(clock, limits, account, lane)
        self.table = table
        self.max_message = max_message
        self.plain = plain
        self.names = names

    def headers_received(self, stream_id: int, headers: Headers) -> None:
        if len(self.streams) >= self.limits.max_streams:
            # No handler has seen it, so the client may safely send it again.
            self.refuse(stream_id)
            return
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        stream: GrpcCall | Http2Exchange
        if fields.get("content-type", "").startswith("application/grpc"):
            stream = GrpcCall(self, stream_id, fields)
        else:
            stream = Http2Exchange(self, stream_id, fields, self.plain, self.max_message, self.names)
        self.streams[stream_id] = stream
        stream.begin()

    def trailers_received(self, stream: GrpcCall | Http2Exchange, headers: Headers) -> None:
        """Nothing in the trailers of a request matters."""

    def stream_data(self, stream: GrpcCall | Http2Exchange, data: bytes, size: int) -> None:
        stream.data(data, size)

    def stream_ended(self, stream: GrpcCall | Http2Exchange) -> None:
        stream.ended()

    def stream_gone(self, stream: GrpcCall | Http2Exchange, code: int | None) -> None:
        stream.gone()

    def goaway_received(self, goaway: GoAway) -> None:
        self.draining = True
        if not self.streams:
            self.lose()

    def retire(self) -> None:
        """See ``door.Guest``."""
        self.give_up(ErrorCodes.NO_ERROR, b"idle, and others want to connect")

    def end(self) -> None:
        """Answer all calls under way with an error, the plain ones by closing."""
        error = RpcError(Status.UNAVAILABLE, "the server is shutting down; call another one")
        for stream in list(self.streams.values()):
            stream.fail(error)


class GrpcCall(Http2Stream):
    """One call."""

    connection: GrpcServerConnection

    def __init__(self, connection: GrpcServerConnection, stream_id: int, headers: Mapping[str, str]) -> None:
        super().__init__(connection, stream_id)
        self._headers = headers
        self._reader = MessageReader(connection.max_message)
        self._context: CallContext | None = None
        self._requests: RequestStream | None = None
        self._message: bytes | None = None
        self._running: Deferred[Any] | None = None
        self._answered = False
        self._head_sent = False
        self._held = 0
        self._arriving: IDelayedCall | None = None

    def begin(self) -> None:
        """The headers are there: find the method, refuse what cannot be served."""
        try:
            self._context = self._open()
        except RpcError as error:
            self.fail(error)
            return
        if self._context.method.client_streaming:
            self._requests = RequestStream(self)
            self._start_stream(self._requests)
        else:
            late = self.connection.limits.request
            too_late = RpcError(Status.DEADLINE_EXCEEDED, f"the request did not arrive within {late:g} s")
            self._arriving = self.connection.clock.callLater(late, self.fail, too_late)

    def _open(self) -> CallContext:
        headers, table = self._headers, self.connection.table
        if TOO_LARGE_NAME in headers:
            limit = self.connection.limits.max_header_bytes
            raise RpcError(
                Status.RESOURCE_EXHAUSTED, f"the headers of the call are larger than {limit} bytes; send less metadata"
            )
        if self.connection.account.clogged():
            raise _CLOGGED
        if headers.get(":method") != "POST":
            raise RpcError(Status.UNIMPLEMENTED, f"gRPC calls are POST, not {headers.get(':method', '')[:16]}")
        method = table.find(headers.get(":path", ""))
        encoding = headers.get("grpc-encoding", "identity")
        if encoding != "identity":
            raise RpcError(
                Status.UNIMPLEMENTED,
                f'grpc: Decompressor is not installed for grpc-encoding "{encoding[:32]}"; send uncompressed messages',
            )
        deadline = None
        if "grpc-timeout" in headers:
            try:
                deadline = table.clock.seconds() + parse_timeout(headers["grpc-timeout"])
            except ValueError as error:
                raise RpcError(Status.INTERNAL, str(error)) from None
        connection = self.connection
        names = connection.names
        context = CallContext(method, headers, connection.peer, "grpc", deadline, connection.turn, names=names)
        table.admit(context)
        return context

    def data(self, data: bytes, size: int) -> None:
        """Bytes of the request; ``size`` is what they took of the window."""
        if self._answered or self._context is None:
            return
        try:
            for message in self._reader.feed(data):
                if self._requests is not None:
                    self._requests.put(self._decode(message))
                elif self._message is not None:
                    raise RpcError(Status.INTERNAL, "a unary call was sent more than one message")
                else:
                    self._message = message
            self._hold(self._reader.held + len(self._message or b""))
        except RpcError as error:
            self.fail(error)
            return
        if self._requests is None or self._requests.hungry:
            self.consumed(size)
        else:
            self._requests.owed += size

    def ended(self) -> None:
        """The request is complete."""
        if self._answered or self._context is None:
            return
        self._arrived()
        if self._reader.held:
            self.fail(RpcError(Status.INTERNAL, "the request ends within a message"))
        elif self._requests is not None:
            self._requests.put_end()
        elif self._message is None:
            self.fail(RpcError(Status.INTERNAL, "a unary call was sent no message"))
        else:
            message, self._message = self._message, None
            self._hold(0)
            try:
                request = self._decode(message)
            except RpcError as error:
                self.fail(error)
                return
            if self._context.method.server_streaming:
                self._start_stream(request)
            else:
                self._running = self.connection.table.call(self._context, request)
                self._running.addCallbacks(self._respond, self._failed)

    def _decode(self, message: bytes) -> Any:
        assert self._context is not None
        request = self._context.method.request
        if len(message) > _PLAIN_SIZE and crowded(message, request.DESCRIPTOR, MAX_VALUES):
            raise RpcError(
                Status.INVALID_ARGUMENT, f"the request holds more than {MAX_VALUES} values; ask for less at a time"
            )
        try:
            return request.FromString(message)
        except DecodeError as error:
            why = "proto: cannot parse invalid wire-format data"
            if "UTF-8" in str(error):
                why = "string field contains invalid UTF-8"
            raise RpcError(Status.INTERNAL, f"grpc: error unmarshalling request: {why}") from None

    def _start_stream(self, requests: Any) -> None:
        assert self._context is not None
        self._running = self.connection.table.stream(self._context, requests, self._send)
        self._running.addCallbacks(lambda _: self._end(Status.OK, ""), self._failed)
        if not self._answered:
            # Tells the client that its stream is served, though there may be nothing to send for long.
            self._head()

    def _hold(self, size: int) -> None:
        self.connection.account.hold(size - self._held)
        self._held = size

    def _respond(self, response: Any) -> None:
        field = long_list(response)
        if field is None:
            self._answer(response.SerializeToString())
            return
        self._running = Deferred.fromCoroutine(bytes_in_slices(response, field, self.connection.turn))
        self._running.addCallbacks(self._answer, self._failed)

    def _answer(self, message: bytes) -> None:
        self._running = None
        answer = frame(message)
        if self.connection.account.clogged(len(answer)):
            self.fail(_CLOGGED)
            return
        self._head()
        self.queue(answer)
        self._end(Status.OK, "")

    def _send(self, response: Any) -> Deferred[None]:
        self._head()
        return self.write(frame(response.SerializeToString()))

    def _head(self) -> None:
        if not self._head_sent:
            self._head_sent = True
            self.send_headers(_HEAD)

    def _failed(self, failure: Failure) -> None:
        self._running = None
        if isinstance(failure.value, RpcError):
            self.fail(failure.value)
        else:
            self.fail(RpcError(Status.INTERNAL, "unknown request error"))

    def fail(self, error: RpcError) -> None:
        """Answer with this error, whatever has been sent of a response."""
        running, self._running = self._running, None
        self._end(error.status, error.message)
        if running is not None:
            running.addErrback(lambda _: None)
            running.cancel()

    def _end(self, status: Status, message: str) -> None:
        if self._answered:
            return
        self._answered = True
        self._release()
        trailers: Headers = [(b"grpc-status", b"%d" % status), (b"grpc-message", encode_message(message))]
        if self._head_sent:
            self.finish(trailers)
        else:
            self.send_headers(_HEAD + trailers, end_stream=True)

    def gone(self) -> None:
        """The caller gave up, or the connection is lost."""
        self._answered = True
        self._release()
        running, self._running = self._running, None
        if running is not None:
            running.addErrback(lambda _: None)
            running.cancel()

    def _arrived(self) -> None:
        if self._arriving is not None and self._arriving.active():
            self._arriving.cancel()
        self._arriving = None

    def _release(self) -> None:
        self._arrived()
        self.connection.account.hold(-self._held)
        self._held = 0
        self._message = None
        if self._requests is not None:
            self._requests.put_end()


class RequestStream(AsyncIterator[Any]):
    """The requests of a client that streams, for the handler."""

    def __init__(self, call: GrpcCall) -> None:
        self._call = call
        self._queue: deque[Any] = deque()
        self._waiting: Deferred[None] | None = None
        self._over = False
        self.owed = 0

    @property
    def hungry(self) -> bool:
        """Whether the client may go on sending at once."""
        return len(self._queue) < _QUEUED_REQUESTS

    def put(self, request: Any) -> None:
        """One more request; raises ``RpcError`` when far too many wait."""
        if len(self._queue) >= _MAX_QUEUED_REQUESTS:
            raise RpcError(Status.RESOURCE_EXHAUSTED, f"{len(self._queue)} requests wait on this stream; send slower")
        self._queue.append(request)
        self._wake()

    def put_end(self) -> None:
        """No more will come."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def __anext__(self) -> Any:
        while not self._queue:
            if self._over:
                raise StopAsyncIteration
            self._waiting = Deferred()
            await self._waiting
        request = self._queue.popleft()
        if self.owed and self.hungry:
            owed, self.owed = self.owed, 0
            self._call.consumed(owed)
        return request
