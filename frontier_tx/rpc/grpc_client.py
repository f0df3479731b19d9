"""A gRPC client inside Twisted: unary calls and server streams over one HTTP/2 connection.

Connecting, and connecting again, is the caller's business: when ``closed`` fires, or ``usable`` is false, make a new
connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from google.protobuf.message import DecodeError
from h2.errors import ErrorCodes
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
    IOpenSSLClientConnectionCreator,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from frontier_tx.rpc.contract import MethodSpec
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.grpc_framing import MAX_MESSAGE, MessageReader, decode_message, format_timeout, frame
from frontier_tx.rpc.header_block import TOO_LARGE
from frontier_tx.rpc.http2 import Http2Connection
from frontier_tx.rpc.http2_guard import LAST_STREAM_ID, GoAway
from frontier_tx.rpc.http2_stream import Headers, Http2Stream
from frontier_tx.rpc.status import RpcError, Status, status_of_http, status_of_number
from frontier_tx.runtime.deferreds import cancellable

_QUEUED = 16
"""Responses that wait for the reader of a stream before the server is made to wait."""
_MAX_WAITING = 1000
"""Calls that wait on one connection for the server to take more of them."""
_MAX_QUEUED = 10_000
"""Responses that fit the receive window of a stream but are too many to be held as objects."""


class NotSentError(RpcError):
    """The call did not reach the server, so that it may safely be made again elsewhere. Status UNAVAILABLE."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.UNAVAILABLE, message)


class GrpcClientConnection(Http2Connection):
    """One connection to a gRPC server; get one with ``connect``.

    ``closed`` fires with None when the connection is over. ``authority`` is what the server is told to be called.
    """

    client_side = True

    def __init__(
        self,
        clock: IReactorTime,
        authority: str,
        *,
        secure: bool = False,
        metadata: Mapping[str, str] | None = None,
        limits: Http2Limits | None = None,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        # A client that is idle stays: closing is up to whoever opened it.
        super().__init__(clock, limits or Http2Limits(idle=float("inf"), ping_every=20.0))
        self.max_message = max_message
        self.ready: Deferred[GrpcClientConnection] = Deferred(lambda _: self.abort())
        self.closed: Deferred[None] = Deferred()
        self._waiting: dict[WaitingCall, None] = {}
        self._head: Headers = [
            (b":method", b"POST"),
            (b":scheme", b"https" if secure else b"http"),
            (b":authority", authority.encode("idna" if authority and not authority.isascii() else "ascii")),
        ]
        self._tail: Headers = [
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"frontier-tx"),
            *((name.lower().encode("ascii"), value.encode("latin-1")) for name, value in (metadata or {}).items()),
        ]

    @property
    def usable(self) -> bool:
        """Whether a call made now would be sent."""
        return self.ready.called and not (self.draining or self.disconnected or self.closing or self.spent)

    @property
    def spent(self) -> bool:
        """Whether the numbers of streams are used up: one connection has 2**30 of them. Calls under way go on."""
        return (self.h2.highest_outbound_stream_id or -1) + 2 > LAST_STREAM_ID

    def unary(self, method: MethodSpec, request: Any, timeout: float | None = None) -> Deferred[Any]:
        """Call a unary method; gives the response message.

        Fails with ``RpcError``: what the server answered, DEADLINE_EXCEEDED after ``timeout`` seconds, UNAVAILABLE when
        the connection is lost; with ``NotSentError`` when the call certainly did not reach a handler. While the server
        takes no more calls at a time, up to 1,000 wait for their turn. Cancelling the Deferred cancels the call.
        """
        if self.usable and self._crowded and len(self._waiting) < _MAX_WAITING:
            waiting = WaitingCall(self, method, request, timeout)
            self._waiting[waiting] = None
            return waiting.answer
        started = self._start(method, request, timeout)
        if isinstance(started, RpcError):
            return fail(started)
        return started.single()

    def stream(self, method: MethodSpec, request: Any, timeout: float | None = None) -> ResponseStream:
        """Call a streaming method; gives an async iterator of responses. Raises and fails like ``unary``."""
        started = self._start(method, request, timeout)
        if isinstance(started, RpcError):
            raise started
        return ResponseStream(started)

    @property
    def _crowded(self) -> bool:
        return len(self.streams) >= self.h2.remote_settings.max_concurrent_streams

    def give_up_waiting(self, waiting: WaitingCall) -> None:
        """A call that waits for its turn waits no longer."""
        self._waiting.pop(waiting, None)

    def remove(self, stream: Http2Stream) -> None:
        super().remove(stream)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and not (self.usable and self._crowded):
            waiting = next(iter(self._waiting))
            del self._waiting[waiting]
            waiting.start()

    def _start(self, method: MethodSpec, request: Any, timeout: float | None) -> ClientCall | RpcError:
        if not self.usable:
            return NotSentError("the connection to the server is closed; connect again")
        if self._crowded:
            return NotSentError(f"{len(self.streams)} calls are under way on this connection, the server takes no more")
        if timeout is not None and timeout <= 0:
            return RpcError(Status.DEADLINE_EXCEEDED, "the deadline had passed before the call was sent")
        call = ClientCall(self, self.h2.get_next_available_stream_id(), method, self.max_message)
        self.streams[call.stream_id] = call
        headers = [*self._head, (b":path", method.path.encode("ascii")), *self._tail]
        if timeout is not None:
            headers.append((b"grpc-timeout", format_timeout(timeout).encode("ascii")))
            call.timer = self.clock.callLater(timeout, call.expire)
        # This opens the stream: only from now on it is one to h2.
        self.h2.send_headers(call.stream_id, headers)
        call.queue(frame(request.SerializeToString()))
        call.finish()
        if self.spent:
            # The connection ends with its last call; whoever calls next finds it of no use, and makes another one.
            self.draining = True
            self._go_on()
        return call

    def close(self) -> None:
        """End the connection; calls under way fail with CANCELLED."""
        self.draining = True
        for waiting in list(self._waiting):
            self.give_up_waiting(waiting)
            waiting.fail(RpcError(Status.CANCELLED, "the call was cancelled"))
        for call in list(self.streams.values()):
            call.cancel()
        self.lose()

    def goaway_received(self, goaway: GoAway) -> None:
        self.draining = True
        for call in list(self.streams.values()):
            if call.stream_id > goaway.last_stream_id:
                self.remove(call)
                call.end(NotSentError("the server is going away and did not take this call"))
        self._go_on()
        if not self.streams:
            self.lose()

    def headers_received(self, stream_id: int, headers: Headers) -> None:
        call = self.streams.get(stream_id)
        if call is not None:
            call.head(headers)

    def trailers_received(self, stream: ClientCall, headers: Headers) -> None:
        stream.trailers(headers)

    def stream_data(self, stream: ClientCall, data: bytes, size: int) -> None:
        stream.data(data, size)

    def stream_ended(self, stream: ClientCall) -> None:
        stream.ended()

    def stream_gone(self, stream: ClientCall, code: int | None) -> None:
        if code is None:
            stream.end(RpcError(Status.UNAVAILABLE, "the connection to the server was lost"))
        elif code == ErrorCodes.REFUSED_STREAM:
            stream.end(NotSentError("the server refused the call before looking at it"))
        elif code == ErrorCodes.ENHANCE_YOUR_CALM:
            stream.end(RpcError(Status.RESOURCE_EXHAUSTED, "the server was asked too much"))
        elif code == ErrorCodes.CANCEL:
            stream.end(RpcError(Status.CANCELLED, "the call was reset"))
        else:
            stream.end(RpcError(Status.INTERNAL, f"the server reset the call with HTTP/2 code {code}"))

    def handshaken(self) -> None:
        if not self.ready.called:
            self.ready.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._go_on()
        if not self.ready.called:
            self.ready.errback(NotSentError("the server closed the connection before HTTP/2 was set up; is it gRPC?"))
        self.closed.callback(None)


class WaitingCall:
    """A unary call that waits until the server takes one more."""

    def __init__(
        self, connection: GrpcClientConnection, method: MethodSpec, request: Any, timeout: float | None
    ) -> None:
        self.answer: Deferred[Any] = Deferred(self._cancel)
        self._connection = connection
        self._method = method
        self._request = request
        self._running: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        if timeout is not None:
            self._timer = connection.clock.callLater(max(0.0, timeout), self._expire)

    def start(self) -> None:
        """There is room, or the connection is over."""
        timer, self._timer = self._timer, None
        timeout = None
        if timer is not None:
            timeout = timer.getTime() - self._connection.clock.seconds()
            timer.cancel()
        self._running = self._connection.unary(self._method, self._request, timeout)
        self._running.addBoth(self._told)

    def fail(self, error: RpcError) -> None:
        """It is not made."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._told(Failure(error))  # type: ignore[no-untyped-call]

    def _told(self, outcome: Any) -> None:
        if not self.answer.called:
            self.answer.callback(outcome)

    def _expire(self) -> None:
        self._timer = None
        self._connection.give_up_waiting(self)
        self.fail(RpcError(Status.DEADLINE_EXCEEDED, "the deadline passed while the server took no more calls"))

    def _cancel(self, _: Deferred[Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connection.give_up_waiting(self)
        if self._running is not None:
            self._running.cancel()


class ClientCall(Http2Stream):
    """One call as the connection sees it."""

    connection: GrpcClientConnection

    def __init__(self, connection: GrpcClientConnection, stream_id: int, method: MethodSpec, max_message: int) -> None:
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
        """End the call; whoever iterates gets CANCELLED after what has come already."""
        self._call.cancel()


def connect(
    clock: IReactorTime,
    endpoint: IStreamClientEndpoint,
    authority: str,
    *,
    tls: IOpenSSLClientConnectionCreator | None = None,
    secure: bool = False,
    timeout: float = 5.0,
    metadata: Mapping[str, str] | None = None,
    limits: Http2Limits | None = None,
    max_message: int = MAX_MESSAGE,
) -> Deferred[GrpcClientConnection]:
    """Connect and wait until the server has shown that it speaks HTTP/2, for at most ``timeout`` seconds in all.

    ``authority`` is the ``host:port`` that was asked for. With ``tls`` (from ``ssl.optionsForClientTLS`` with
    ``acceptableProtocols=[b"h2"]``) the endpoint is wrapped; ``secure`` says of an endpoint that it speaks TLS by
    itself. ``metadata`` goes with every call, for tokens. Fails with ``NotSentError`` naming the address and the cause,
    and with ``CancelledError`` when it is cancelled.
    """

    def build() -> GrpcClientConnection:
        return GrpcClientConnection(
            clock,
            authority,
            secure=secure or tls is not None,
            metadata=metadata,
            limits=limits,
            max_message=max_message,
        )

    async def run() -> GrpcClientConnection:
        transport_endpoint = endpoint if tls is None else wrapClientTLS(tls, endpoint)
        protocol: Any = await transport_endpoint.connect(_factory(build))
        await protocol.ready
        return cast("GrpcClientConnection", protocol)

    def failed(failure: Failure) -> Failure:
        text = f"cannot connect to {authority}: {failure.getErrorMessage()}"
        return Failure(NotSentError(text))  # type: ignore[no-untyped-call]

    def too_late(result: Any, seconds: float) -> Any:
        raise NotSentError(f"no gRPC connection to {authority} within {seconds:g} s")

    attempt: Deferred[GrpcClientConnection] = Deferred.fromCoroutine(run())
    connecting = cancellable(attempt.addErrback(failed), GrpcClientConnection.abort)
    return connecting.addTimeout(timeout, clock, too_late)


def _factory(build: Any) -> Factory:
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: build()  # type: ignore[method-assign]
    return factory
