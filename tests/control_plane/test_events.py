"""Events: who and what comes and goes, bounded per reader, and nothing without readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from frontier_tx.control_plane import events
from frontier_tx.rpc.status import RpcError
from tests.control_plane.world import World, a_world


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def test_an_edge_comes_registers_and_is_kicked(world: World) -> None:
    watching = world.watch()
    edge = world.edge(7, b"plant-1", ("move",), reconnect=None)
    world.ask("KickEdge", edge_id=7)
    world.until(lambda: not edge.online)
    world.settle()
    addr = watching.events[0].addr
    assert watching.take() == [
        {"kind": "edge_online", "id": "1", "edge_id": "7", "meta": "plant-1", "addr": addr},
        {"kind": "method_registered", "id": "2", "edge_id": "7", "method": "move"},
        {"kind": "method_gone", "id": "3", "edge_id": "7", "method": "move"},
        {"kind": "edge_offline", "id": "4", "edge_id": "7", "meta": "plant-1", "addr": addr, "reason": ""},
    ]


def test_a_service_with_topics_that_is_lost(world: World) -> None:
    watching = world.watch(kinds="service_offline, topic_listed,topic_gone")
    world.service(9, "billing", topics=("orders", "bills"), reconnect=None)
    world.core.repository.services[9].transport.abort("made up")
    world.settle()
    kinds = [(each["kind"], each.get("topic", each.get("reason"))) for each in watching.take()]
    assert kinds == [
        ("topic_listed", "orders"),
        ("topic_listed", "bills"),
        ("topic_gone", "orders"),
        ("topic_gone", "bills"),
        ("service_offline", "made up"),
    ]


def test_the_state_before(world: World) -> None:
    world.edge(7, b"a")
    world.service(9, "billing")
    watching = world.watch(snapshot=True)
    assert [each["kind"] for each in watching.take()] == ["edge_online", "service_online", "snapshot_end"]
    world.edge(8)
    world.settle()
    assert [(each["kind"], each["edge_id"]) for each in watching.take()] == [("edge_online", "8")]


def test_a_kind_that_is_none(world: World) -> None:
    watching = world.watch(kinds="edge_online,nonsense")
    error = world.until(lambda: watching.end.called) or watching.end.result
    assert isinstance(error, RpcError)
    assert error.status.name == "INVALID_ARGUMENT"
    assert "'nonsense'" in error.message


def test_nothing_is_made_without_readers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.control.feed, "_event", None)
    world.edge(7, b"a", ("m",), reconnect=None)
    world.core.repository.edges[7].transport.abort("made up")
    world.settle()


def test_readers_leave_nothing_behind(world: World) -> None:
    watching = world.watch()
    assert len(world.control.feed.readers) == 1
    watching.stream.cancel()
    world.settle()
    assert not world.control.feed.readers


def test_only_so_many_readers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "READERS", 1)
    world.watch()
    refused = world.watch()
    error: Any = refused.end.result
    assert error.status.name == "RESOURCE_EXHAUSTED"


def test_a_slow_reader_is_told_what_it_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUED", 3)
    feed = world.control.feed
    reader = feed.open(frozenset(("edge_online",)))
    for number in range(5):
        feed.tell("edge_online", edge_id=number)
    feed.tell("edge_offline", edge_id=0)
    assert feed.lost == reader.lost == 2

    def take() -> Any:
        coroutine = reader.next(lambda count: feed.make("lost", count=count))
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("it waits")

    got = [take() for _ in range(4)]
    assert [(event.kind, event.edge_id if event.kind != "lost" else event.count) for event in got] == [
        ("edge_online", 0),
        ("edge_online", 1),
        ("edge_online", 2),
        ("lost", 2),
    ]
    feed.tell("edge_online", edge_id=9)
    assert take().edge_id == 9


def test_the_bound_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUED_BYTES", 5000)
    reader = world.control.feed.open(frozenset(events.KINDS))
    for _ in range(10):
        world.control.feed.tell("edge_online", edge_id=1, meta="x" * 1000)
    assert reader.lost == 6


def test_draining_is_told_once(world: World) -> None:
    watching = world.watch()
    world.control.draining()
    world.control.draining()
    world.settle()
    assert [each["kind"] for each in watching.take()] == ["draining"]
