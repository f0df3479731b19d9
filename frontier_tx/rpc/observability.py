"""``/healthz``, ``/readyz`` and ``/metrics``: the same three pages for both servers, on a listener of their own."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.door import Door
from frontier_tx.rpc.exchange import PLAIN, Exchange, RestRequest
from frontier_tx.rpc.http1 import Http1Limits, HttpFactory

Ready = Callable[[], "str | Awaitable[str | None] | None"]
"""Why the server cannot do its job, in a few words, or None when it can."""

CHECK_TIMEOUT = 2.0
"""Seconds that one look at readiness may take."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
TEXT_TYPE = "text/plain; charset=utf-8"


class Pages:
    """The three pages; anything else is 404. Verbs are not looked at.

    A check that raises counts as not ready, with the text of the error. Requests that come while a check runs share
    its outcome.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ready: Ready,
        registry: CollectorRegistry,
        check_timeout: float = CHECK_TIMEOUT,
        notes: Callable[[], str] = str,
    ) -> None:
        self._clock = clock
        self._ready = ready
        self._notes = notes
        self._registry = registry
        self._check_timeout = check_timeout
        self._waiting: list[Exchange] = []

    def serve(self, request: RestRequest, exchange: Exchange) -> None:
        """Answer one request."""
        path = request.target.partition(b"?")[0]
        if path == b"/healthz":
            _text(exchange, 200, "ok")
        elif path == b"/readyz":
            self._readiness(exchange)
        elif path == b"/metrics":
            self._metrics(request, exchange)
        else:
            exchange.answer(404, list(PLAIN), b"404 page not found\n")

    def _readiness(self, exchange: Exchange) -> None:
        exchange.on_gone = lambda: self._waiting.remove(exchange) if exchange in self._waiting else None
        self._waiting.append(exchange)
        if len(self._waiting) == 1:
            check: Deferred[str | None] = Deferred.fromCoroutine(self._check())
            check.addTimeout(self._check_timeout, self._clock, self._too_slow)
            check.addCallbacks(self._checked, self._failed)

    async def _check(self) -> str | None:
        reason = self._ready()
        return reason if reason is None or isinstance(reason, str) else await reason

    def _too_slow(self, result: Any, seconds: float) -> Any:
        if isinstance(result, Failure):
            return f"the check did not end within {seconds:g} s"
        return result

    def _failed(self, failure: Failure) -> None:
        self._checked(failure.getErrorMessage())

    def _checked(self, reason: str | None) -> None:
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            if reason is None:
                notes = self._notes()
                _text(exchange, 200, f"ready; {notes}" if notes else "ready")
            else:
                _text(exchange, 503, f"not ready: {reason}")

    def _metrics(self, request: RestRequest, exchange: Exchange) -> None:
        page = generate_latest(self._registry)
        headers = [("Content-Type", METRICS_TYPE)]
        if "gzip" in request.headers.get("accept-encoding", ""):
            page = gzip.compress(page, 1)
            headers.append(("Content-Encoding", "gzip"))
        exchange.answer(200, headers, page)


def observability_factory(
    clock: IReactorTime,
    ready: Ready,
    registry: CollectorRegistry,
    limits: Http1Limits | None = None,
    notes: Callable[[], str] = str,
) -> HttpFactory:
    """A factory to listen with. Requests have 5 s to arrive, whole connections rest for at most 60 s.

    :param notes: what is to be said behind "ready": trouble that does not make the server unready.
    """
    limits = Http1Limits(request=5.0) if limits is None else limits
    return HttpFactory(
        Pages(clock, ready, registry, notes=notes).serve, clock, limits, Door(clock, ControlPlaneLimits())
    )


def _text(exchange: Exchange, status: int, text: str) -> None:
    exchange.answer(status, [("Content-Type", TEXT_TYPE)], text.encode("utf-8", "replace"))
