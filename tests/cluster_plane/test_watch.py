"""Following the cluster: events, snapshots, and what happens to a client that is too slow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest

from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.status import Status
from frontier_tx.rpc.turns import Lane
from frontlas_tx.cluster_plane.watch import AGAIN
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.records import ReportKind
from tests.cluster_plane.world import START, Watching, World, a_world
from tests.rpc.support import outcome


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def test_events_as_they_happen(world: World) -> None:
    watching = world.watch()
    a = world.frontier("a")
    world.report(a, ReportKind.EDGE_ONLINE, 7)
    world.report(a, ReportKind.SERVICE_ONLINE, 50, service="billing")
    world.report(a, ReportKind.EDGE_OFFLINE, 7)
    world.settle()
    up, online, service, offline = watching.events
    assert (up.frontier_id, up.advertised_sb_addr, up.advertised_eb_addr) == ("a", "a:30011", "a:30012")
    assert (online.edge_id, online.frontier_id, online.addr, online.update_time) == (7, "a", "10.0.0.1:7", START)
    assert (service.service_id, service.service, service.edge_id) == (50, "billing", 0)
    assert offline.edge_id == 7
    world.registry.release(a)
    world.settle()
    assert watching.take()[-1] == ("FRONTIER_DOWN", "a")


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ({"edges": True}, {"EDGE_ONLINE"}),
        ({"services": True}, {"SERVICE_ONLINE"}),
        ({"frontiers": True}, {"FRONTIER_UP", "FRONTIER_DOWN"}),
        ({"frontiers": True, "edges": True}, {"FRONTIER_UP", "FRONTIER_DOWN", "EDGE_ONLINE"}),
    ],
)
@pytest.mark.parametrize("snapshot", [False, True])
def test_only_what_is_asked_for(world: World, wanted: dict[str, bool], kinds: set[str], snapshot: bool) -> None:
    z = world.frontier("z")
    world.report(z, ReportKind.EDGE_ONLINE, 1)
    watching = world.watch(snapshot=snapshot, **wanted)
    a = world.frontier("a")
    world.report(a, ReportKind.EDGE_ONLINE, 7)
    world.report(a, ReportKind.SERVICE_ONLINE, 50)
    world.registry.release(a)
    world.settle()
    assert {kind for kind, _ in watching.take()} - {"SNAPSHOT_BEGIN", "SNAPSHOT_END"} == kinds


def test_a_snapshot_names_all_that_lives_and_then_goes_on(world: World) -> None:
    a, b = world.frontier("a"), world.frontier("b")
    world.report(a, ReportKind.EDGE_ONLINE, *range(1, 1201))
    world.report(b, ReportKind.SERVICE_ONLINE, 5000, 5001, service="x")
    gone = world.frontier("gone")
    world.report(gone, ReportKind.EDGE_ONLINE, 9000)
    world.registry.release(gone)
    watching = world.watch(snapshot=True)
    world.settle()
    seen = watching.take()
    assert (seen[0][0], seen[-1][0]) == ("SNAPSHOT_BEGIN", "SNAPSHOT_END")
    assert {subject for kind, subject in seen if kind == "FRONTIER_UP"} == {"a", "b"}
    assert {subject for kind, subject in seen if kind == "EDGE_ONLINE"} == set(range(1, 1201))
    assert {subject for kind, subject in seen if kind == "SERVICE_ONLINE"} == {5000, 5001}
    world.report(a, ReportKind.EDGE_OFFLINE, 5)
    world.settle()
    assert watching.take() == [("EDGE_OFFLINE", 5)]


def test_changes_during_a_snapshot_come_in_the_right_order(world: World) -> None:
    a = world.frontier("a")
    world.report(a, ReportKind.EDGE_ONLINE, *range(1, 3001))
    watching = world.watch(snapshot=True, edges=True)
    world.report(a, ReportKind.EDGE_OFFLINE, *range(1, 3001, 2))
    world.report(a, ReportKind.EDGE_ONLINE, *range(1, 3001, 4))
    for _ in range(50):
        world.settle()
    online: set[int] = set()
    for kind, edge in watching.take():
        if kind == "EDGE_ONLINE":
            online.add(edge)
        elif kind == "EDGE_OFFLINE":
            online.discard(edge)
    assert online == set(range(2, 3001, 2)) | set(range(1, 3001, 4))


SMALL = Http2Limits(stream_window=1024)


def test_who_is_too_slow_gets_a_snapshot_anew() -> None:
    with a_world(feed=ChangeFeed(capacity=50)) as world:
        a = world.frontier("a")
        stream = world.stream(world.connect(SMALL), snapshot=True, edges=True)
        for first in range(1, 6001, 25):
            world.report(a, ReportKind.EDGE_ONLINE, *range(first, first + 25))
            world.settle()
        watching = Watching(stream)
        for _ in range(100):
            world.settle()
        late = watching.take()
        assert late[:2] == [("SNAPSHOT_BEGIN", ""), ("SNAPSHOT_END", "")]
        assert len(late) < 4000
        world.clock.advance(AGAIN)
        for _ in range(100):
            world.settle()
        seen = watching.take()
        assert (seen[0][0], seen[-1][0]) == ("SNAPSHOT_BEGIN", "SNAPSHOT_END")
        assert {edge for _, edge in seen[1:-1]} == set(range(1, 6001))


def test_who_wants_no_snapshot_is_told_to_list_again() -> None:
    feed = ChangeFeed()
    with a_world(feed=feed) as world:
        a = world.frontier("a")
        watching = world.watch(edges=True)
        feed.lagged()
        world.report(a, ReportKind.EDGE_ONLINE, 500)
        world.settle()
        assert watching.take() == [("LAGGED", ""), ("EDGE_ONLINE", 500)]


def test_a_restarted_frontier_is_shown_with_its_new_spelling(world: World) -> None:
    world.frontier("a", boot_id="1")
    watching = world.watch(frontiers=True)
    world.frontier("a", boot_id="2")
    world.settle()
    assert [event.advertised_sb_addr for event in watching.events] == ["a:030011"]


def test_one_change_is_not_told_to_everybody_in_one_turn() -> None:
    made = World()
    asked: list[Callable[[], None]] = []
    made.frontier("f1")
    followers = [made.watch(frontiers=True) for _ in range(20)]
    with patch.object(Lane, "ask", lambda lane, work, waiting=0: asked.append(work)):
        claim = made.frontier("f2")
        assert len(asked) == 20
        assert not any(watching.take() for watching in followers)
        made.report(claim, ReportKind.EDGE_ONLINE, 1)
    for work in asked:
        work()
    made.settle()
    assert all(watching.take() == [("FRONTIER_UP", "f2")] for watching in followers)
    made.close()


def test_watchers_are_bounded() -> None:
    with a_world(feed=ChangeFeed(max_subscriptions=1)) as world:
        first = world.watch()
        second = world.watch()
        assert outcome(second.end).status is Status.RESOURCE_EXHAUSTED
        first.stream.cancel()
        world.settle()
        third = world.watch()
        world.frontier("a")
        world.settle()
        assert third.take() == [("FRONTIER_UP", "a")]


def test_a_store_that_is_away_ends_a_snapshot_and_no_quiet_stream(world: World) -> None:
    quiet = world.watch()
    world.registry.go(away=True)
    asking = world.watch(snapshot=True)
    assert outcome(asking.end).status is Status.UNAVAILABLE
    world.registry.go(away=False)
    world.frontier("a")
    world.settle()
    assert quiet.take() == [("FRONTIER_UP", "a")]


def test_over_rest(world: World) -> None:
    a = world.frontier("a")
    answer = world.rest("/cluster/v1/watch?snapshot=true&frontiers=true&edges=true")
    world.report(a, ReportKind.EDGE_ONLINE, 7)
    lines = [json.loads(line[6:]) for line in answer.body.decode().split("\n") if line.startswith("data: ")]
    assert [line["kind"] for line in lines] == ["SNAPSHOT_BEGIN", "FRONTIER_UP", "SNAPSHOT_END", "EDGE_ONLINE"]
    assert lines[-1]["edgeId"] == "7"
    assert answer.on_gone is not None
    answer.on_gone()
    assert world.plane.table.streams == 0
