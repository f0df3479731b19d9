"""One plain request over HTTP/2 and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IDelayedCall

from frontier_tx.rpc.exchange import CLOGGED, LINGER, PLAIN, Body, HttpHeaders, RestRequest, Serve, announce
from frontier_tx.rpc.header_block import TOO_LARGE
from frontier_tx.rpc.http2 import Http2Connection
from frontier_tx.rpc.http2_stream import Http2Stream
from frontier_tx.rpc.status import RpcError, Status

_TOO_LARGE = TOO_LARGE.decode()


class Http2Exchange(Http2Stream):
    """A request that is not gRPC, handed to ``serve``; see ``exchange.Exchange``.

    Its body is kept for who reads it, up to ``max_body`` bytes; ``names`` are those in the client's certificate.
    """

    linger = LINGER

    def __init__(
        self,
        connection: Http2Connection,
        stream_id: int,
        headers: Mapping[str, str],
        serve: Serve | None,
        max_body: int,
        names: tuple[str, ...],
    ) -> None:
        super().__init__(connection, stream_id)
        self.on_gone: Callable[[], None] | None = None
        self._serve = serve
        self._body = Body(max_body, connection.account.hold, self._wait)
        self._request = RestRequest(
            headers.get(":method", ""),
            headers.get(":path", "").encode("latin-1"),
            headers,
            connection.peer,
            connection.turn,
            names,
            self._body,
        )
        self._arriving: IDelayedCall | None = None

    def begin(self) -> None:
        """The headers are there: serve it, or refuse."""
        if _TOO_LARGE in self._request.headers:
            self._refuse(431)
        elif self._serve is None:
            self._refuse(415)
        elif self.connection.account.clogged():
            self._refuse(429)
        else:
            announce(self._body, self._request.headers)
            self._serve(self._request, self)

    def _refuse(self, status: int) -> None:
        self.send_headers([(b":status", b"%d" % status), (b"content-length", b"0")], end_stream=True)

    def _wait(self) -> None:
        late = self.connection.limits.body
        error = RpcError(Status.DEADLINE_EXCEEDED, f"the body did not arrive within {late:g} s", None, 408)
        self._arriving = self.connection.clock.callLater(late, self._body.fail, error)

    def data(self, data: bytes, size: int) -> None:
        """A part of the body."""
        self.consumed(size)
        try:
            self._body.feed(data)
        except RpcError as error:
            self._stop()
            # A handler that reads the body answers now; any other needs no more of it.
            self._body.fail(error)
            if not self.finishing:
                self.reset(ErrorCodes.CANCEL)
                self.gone()

    def ended(self) -> None:
        """The body is complete."""
        self._stop()
        self._body.end()

    def fail(self, error: RpcError) -> None:
        """The server stops."""
        self.reset()
        self.gone()

    def gone(self) -> None:
        """The client gave up, or the connection is lost."""
        self._stop()
        self._body.fail(RpcError(Status.CANCELLED, "the client is gone"))
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()

    def _stop(self) -> None:
        if self._arriving is not None and self._arriving.active():
            self._arriving.cancel()

    # The answer; ``write`` and ``finish`` are those of a stream.

    def answer(self, status: int, headers: HttpHeaders, body: bytes) -> None:
        if self.connection.account.clogged(len(body)):
            status, headers, body = 429, list(PLAIN), CLOGGED
        bodiless = not body or self._request.verb == "HEAD"
        self._head(status, [*headers, ("content-length", str(len(body)))], bodiless)
        if not bodiless:
            self.queue(body)
            self.finish()

    def start(self, status: int, headers: HttpHeaders) -> None:
        self._head(status, headers, False)

    def _head(self, status: int, headers: HttpHeaders, end: bool) -> None:
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        self.send_headers([(b":status", b"%d" % status), *fields], end_stream=end)
