"""Lists are made a few at a time, and who waits is served in turn by address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from frontier_tx.control_plane import scans
from frontier_tx.control_plane.scans import Scans
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.status import RpcError
from tests.control_plane.world import CONTRACT

METHOD = CONTRACT.method("controlplane.ControlPlane", "ListEdges")


class Crowd:
    """Lists of one step each, whose turns come when the test says so."""

    def __init__(self, at_once: int) -> None:
        self.scans = Scans(at_once)
        self.turns: list[Deferred[None]] = []
        self.done: list[str] = []

    def turn(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self.turns.append(waiter)
        return waiter

    def start(self, name: str, peer: str) -> Deferred[Any]:
        def steps() -> Iterator[None]:
            yield
            self.done.append(name)
            return name

        context = CallContext(METHOD, {}, peer, "grpc", turn=self.turn)
        return Deferred.fromCoroutine(self.scans.run(steps(), context))  # type: ignore[arg-type]

    def go_on(self) -> None:
        """Give turns until nobody wants one."""
        while self.turns:
            self.turns.pop(0).callback(None)


def test_in_turn_by_address() -> None:
    crowd = Crowd(at_once=1)
    for name in ("a1", "a2", "a3"):
        crowd.start(name, "10.0.0.1:5")
    crowd.start("b1", "10.0.0.2:5")
    assert (crowd.scans.running, crowd.scans.waiting) == (1, 3)
    crowd.go_on()
    assert crowd.done == ["a1", "a2", "b1", "a3"]
    assert (crowd.scans.running, crowd.scans.waiting) == (0, 0)


def test_who_gives_up_makes_room() -> None:
    crowd = Crowd(at_once=1)
    crowd.start("a1", "10.0.0.1:5")
    waiting = crowd.start("a2", "10.0.0.1:5")
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    assert crowd.scans.waiting == 0
    crowd.go_on()
    assert (crowd.done, crowd.scans.running) == (["a1"], 0)


def test_one_that_is_given_up_lets_the_next_go_on() -> None:
    crowd = Crowd(at_once=1)
    first = crowd.start("a1", "10.0.0.1:5")
    crowd.start("a2", "10.0.0.1:5")
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    crowd.go_on()
    assert (crowd.done, crowd.scans.running) == (["a2"], 0)


@pytest.mark.parametrize(("bound", "peer"), [("WAITING", "10.0.0.2:5"), ("WAITING_OF_ONE", "10.0.0.1:5")])
def test_too_many_wait(monkeypatch: pytest.MonkeyPatch, bound: str, peer: str) -> None:
    monkeypatch.setattr(scans, bound, 1)
    crowd = Crowd(at_once=1)
    crowd.start("a1", "10.0.0.1:5")
    crowd.start("a2", "10.0.0.1:5")
    outcome: list[Any] = []
    crowd.start("too many", peer).addErrback(lambda failure: outcome.append(failure.value))
    assert isinstance(outcome[0], RpcError)
    assert outcome[0].status.name == "RESOURCE_EXHAUSTED"
    crowd.go_on()
    assert crowd.done == ["a1", "a2"]
