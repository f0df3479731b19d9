"""Server-sent events: one streaming call over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.exchange import Exchange, HttpHeaders, error_json, secured
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.proto_json import message_json
from frontier_tx.rpc.status import RpcError, Status

EVENTS: HttpHeaders = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
EVENT_BEAT = 15.0
"""Seconds of silence after which an event stream sends a comment, so that a dead client is found out."""

Tag = Callable[[Any], tuple[str, str]]
"""Gives the ``event`` and the ``id`` of a response."""


def tag(event: Any) -> tuple[str, str]:
    """Kind and number of a ``frontier.v1.Event``."""
    return event.kind, str(event.id) if event.id else ""


def chosen_kinds(text: str, known: tuple[str, ...]) -> frozenset[str]:
    """The kinds of events in a list with commas; all that are known if it is empty.

    :raises RpcError: INVALID_ARGUMENT, one is not known.
    """
    wanted = frozenset(kind.strip() for kind in text.split(",") if kind.strip())
    unknown = wanted.difference(known)
    if unknown:
        raise RpcError(
            Status.INVALID_ARGUMENT, f"no event is called {min(unknown)[:100]!r}; known are {', '.join(known)}"
        )
    return wanted or frozenset(known)


class EventStream:
    """One streaming call as server-sent events: ``data`` is a response in JSON, ``error`` ends a failed call.

    A reader that is slow holds the handler up: no more is asked of it than the transport takes. ``fail`` answers a
    call that failed before its first event. ``tag`` gives the ``event`` and the ``id`` of a response; empty: none.
    """

    def __init__(
        self,
        table: MethodTable,
        context: CallContext,
        message: Any,
        exchange: Exchange,
        fail: Callable[[Failure], None],
        tag: Tag = lambda response: ("", ""),
    ) -> None:
        self._clock = table.clock
        self._exchange = exchange
        self._fail = fail
        self._tag = tag
        self._started = self._over = False
        self._beat: IDelayedCall | None = None
        exchange.on_gone = self._gone
        self._running = table.stream(context, message, self._send)
        self._running.addCallbacks(self._finished, self._failed)
        if not self._over:
            # Only now: what fails at once is answered with a status of its own.
            self._start()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._exchange.start(200, secured(EVENTS))
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        self._beat = self._clock.callLater(EVENT_BEAT, self._keep)

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
        kind, number = self._tag(response)
        head = (f"event: {kind}\n" if kind else "") + (f"id: {number}\n" if number else "")
        return self._exchange.write(b"%sdata: %s\n\n" % (head.encode(), message_json(response)))

    def _finished(self, _: None) -> None:
        self._start()
        self._end()

    def _failed(self, failure: Failure) -> None:
        if self._over:
            return
        if not self._started:
            self._end(finish=False)
            self._fail(failure)
            return
        error = failure.value
        if isinstance(error, RpcError):
            text = error_json(error.http_status, error.reason, error.message)
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
