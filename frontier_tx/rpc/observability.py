"""``/healthz``, ``/readyz`` and ``/metrics``: the same three pages for both servers, on a listener of their own."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from frontier_tx.rpc.http1 import Http1Limits, LimitedSite, not_found

Ready = Callable[[], "str | Awaitable[str | None] | None"]
"""Why the server cannot do its job, in a few words, or None when it can."""

CHECK_TIMEOUT = 2.0
"""Seconds that one look at readiness may take."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
TEXT_TYPE = "text/plain; charset=utf-8"


@implementer(IResource)
class ObservabilityResource:
    """The three pages; anything else is 404. Verbs are not looked at.

    A check that raises counts as not ready, with the text of the error. Requests that come while a check runs share
    its outcome.
    """

    isLeaf = True
    server = None

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
        self._waiting: list[Any] = []

    def getChildWithDefault(self, name: bytes, request: Any) -> Any:
        return self

    def putChild(self, path: bytes, child: Any) -> None:
        raise NotImplementedError("the pages of observability are fixed")

    def render(self, request: Any) -> int:
        request.responseHeaders.removeHeader(b"server")
        if request.path == b"/healthz":
            _text(request, 200, "ok")
        elif request.path == b"/readyz":
            self._readiness(request)
        elif request.path == b"/metrics":
            self._metrics(request)
        else:
            _send(request, not_found(request))
        return NOT_DONE_YET

    def _readiness(self, request: Any) -> None:
        gone = request.notifyFinish()
        gone.addErrback(lambda _: self._waiting.remove(request) if request in self._waiting else None)
        self._waiting.append(request)
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
        for request in waiting:
            if reason is None:
                notes = self._notes()
                _text(request, 200, f"ready; {notes}" if notes else "ready")
            else:
                _text(request, 503, f"not ready: {reason}")

    def _metrics(self, request: Any) -> None:
        page = generate_latest(self._registry)
        request.setHeader("Content-Type", METRICS_TYPE)
        accepted = request.requestHeaders.getRawHeaders("accept-encoding", [""])[0]
        if "gzip" in accepted:
            page = gzip.compress(page, 1)
            request.setHeader("Content-Encoding", "gzip")
        _send(request, page)


def observability_site(
    clock: IReactorTime,
    ready: Ready,
    registry: CollectorRegistry,
    limits: Http1Limits | None = None,
    notes: Callable[[], str] = str,
) -> LimitedSite:
    """A factory to listen with. Requests have 5 s to arrive, whole connections rest for at most 60 s.

    :param notes: what is to be said behind "ready": trouble that does not make the server unready.
    """
    limits = Http1Limits(request=5.0) if limits is None else limits
    return LimitedSite(ObservabilityResource(clock, ready, registry, notes=notes), clock, limits)


def _text(request: Any, status: int, text: str) -> None:
    request.setResponseCode(status)
    request.setHeader("Content-Type", TEXT_TYPE)
    _send(request, text.encode("utf-8", "replace"))


def _send(request: Any, body: bytes) -> None:
    request.setHeader("Content-Length", str(len(body)))
    request.write(body)
    request.finish()
