"""Checks of readiness that take their time, or fail; metrics squeezed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from frontier_tx.rpc.observability import CHECK_TIMEOUT, observability_factory


class Pages:
    """The pages with a check of the test's own."""

    def __init__(self, check: Callable[[], Any]) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.site = observability_factory(self.clock, check, self.registry)
        self.channels: list[Any] = []

    def ask(self, path: str, extra: str = "") -> StringTransport:
        """Where the answer appears."""
        channel: Any = self.site.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
        self.channels.append(channel)
        return transport


def answer(transport: StringTransport) -> tuple[str, str]:
    """Status and body."""
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    return head.split(" ")[1], body


def test_checks_that_come_together_are_one() -> None:
    checks: list[Deferred[str | None]] = []

    def check() -> Deferred[str | None]:
        checks.append(Deferred())
        return checks[-1]

    pages = Pages(check)
    first, second, third = (pages.ask("/readyz") for _ in range(3))
    pages.channels[2].connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
    assert (len(checks), first.value()) == (1, b"")
    checks[0].callback("no store")
    assert answer(first) == answer(second) == ("503", "not ready: no store")
    assert third.value() == b""
    later = pages.ask("/readyz")
    checks[1].callback(None)
    assert answer(later) == ("200", "ready")


def test_a_check_that_does_not_end() -> None:
    pages = Pages(Deferred)
    asked = pages.ask("/readyz")
    pages.clock.advance(CHECK_TIMEOUT)
    assert answer(asked) == ("503", "not ready: the check did not end within 2 s")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_check_that_fails(at_once: bool) -> None:
    waiting: Deferred[str | None] = Deferred()

    def check() -> Any:
        if at_once:
            raise OSError("no route")
        return waiting

    pages = Pages(check)
    asked = pages.ask("/readyz")
    if not at_once:
        waiting.errback(OSError("no route"))
    assert answer(asked) == ("503", "not ready: no route")


def test_metrics_are_squeezed_for_who_takes_it() -> None:
    pages = Pages(lambda: None)
    Counter("made_up", "x", registry=pages.registry).inc()
    plain = answer(pages.ask("/metrics"))[1]
    assert "made_up_total 1.0" in plain
    raw = pages.ask("/metrics", "Accept-Encoding: gzip, deflate\r\n").value()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head.lower()
    assert "made_up_total 1.0" in gzip.decompress(body).decode()
