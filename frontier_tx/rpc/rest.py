"""REST over the same methods as gRPC, without a transport: the table of paths, decoding, encoding, errors, events.

HTTP/1.1 (:mod:`http1`) and HTTP/2 (:mod:`listener`) hand requests to a ``RestRouter`` and lend it an ``Exchange`` for
the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol
from urllib.parse import quote as quote_url
from urllib.parse import unquote_to_bytes

from google.protobuf.json_format import MessageToDict
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from frontier_tx.rpc.context import CallContext, Turn, at_once
from frontier_tx.rpc.contract import MethodSpec
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.query import QueryError, fill, fill_from_path, parse_query
from frontier_tx.rpc.status import HTTP_STATUS, RpcError, Status

HttpHeaders = list[tuple[str, str]]

JSON = "application/json"
PROTO = "application/proto"
PLAIN_404: HttpHeaders = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
PLAIN_429: HttpHeaders = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
EVENTS: HttpHeaders = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
SLICE = 100
"""Records that are written as JSON in one go; it takes half a millisecond."""
EVENT_BEAT = 15.0
"""Seconds of silence after which an event stream sends a comment, so that a dead client is found out."""

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"\Ahttps?://[^/?]*", re.IGNORECASE)
_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class RestRequest:
    """One request: the verb, the target as it stood on the wire, headers by lower-case name, the peer, how to wait for
    its turn, and the names in the client's certificate."""

    verb: str
    target: bytes
    headers: Mapping[str, str]
    peer: str
    turn: Turn = at_once
    names: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table of paths."""

    verb: str
    path: str
    method: MethodSpec
    pattern: re.Pattern[str]
    variables: tuple[str, ...]


def make_route(verb: str, path: str, method: MethodSpec) -> Route:
    """A route for a path in which ``{field}`` stands for one segment."""
    parts = _VARIABLE.split(path)
    pattern = "".join("([^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return Route(verb, path, method, re.compile(pattern + r"\Z"), tuple(parts[1::2]))


class RestRouter:
    """REST for all methods of a table that have an HTTP binding in the contract; unary ones answer with one message,
    streaming ones with server-sent events.

    ``statuses`` gives, for the gRPC path of a method, the HTTP status of a successful response where it is not 200.
    """

    def __init__(self, table: MethodTable, statuses: Mapping[str, Callable[[Any], int]] | None = None) -> None:
        self.table = table
        self._statuses = dict(statuses or {})
        self._error = table.contract.message("frontier.rest.Error")
        self._literal: dict[tuple[str, str], Route] = {}
        self._patterns: list[Route] = []
        for method in table.methods:
            for binding in () if method.client_streaming else method.bindings:
                route = make_route(binding.verb, binding.path, method)
                if route.variables:
                    self._patterns.append(route)
                else:
                    self._literal[binding.verb, binding.path] = route

    def find(self, verb: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
        """The route of a decoded path and the values of its variables; one without variables goes first."""
        route = self._literal.get((verb, path))
        if route is not None:
            return route, ()
        for route in self._patterns:
            match = route.pattern.match(path) if route.verb == verb else None
            if match is not None:
                return route, match.groups()
        return None

    def serve(self, request: RestRequest, exchange: Exchange) -> None:
        """Answer one request; everything that goes wrong becomes an answer."""
        target = _ABSOLUTE.sub(b"", request.target, count=1)
        raw_path, mark, query = (b"/" + target if target[:1] in (b"", b"?") else target).partition(b"?")
        if _BROKEN_ESCAPE.search(raw_path):
            exchange.answer(400, list(PLAIN_404), b"400 Bad Request\n")
            return
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        cleaned = clean_path(path)
        suffix = "?" + quote_url(query, safe="!$%&'()*+,/:;=?@[]~") if mark else ""
        if cleaned != path and path != "*":
            exchange.answer(301, [("Location", quote_path(cleaned) + suffix)], b"")
            return
        found = self.find(request.verb, path)
        if found is None:
            if path.endswith("/") and self.find(request.verb, path[:-1]) is not None:
                _redirect(request.verb, quote_path(path[:-1]) + suffix, exchange)
            else:
                exchange.answer(404, list(PLAIN_404), b"404 page not found\n")
            return
        self._call(request, found[0], found[1], query, exchange)

    def _call(
        self, request: RestRequest, route: Route, parts: tuple[str, ...], query: bytes, exchange: Exchange
    ) -> None:
        media = _media(request.headers.get("accept", ""))
        context = CallContext(
            route.method, request.headers, request.peer, "rest", turn=request.turn, names=request.names
        )
        message = route.method.request()
        try:
            self.table.admit(context)
            fill(message, parse_query(query).items())
            for name, text in zip(route.variables, parts, strict=True):
                fill_from_path(message, name, text)
        except QueryError as error:
            self._answer_error(exchange, media, 400, "CODEC", str(error))
            return
        except RpcError as error:
            self.table.count(context, error.status)
            self.answer_failure(exchange, media, Failure(error))  # type: ignore[no-untyped-call]
            return
        if route.method.server_streaming:
            _EventStream(self, context, message, exchange, media)
            return
        answering = Deferred.fromCoroutine(self._answer(context, message, media))
        exchange.on_gone = answering.cancel

        def answered(answer: tuple[int, bytes]) -> None:
            exchange.on_gone = None
            exchange.answer(answer[0], [("Content-Type", media)], answer[1])

        def failed(failure: Failure) -> None:
            exchange.on_gone = None
            self.answer_failure(exchange, media, failure)

        answering.addCallbacks(answered, failed)

    async def _answer(self, context: CallContext, message: Any, media: str) -> tuple[int, bytes]:
        response = await self.table.call(context, message)
        status = self._statuses.get(context.method.path, lambda _: 200)(response)
        if media == JSON:
            for field, values in response.ListFields():
                if field.message_type is not None and field.is_repeated and len(values) > SLICE:
                    return status, await self._encode_slices(response, field, context.turn)
        return status, self.encode(response, media)

    async def _encode_slices(self, response: Any, field: Any, turn: Turn) -> bytes:
        values = getattr(response, field.name)
        texts = []
        for start in range(0, len(values), SLICE):
            texts.append(b",".join([self.encode(value, JSON) for value in values[start : start + SLICE]]))
            await turn()
        frame = type(response)()
        for other, value in response.ListFields():
            if other is not field and not other.is_repeated and other.message_type is None:
                setattr(frame, other.name, value)
        # In a text a quotation mark is escaped, so this stands for the list and nothing else.
        empty = b'"%s":[]' % field.json_name.encode()
        before, _, after = self.encode(frame, JSON).partition(empty)
        return b"".join((before, empty[:-1], b",".join(texts), b"]", after))

    def encode(self, message: Any, media: str) -> bytes:
        """A response in this media type; in JSON unset plain fields are written out."""
        if media == PROTO:
            return bytes(message.SerializeToString())
        return _json(MessageToDict(message, always_print_fields_with_no_presence=True))

    def answer_failure(self, exchange: Exchange, media: str, failure: Failure) -> None:
        """Answer with the error body and the HTTP status for a failed call."""
        error = failure.value
        if not isinstance(error, RpcError):
            error = RpcError(Status.INTERNAL, "unknown request error", "UNKNOWN")
        self._answer_error(exchange, media, HTTP_STATUS[error.status], error.reason, error.message)

    def _answer_error(self, exchange: Exchange, media: str, status: int, reason: str, text: str) -> None:
        if media == PROTO:
            body = bytes(self._error(code=status, reason=reason, message=text).SerializeToString())
        else:
            body = error_json(status, reason, text)
        headers = [("Content-Type", media), *([("WWW-Authenticate", "Bearer")] if status == 401 else ())]
        exchange.answer(status, headers, body)


class _EventStream:
    """One streaming call as server-sent events: ``data`` is a response in JSON, ``error`` ends a failed call."""

    def __init__(self, router: RestRouter, context: CallContext, message: Any, exchange: Exchange, media: str) -> None:
        self._router = router
        self._exchange = exchange
        self._media = media
        self._started = self._over = False
        self._beat: IDelayedCall | None = None
        exchange.on_gone = self._gone
        self._running = router.table.stream(context, message, self._send)
        self._running.addCallbacks(self._finished, self._failed)
        if not self._over:
            # Only now: what fails at once is answered with a status of its own.
            self._start()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._exchange.start(200, list(EVENTS))
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        self._beat = self._router.table.clock.callLater(EVENT_BEAT, self._keep)

    def _disarm(self) -> None:
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._beat = None

    def _keep(self) -> None:
        self._exchange.write(b":\n\n")
        self._arm()

    def _send(self, response: Any) -> Deferred[None]:
        if self._over:
            return succeed(None)
        self._start()
        self._arm()
        return self._exchange.write(b"data: " + self._router.encode(response, JSON) + b"\n\n")

    def _finished(self, _: None) -> None:
        self._start()
        self._end()

    def _failed(self, failure: Failure) -> None:
        if self._over:
            return
        if not self._started:
            self._end(finish=False)
            self._router.answer_failure(self._exchange, self._media, failure)
            return
        error = failure.value
        if isinstance(error, RpcError):
            text = error_json(HTTP_STATUS[error.status], error.reason, error.message)
            self._exchange.write(b"event: error\ndata: " + text + b"\n\n")
        self._end()

    def _end(self, finish: bool = True) -> None:
        if not self._over:
            self._over = True
            self._exchange.on_gone = None
            self._disarm()
            if finish:
                self._exchange.finish()

    def _gone(self) -> None:
        self._end(finish=False)
        self._running.cancel()


def clean_path(path: str) -> str:
    """The path without doubled slashes, ``.`` and ``..``; a slash at its end stays."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    cleaned = "/" + "/".join(kept)
    return cleaned + "/" if path.endswith("/") and kept else cleaned


def quote_path(path: str) -> str:
    """The path as it may stand in a URL."""
    return quote_url(path, safe="/!$&'()*+,:;=@~")


def error_json(status: int, reason: str, text: str) -> bytes:
    """The body of an error answer."""
    return _json({"code": status, "reason": reason, "message": text, "metadata": {}})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _media(accept: str) -> str:
    return PROTO if accept.partition("/")[2].partition(";")[0] == "proto" else JSON


def _redirect(verb: str, location: str, exchange: Exchange) -> None:
    headers: HttpHeaders = [("Location", location)]
    body = b""
    if verb == "GET":
        headers.append(("Content-Type", "text/html; charset=utf-8"))
        body = f'<a href="{escape(location)}">Moved Permanently</a>.\n\n'.encode()
    exchange.answer(301, headers, body)
