"""One HTTP request and the way for its answer, whatever carries them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from frontier_tx.rpc.context import Turn, at_once
from frontier_tx.rpc.status import RpcError, Status

HttpHeaders = list[tuple[str, str]]

NOSNIFF = ("X-Content-Type-Options", "nosniff")
"""Not with answers of the contract, which have it in some places only."""
PLAIN: HttpHeaders = [("Content-Type", "text/plain; charset=utf-8"), NOSNIFF]
SECURE: HttpHeaders = [
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
"""What browsers are told with each answer; an answer may say something else."""
CLOGGED = b"too much waits to be read; read it first\n"
"""The answer, with status 429, to who leaves too much unread."""

UNREAD = 1024 * 1024
"""Bytes of a body that nobody reads which are let pass; beyond that the connection ends."""

LINGER = 1.0
"""Seconds for which the rest of a refused body is thrown away, since closing at once could destroy the answer."""

Hold = Callable[[int], None]
"""Counts bytes that are held, or with a minus are held no longer; raises ``RpcError`` when it is too much."""


class Body:
    """The body of a request: kept if the handler reads it, otherwise thrown away.

    ``most`` bytes are taken. A transport feeds it; ``asked`` is called when somebody begins to read.
    """

    def __init__(self, most: int = 0, hold: Hold = lambda change: None, asked: Callable[[], None] = lambda: None):
        self.most = most
        self._hold = hold
        self._asked = asked
        self._kept = bytearray()
        self._passed = 0
        self._reader: Deferred[bytes] | None = None
        self._ended = False
        self._error: RpcError | None = None

    def read(self) -> Deferred[bytes]:
        """All of it; fails with ``RpcError`` when it is too long, or the client is gone. Ask once, and at once."""
        if self._error is not None:
            return fail(self._error)
        if self._ended:
            return succeed(b"")
        self._reader = Deferred(lambda _: self.close())
        self._asked()
        return self._reader

    def feed(self, data: bytes) -> None:
        """More of it came. Raises ``RpcError`` when it is too long, or too much is held; ``fail`` is the next then."""
        self._passed += len(data)
        most = self.most if self._reader is not None else min(self.most, UNREAD)
        if self._passed > most:
            raise too_long(most)
        if self._reader is not None:
            self._hold(len(data))
            self._kept += data

    def end(self) -> None:
        """That was all."""
        self._ended = True
        whole = bytes(self._kept)
        reader = self._finish()
        if reader is not None:
            reader.callback(whole)

    def fail(self, error: RpcError) -> None:
        """It will never be whole."""
        self._error = error
        reader = self._finish()
        if reader is not None:
            reader.errback(error)

    def close(self) -> None:
        """The reader has given up."""
        self._finish()

    def _finish(self) -> Deferred[bytes] | None:
        reader, self._reader = self._reader, None
        if self._kept:
            self._hold(-len(self._kept))
            self._kept.clear()
        return reader


def announce(body: Body, headers: Mapping[str, str]) -> bool:
    """Refuse a body that its headers announce as too long; whether it may come."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and len(length) < 20 and int(length) <= body.most):
        body.fail(too_long(body.most))
        return False
    return True


def too_long(most: int) -> RpcError:
    """The refusal of a body of more than ``most`` bytes."""
    return RpcError(Status.RESOURCE_EXHAUSTED, f"the body has more than {most} bytes", "TOO_LARGE", 413)


@dataclass(frozen=True, slots=True)
class RestRequest:
    """One request: the verb, the target as it stood on the wire, headers by lower-case name, the peer, how to wait for
    its turn, the names in the client's certificate, and its body."""

    verb: str
    target: bytes
    headers: Mapping[str, str]
    peer: str
    turn: Turn = at_once
    names: tuple[str, ...] = ()
    body: Body = field(default_factory=Body)


class Exchange(Protocol):
    """Where an answer goes. Either ``answer``, or ``start``, any number of ``write`` and ``finish``."""

    on_gone: Callable[[], None] | None
    """Called when the client is gone before the answer is complete."""

    def answer(self, status: int, headers: HttpHeaders, body: bytes) -> None:
        """Send a complete answer; its length is added to the headers, and to HEAD the body is not sent."""

    def start(self, status: int, headers: HttpHeaders) -> None:
        """Begin an answer whose length is not known."""

    def write(self, data: bytes) -> Deferred[None]:
        """Go on with it; fires when more may follow."""

    def finish(self) -> None:
        """End it."""


Serve = Callable[[RestRequest, Exchange], None]
"""Answers one request."""


def secured(headers: HttpHeaders) -> HttpHeaders:
    """The headers, and those of ``SECURE`` that are not among them."""
    said = {name.lower() for name, _ in headers}
    return [*headers, *(each for each in SECURE if each[0].lower() not in said)]


def error_json(status: int, reason: str, text: str) -> bytes:
    """The body of an error answer."""
    return json_bytes({"code": status, "reason": reason, "message": text, "metadata": {}})


def json_bytes(value: Any) -> bytes:
    """A value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
