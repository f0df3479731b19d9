"""REST over the same methods as gRPC, without a transport: the table of paths, decoding, encoding, errors, events.

HTTP/1.1 (:mod:`http1`) and HTTP/2 (:mod:`listener`) hand requests to a ``RestRouter`` and lend it an ``Exchange`` for
the answer.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote as quote_url
from urllib.parse import unquote_to_bytes

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.rpc.context import CallContext, Turn
from frontier_tx.rpc.contract import HttpBinding, MethodSpec
from frontier_tx.rpc.event_stream import EventStream, Tag
from frontier_tx.rpc.exchange import (
    NOSNIFF,
    PLAIN,
    Exchange,
    HttpHeaders,
    RestRequest,
    error_json,
    secured,
)
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.proto_json import message_json
from frontier_tx.rpc.query import QueryError, fill, fill_from_path, parse_query
from frontier_tx.rpc.slices import bytes_in_slices, json_in_slices, long_list
from frontier_tx.rpc.status import RpcError, Status

log = Logger()

JSON = "application/json"
PROTO = "application/proto"
BYTES = "application/octet-stream"
KEPT, KEPT_BYTES = 128, 32 * 1024
"""Answers that are kept to be given again, and the bytes of the largest."""
LARGEST_JSON = 256 * 1024
"""Bytes of an answer from which on nobody looks whether they are JSON."""

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"\Ahttps?://[^/?]*", re.IGNORECASE)
_VARIABLE = re.compile(r"\{(\w+)\}")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}

Page = tuple[int, HttpHeaders, bytes]
"""Status, headers and body of an answer."""
ServePage = Callable[..., Page]
"""Called with the request and the decoded variables of the path."""


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table of paths; what it leads to is a method or a page.

    A method with ``body`` gets the body of the request, as it is, in the field of this name; with ``response_body``
    the answer is this field, as it is. Variables of such a path, and of one to a page, may hold escaped slashes.
    """

    verb: str
    path: str
    target: MethodSpec | ServePage
    pattern: re.Pattern[str]
    variables: tuple[str, ...]
    body: str = ""
    response_body: str = ""

    @property
    def raw(self) -> bool:
        """Whether the path is matched before its escapes are undone."""
        return not isinstance(self.target, MethodSpec) or bool(self.body or self.response_body)


def make_route(binding: HttpBinding, target: MethodSpec | ServePage) -> Route:
    """A route for a path in which ``{field}`` stands for one segment.

    Raises ``TypeError`` for a body that is no field of bytes.
    """
    parts = _VARIABLE.split(binding.path)
    pattern = "".join("([^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    if isinstance(target, MethodSpec):
        for message, name in ((target.request, binding.body), (target.response, binding.response_body)):
            field = message.DESCRIPTOR.fields_by_name.get(name)
            if name and (field is None or field.type != field.TYPE_BYTES):
                raise TypeError(f"{target.path}: the body {name!r} is no field of bytes")
    variables = tuple(parts[1::2])
    whole = re.compile(pattern + r"\Z")
    return Route(binding.verb, binding.path, target, whole, variables, binding.body, binding.response_body)


class RestRouter:
    """REST for all methods of a table that have an HTTP binding in the contract; unary ones answer with one message,
    streaming ones with server-sent events.

    ``statuses`` gives, for the gRPC path of a method, the HTTP status of a successful response where it is not 200;
    ``tags`` the ``event`` and the ``id`` of what a streaming one sends. Calls with a body, or that answer with plain
    bytes, may have ``timeout`` in the query: ``500ms``, ``5s``, ``2m``. ``versions`` gives, for a method whose answer
    follows from its request and some state, a number that changes with that state: while it stays, the answer to an
    equal request is given again.
    """

    def __init__(
        self,
        table: MethodTable,
        statuses: Mapping[str, Callable[[Any], int]] | None = None,
        tags: Mapping[str, Tag] | None = None,
        versions: Mapping[str, Callable[[], int]] | None = None,
    ) -> None:
        self.table = table
        self._statuses = dict(statuses or {})
        self._tags = dict(tags or {})
        self._versions = dict(versions or {})
        self._kept: OrderedDict[tuple[str, bytes, str], tuple[int, bytes]] = OrderedDict()
        self._error = table.contract.message("frontier.rest.Error")
        self._literal: dict[tuple[str, str], Route] = {}
        self._patterns: list[Route] = []
        for method in table.methods:
            for binding in () if method.client_streaming else method.bindings:
                self._add(make_route(binding, method))

    def page(self, path: str, serve: ServePage) -> None:
        """Answer GET and HEAD of ``path`` with what ``serve`` gives; everybody may ask for it.

        ``{name}`` in the path stands for one segment, which ``serve`` gets by this name.
        """
        for verb in ("GET", "HEAD"):
            self._add(make_route(HttpBinding(verb, path), serve))

    def _add(self, route: Route) -> None:
        if route.variables:
            self._patterns.append(route)
        else:
            self._literal[route.verb, route.path] = route

    def find(self, verb: str, path: str, raw_path: str = "") -> tuple[Route, tuple[str, ...]] | None:
        """The route of a decoded path and the values of its variables; one without variables goes first.

        ``raw_path`` is the path with its escapes.
        """
        route = self._literal.get((verb, path))
        if route is not None:
            return route, ()
        for route in self._patterns:
            if route.verb == verb:
                match = route.pattern.match(raw_path if route.raw else path)
                if match is not None:
                    return route, tuple(map(_unescape, match.groups())) if route.raw else match.groups()
        return None

    def serve(self, request: RestRequest, exchange: Exchange) -> None:
        """Answer one request; everything that goes wrong becomes an answer."""
        target = _ABSOLUTE.sub(b"", request.target, count=1)
        raw_path, mark, query = (b"/" + target if target[:1] in (b"", b"?") else target).partition(b"?")
        if _BROKEN_ESCAPE.search(raw_path):
            exchange.answer(400, secured(PLAIN), b"400 Bad Request\n")
            return
        escaped = raw_path.decode("latin-1")
        path = _unescape(escaped)
        found = self.find(request.verb, path, escaped)
        if found is not None and found[0].raw:
            self._go(request, *found, query, exchange)
            return
        cleaned = clean_path(path)
        suffix = "?" + quote_url(query, safe="!$%&'()*+,/:;=?@[]~") if mark else ""
        if cleaned != path and path != "*":
            exchange.answer(301, secured([("Location", quote_path(cleaned) + suffix)]), b"")
            return
        if found is None:
            if path.endswith("/") and self.find(request.verb, path[:-1]) is not None:
                _redirect(request.verb, quote_path(path[:-1]) + suffix, exchange)
            else:
                exchange.answer(404, secured(PLAIN), b"404 page not found\n")
            return
        self._go(request, *found, query, exchange)

    def _go(self, request: RestRequest, route: Route, parts: tuple[str, ...], query: bytes, exchange: Exchange) -> None:
        method = route.target
        if not isinstance(method, MethodSpec):
            try:
                status, headers, body = method(request, **dict(zip(route.variables, parts, strict=True)))
            except Exception:
                log.failure("the page {path} failed", path=route.path)
                status, headers, body = 500, PLAIN, b"500 internal server error\n"
            exchange.answer(status, secured(headers), body)
            return
        media = _media(request.headers.get("accept", ""))
        context = CallContext(method, request.headers, request.peer, "rest", turn=request.turn, names=request.names)
        message = method.request()
        try:
            self.table.admit(context)
            key = (request.verb, request.target, media)
            version = self._versions[method.path]() if method.path in self._versions else None
            kept = self._kept.get(key) if version is not None else None
            if kept is not None and kept[0] == version:
                self.table.count(context, Status.OK)
                exchange.answer(200, secured([("Content-Type", media)]), kept[1])
                return
            values = parse_query(query)
            if route.raw:
                timeout = values.pop("timeout", None)
                if timeout is not None:
                    context.deadline = self.table.clock.seconds() + _duration(timeout[-1])
            fill(message, values.items())
            for name, text in zip(route.variables, parts, strict=True):
                fill_from_path(message, name, text)
        except QueryError as error:
            self._answer_error(exchange, media, 400, "CODEC", str(error))
            return
        except RpcError as error:
            self.answer_failure(exchange, media, Failure(error))  # type: ignore[no-untyped-call]
            return

        def failed(failure: Failure) -> None:
            exchange.on_gone = None
            self.answer_failure(exchange, media, failure)

        if method.server_streaming:
            tag = self._tags.get(method.path, lambda response: ("", ""))
            EventStream(self.table, context, message, exchange, failed, tag)
            return
        answering = Deferred.fromCoroutine(self._answer(request, route, context, message, media))
        exchange.on_gone = answering.cancel

        def answered(answer: tuple[int, str, bytes]) -> None:
            exchange.on_gone = None
            headers = [("Content-Type", answer[1]), *([NOSNIFF] if route.raw else ())]
            exchange.answer(answer[0], secured(headers), answer[2])
            if version is not None and len(answer[2]) + len(request.target) <= KEPT_BYTES:
                self._keep(key, version, answer[2])

        answering.addCallbacks(answered, failed)

    def _keep(self, key: tuple[str, bytes, str], version: int, body: bytes) -> None:
        self._kept[key] = version, body
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    async def _answer(
        self, request: RestRequest, route: Route, context: CallContext, message: Any, media: str
    ) -> tuple[int, str, bytes]:
        if route.body:
            setattr(message, route.body, await request.body.read())
        response = await self.table.call(context, message)
        status = self._statuses.get(context.method.path, lambda _: 200)(response)
        if route.response_body:
            body: bytes = getattr(response, route.response_body)
            return status, JSON if _wants_json(request) and _is_json(body) else BYTES, body
        return status, media, await self._encode(response, context.turn, media)

    async def _encode(self, response: Any, turn: Turn, media: str) -> bytes:
        field = long_list(response)
        if media == JSON:
            return message_json(response) if field is None else await json_in_slices(response, field, turn)
        return bytes(response.SerializeToString()) if field is None else await bytes_in_slices(response, field, turn)

    def answer_failure(self, exchange: Exchange, media: str, failure: Failure) -> None:
        """Answer with the error body and the HTTP status for a failed call."""
        error = failure.value
        if not isinstance(error, RpcError):
            error = RpcError(Status.INTERNAL, "unknown request error", "UNKNOWN")
        self._answer_error(exchange, media, error.http_status, error.reason, error.message)

    def _answer_error(self, exchange: Exchange, media: str, status: int, reason: str, text: str) -> None:
        if media == PROTO:
            body = bytes(self._error(code=status, reason=reason, message=text).SerializeToString())
        else:
            body = error_json(status, reason, text)
        headers = [("Content-Type", media), *([("WWW-Authenticate", "Bearer")] if status == 401 else ())]
        exchange.answer(status, secured(headers), body)


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


def _unescape(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "replace")


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise QueryError(f"timeout: {text[:32]!r} is no time such as 500ms, 5s or 2m")
    return float(match[1]) * _SECONDS[match[2]]


def _wants_json(request: RestRequest) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON


def _is_json(body: bytes) -> bool:
    if len(body) > LARGEST_JSON:
        return False
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _media(accept: str) -> str:
    return PROTO if accept.partition("/")[2].partition(";")[0] == "proto" else JSON


def _redirect(verb: str, location: str, exchange: Exchange) -> None:
    headers: HttpHeaders = [("Location", location)]
    body = b""
    if verb == "GET":
        headers.append(("Content-Type", "text/html; charset=utf-8"))
        body = f'<a href="{escape(location)}">Moved Permanently</a>.\n\n'.encode()
    exchange.answer(301, secured(headers), body)
