"""Health and metrics over plain HTTP: ``/healthz``, ``/readyz``, ``/metrics``, on a listener of their own.

Any verb is answered alike; every other path is a 404.
"""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

TEXT = b"text/plain; charset=utf-8"
METRICS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
#: A connection on which nothing happens for so long is closed, in seconds.
IDLE_SECONDS = 5

Answer = tuple[int, bytes, bytes]


class _Page(Resource):
    """One path: a function that says status, content type and body."""

    isLeaf = True

    def __init__(self, answer: Callable[[], Answer]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer

    def render(self, request: Request) -> bytes:
        # A path below this one, /healthz/ included, is another path.
        status, kind, body = _missing() if request.postpath else self._answer()
        request.setResponseCode(status)
        request.setHeader(b"content-type", kind)  # type: ignore[no-untyped-call]
        request.setHeader(b"content-length", b"%d" % len(body))  # type: ignore[no-untyped-call]
        return b"" if request.method == b"HEAD" else body


class _QuietSite(Site):
    """A line of access log per probe and scrape would drown the log of the server."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        pass


def _missing() -> Answer:
    return 404, TEXT, b"404 page not found\n"


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Page(_missing)


def observability_site(not_ready: Callable[[], str], collectors: list[Collector], reactor: Any) -> Site:
    """The site of the observability listener.

    :param not_ready: returns why the server cannot do its work, or an empty text.
    :param collectors: what ``/metrics`` shows beside the figures of the process.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)

    def ready() -> Answer:
        reason = not_ready()
        return (503, TEXT, f"not ready: {reason}".encode()) if reason else (200, TEXT, b"ready")

    root = _Root()  # type: ignore[no-untyped-call]
    pages: dict[bytes, Callable[[], Answer]] = {
        b"healthz": lambda: (200, TEXT, b"ok"),
        b"readyz": ready,
        b"metrics": lambda: (200, METRICS_TEXT, generate_latest(registry)),
    }
    for path, answer in pages.items():
        root.putChild(path, _Page(answer))
    return _QuietSite(root, timeout=IDLE_SECONDS, reactor=reactor)  # type: ignore[no-untyped-call]
