"""A gRPC client inside Twisted: unary calls and server streams over one HTTP/2 connection.

Connecting, and connecting again, is the caller's business: when ``closed`` fires, or ``usable`` is false, make a new
connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred, fail
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
from frontier_tx.rpc.grpc_client_call import ClientCall, ResponseStream
from frontier_tx.rpc.grpc_framing import MAX_MESSAGE, format_timeout, frame
from frontier_tx.rpc.http2 import Http2Connection
from frontier_tx.rpc.http2_guard import LAST_STREAM_ID, GoAway
from frontier_tx.rpc.http2_stream import Headers, Http2Stream
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.runtime.deferreds import cancellable

_MAX_WAITING = 1000
"""Calls that wait on one connection for the server to take more of them."""


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
        # An idle client stays open: its user closes it.
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
            # The connection ends with its last call; the next caller finds it unusable and makes another one.
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
