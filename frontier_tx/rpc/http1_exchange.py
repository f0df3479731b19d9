"""One HTTP/1.1 request, which h11 reads, and its answer, which is written here, under back-pressure."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from typing import Any, Protocol

import h11
from twisted.internet.defer import Deferred, succeed

from frontier_tx.rpc.addresses import Account
from frontier_tx.rpc.exchange import CLOGGED, LINGER, PLAIN, Body, HttpHeaders, RestRequest, announce
from frontier_tx.rpc.status import RpcError, Status

PART = 64 * 1024
"""Bytes of an answer that are handed to the transport in one go."""


class Host(Protocol):
    """The connection, as an exchange sees it."""

    transport: Any
    account: Account
    peer: str
    names: tuple[str, ...] | None
    max_body: int
    closing: bool
    paused: bool

    def turn(self) -> Deferred[None]:
        """Fires when it is this connection's turn."""

    def give_back(self, data: bytes) -> None:
        """Bytes behind a request, which belong to the next one."""

    def arrived(self) -> None:
        """The request is complete."""

    def done(self) -> None:
        """Request and answer are complete, and another request may follow."""

    def lose(self, linger: float = 0.0) -> None:
        """End the connection once everything is written, or ``linger`` seconds later."""


class Http1Exchange:
    """One request, as far as it has arrived, and its answer; see ``exchange.Exchange``."""

    def __init__(self, connection: Host, parser: h11.Connection, head: h11.Request) -> None:
        self.on_gone: Callable[[], None] | None = None
        #: Whether there is more of the request to come.
        self.arriving = True
        self._connection = connection
        self._parser = parser
        self._head = head.method == b"HEAD"
        self._answered = self._over = self._chunked = False
        self._rest = memoryview(b"")
        self._paused: Deferred[None] | None = None
        fields: dict[str, str] = {}
        for name, value in head.headers:
            fields.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        self._body = Body(connection.max_body, connection.account.hold, self._continue)
        verb = head.method.decode("latin-1")
        self.request = RestRequest(
            verb, head.target, fields, connection.peer, connection.turn, connection.names or (), self._body
        )
        #: Whether the client speaks HTTP/1.1, which knows chunks and keeps connections.
        self._modern = head.http_version != b"1.0"
        # With both, who stands in between may have seen another end of the body (RFC 9112, 6.1).
        doubtful = "transfer-encoding" in fields and "content-length" in fields
        closing = doubtful or "close" in fields.get("connection", "").lower()
        #: Whether the connection ends after the answer.
        self.last = not announce(self._body, fields) or closing or not self._modern

    def _continue(self) -> None:
        if self._parser.they_are_waiting_for_100_continue:
            self._parser.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def feed(self, data: bytes) -> None:
        """More bytes of the request; those behind it are given back."""
        if not self.arriving:
            self._connection.give_back(data)
            return
        if data:
            self._parser.receive_data(data)
        try:
            while self.arriving:
                event = self._parser.next_event()
                if isinstance(event, h11.Data):
                    self._body.feed(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self.arriving = False
                    self._connection.arrived()
                    self._connection.give_back(self._parser.trailing_data[0])
                    self._body.end()
                    self._settle()
                else:
                    return
        except h11.RemoteProtocolError as error:
            self._break_off(RpcError(Status.INVALID_ARGUMENT, f"the body cannot be read: {error}"))
        except RpcError as error:
            self._break_off(error)

    def _break_off(self, error: RpcError) -> None:
        """No more of the request is taken: answer, if nobody has, and end the connection."""
        self.last = True
        # A handler that reads the body answers now.
        self._body.fail(error)
        if not self._answered:
            self._answered = True
            self._connection.transport.write(plain_answer(error.http_status, f"{error.message}\n".encode()))
        self.lost()
        self._connection.lose(LINGER)

    def too_late(self) -> None:
        """The rest of the request did not come in time."""
        self._break_off(RpcError(Status.DEADLINE_EXCEEDED, "the request did not arrive in time", None, 408))

    # The answer.

    def answer(self, status: int, headers: HttpHeaders, body: bytes) -> None:
        account = self._connection.account
        if account.clogged(len(body)):
            status, headers, body = 429, list(PLAIN), CLOGGED
        head = self._start(status, headers, b"Content-Length: %d\r\n" % len(body))
        if head is None:
            return
        if self._head or len(body) <= PART:
            self._connection.transport.write(head if self._head else head + body)
            self._end()
            return
        self._connection.transport.write(head)
        account.held(len(body))
        self._rest = memoryview(body)
        self.go_on()

    def start(self, status: int, headers: HttpHeaders) -> None:
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
        self._chunked = self._modern
        self.last = self.last or not self._modern
        head = self._start(status, headers, b"Transfer-Encoding: chunked\r\n" if self._chunked else b"")
        if head is not None:
            self._connection.transport.write(head)

    def write(self, data: bytes) -> Deferred[None]:
        if data and not self._over and not self._head:
            self._connection.transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
        if self._over or not self._connection.paused:
            return succeed(None)
        if self._paused is None:
            self._paused = Deferred()
        waiter: Deferred[None] = Deferred()
        self._paused.addBoth(lambda _: waiter.callback(None))
        return waiter

    def finish(self) -> None:
        if not self._over:
            if self._chunked and not self._head:
                self._connection.transport.write(b"0\r\n\r\n")
            self._end()

    def _end(self) -> None:
        self._over = True
        self.on_gone = None
        self._body.close()
        self._settle()

    def go_on(self) -> None:
        """The transport takes more."""
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)
        while self._rest and not self._over and not self._connection.paused:
            part, self._rest = self._rest[:PART], self._rest[PART:]
            self._connection.account.held(-len(part))
            self._connection.transport.write(bytes(part))
            if not self._rest:
                self._end()

    def lost(self) -> None:
        """The client is gone."""
        self._over = True
        self._connection.account.held(-len(self._rest))
        self._rest = memoryview(b"")
        self._body.fail(RpcError(Status.CANCELLED, "the client is gone"))
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()
        self.go_on()

    def _start(self, status: int, headers: HttpHeaders, length: bytes) -> bytes | None:
        if self._answered or self._over:
            return None
        self._answered = True
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1", "replace")
        if any(fields.count(end) != len(headers) for end in (b"\r", b"\n")):
            raise ValueError(f"headers with a line end in them: {headers!r}")
        closing = b"Connection: close\r\n" if self.last else b""
        return b"%sDate: %s\r\n%s%s%s\r\n" % (_status_line(status), _date(), length, closing, fields)

    def _settle(self) -> None:
        """Go on to the next request when this one and its answer are complete."""
        if not self._over or self._connection.closing:
            return
        if self.last or self._parser.they_are_waiting_for_100_continue:
            self._connection.lose(LINGER if self.arriving else 0.0)
        elif not self.arriving:
            self._connection.done()


def plain_answer(status: int, text: bytes) -> bytes:
    """A whole answer in plain text, after which the connection ends."""
    head = b"%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (_status_line(status), len(text)) + text


@cache
def _status_line(status: int) -> bytes:
    try:
        return b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    except ValueError:
        return b"HTTP/1.1 %d Unknown\r\n" % status


_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = now, formatdate(now, usegmt=True).encode()
    return _dated[1]
