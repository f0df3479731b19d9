"""Attempts that are given up."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock

from frontier_tx.rpc.grpc_client import NotSentError, connect
from frontier_tx.runtime.deferreds import cancellable


def outcome(deferred: Deferred[Any]) -> Any:
    seen: list[Any] = []
    deferred.addBoth(seen.append)
    return getattr(seen[0], "value", seen[0]) if seen else None


def test_what_comes_of_it_is_passed_on() -> None:
    attempt: Deferred[int] = Deferred()
    waiting = cancellable(attempt, lambda result: None)
    attempt.callback(1)
    assert outcome(waiting) == 1
    attempt, error = Deferred(), ValueError()
    waiting = cancellable(attempt, lambda result: None)
    attempt.errback(error)
    assert outcome(waiting) is error


def test_cancelled_it_fails_with_nothing_else() -> None:
    attempt: Deferred[int] = Deferred(lambda it: it.errback(ConnectingCancelledError(None)))
    waiting = cancellable(attempt, lambda result: None)
    waiting.cancel()
    assert isinstance(outcome(waiting), CancelledError)


def test_what_comes_after_all_is_discarded() -> None:
    discarded: list[int] = []
    attempt: Deferred[int] = Deferred(lambda it: it.callback(1))
    waiting = cancellable(attempt, discarded.append)
    waiting.cancel()
    assert isinstance(outcome(waiting), CancelledError)
    assert discarded == [1]


@pytest.mark.parametrize("kind", [TCP4ClientEndpoint, HostnameEndpoint])
def test_a_grpc_connection_that_is_given_up_is_no_server_that_cannot_be_reached(
    kind: type[IStreamClientEndpoint],
) -> None:
    reactor = MemoryReactorClock()
    connecting = connect(reactor, kind(reactor, "127.0.0.1", 1), "127.0.0.1:1")
    connecting.cancel()
    assert isinstance(outcome(connecting), CancelledError)
    late = connect(reactor, kind(reactor, "127.0.0.1", 1), "127.0.0.1:1", timeout=3.0)
    reactor.advance(3.0)
    assert isinstance(outcome(late), NotSentError)
