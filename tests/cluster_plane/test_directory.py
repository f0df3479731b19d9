"""The cluster as its operators see it: lists with filters, details, kicks, events, the page and the description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.rpc.status import RpcError, Status
from frontlas_tx.registry.records import Report, ReportKind
from tests.cluster_plane.world import AWAY, World, a_world
from tests.control_plane.test_rest import events
from tests.rpc.recorder import Recorder, ask
from tests.rpc.support import outcome

DIRECTORY = "frontlas.v1.Directory"


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def edges(world: World, frontier: str, *ids: int, meta: str = "") -> None:
    """Edges of a Frontier that is new."""
    claim = world.frontier(frontier, version="1.0", started=5)
    reports = [Report(ReportKind.EDGE_ONLINE, each, f"10.0.0.1:{each}", meta=f"{meta}{each}") for each in ids]
    assert outcome(world.registry.report(claim, reports)) == [None] * len(ids)


def walk(world: World, path: str, kind: str, **query: Any) -> list[dict[str, Any]]:
    """All records of a search."""
    found, cursor = [], "0"
    while True:
        query["cursor"] = cursor
        answer = world.rest(path + "?" + "&".join(f"{name}={text}" for name, text in query.items()))
        assert answer.status == 200, answer.body
        found += answer.json[kind]
        cursor = answer.json["cursor"]
        if cursor == "0":
            return found


def test_frontiers(world: World) -> None:
    edges(world, "east", 1, 2)
    world.report(world.frontier("west"), ReportKind.SERVICE_ONLINE, 9)
    found = world.rest("/cluster/v1/frontiers/details").json["frontiers"]
    assert [(each["frontier_id"], each["edges"], each["services"], each["connected"]) for each in found] == [
        ("east", "2", "0", True),
        ("west", "0", "1", True),
    ]
    assert (found[0]["version"], found[0]["started"], found[0]["last_seen"]) == ("1.0", "5", "1800000000")
    assert (found[0]["advertised_sb_addr"], found[0]["advertised_eb_addr"]) == ("east:30011", "east:30012")


def test_frontiers_are_counted_once_a_second(world: World) -> None:
    edges(world, "east", 1)
    for _ in range(3):
        world.rest("/cluster/v1/frontiers/details")
    assert world.registry.asked.count("counts_of") == 1
    world.clock.advance(31)
    assert [each["connected"] for each in world.rest("/cluster/v1/frontiers/details").json["frontiers"]] == [False]


def test_a_search_by_each_field(world: World) -> None:
    edges(world, "east", *range(1, 301), meta="sensor-")
    edges(world, "east-2", *range(1001, 1101), meta="pump-")
    path = "/cluster/v1/edges/search"

    def ids(**query: Any) -> set[int]:
        found = walk(world, path, "edges", count=20, **query)
        assert len(found) == len({each["edge_id"] for each in found})
        return {int(each["edge_id"]) for each in found}

    assert ids() == {*range(1, 301), *range(1001, 1101)}
    assert ids(meta="pump-10") == set(range(1001, 1100))
    assert ids(frontier_id="east") == set(range(1, 301))
    assert ids(frontier_id="eas") == {*range(1, 301), *range(1001, 1101)}
    assert ids(frontier_id="east-2", meta="sensor") == set()
    assert ids(addr="10.0.0.1:30") == {30, 300}
    found = world.rest(f"{path}?meta=sensor-7&addr=10.0.0.1:7").json["edges"]
    assert {
        "edge_id": "7",
        "meta": "sensor-7",
        "addr": "10.0.0.1:7",
        "frontier_id": "east",
        "update_time": "1800000000",
    } in found


def test_a_search_that_finds_little_gives_up_its_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontlas_tx.cluster_plane.directory.VISITED", 100)
    edges(world, "east", *range(1, 1001), meta="x")
    answer = world.ask("SearchEdges", DIRECTORY, meta="nothing")
    assert (len(answer.edges), answer.cursor > 0) == (0, True)
    assert walk(world, "/cluster/v1/edges/search", "edges", meta="nothing") == []


def test_services(world: World) -> None:
    world.report(world.frontier("east"), ReportKind.SERVICE_ONLINE, 9, service="billing")
    world.report(world.frontier("west"), ReportKind.SERVICE_ONLINE, 9, 10, service="archive")
    path = "/cluster/v1/services/search"
    assert len(walk(world, path, "services")) == 3
    (found,) = walk(world, path, "services", service="bill")
    assert (found["service_id"], found["service"], found["frontier_id"]) == ("9", "billing", "east")


def test_details_are_those_of_its_frontier(world: World) -> None:
    edges(world, "east", 7)
    contract = frontier_contract()
    made = contract.message("frontier.v1.EdgeDetails")(edge_id=7, meta="m", methods=["echo"], bytes_in=2**60)
    world.frontiers.answer = made.SerializeToString()
    found = world.rest("/cluster/v1/edges/7/details").json
    assert world.frontiers.asked == [("details", "east", 7)]
    assert (found["methods"], found["bytes_in"], found["bytes_out"]) == (["echo"], str(2**60), "0")
    assert (found["frontier_id"], found["partial"]) == ("east", "")


@pytest.mark.parametrize("status", [Status.UNIMPLEMENTED, Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED])
def test_details_of_a_frontier_that_cannot_be_asked(world: World, status: Status) -> None:
    edges(world, "east", 7, meta="pump-")
    world.frontiers.answer = RpcError(status, "it cannot be asked")
    found = world.rest("/cluster/v1/edges/7/details").json
    assert (found["meta"], found["frontier_id"], found["partial"]) == ("pump-7", "east", "it cannot be asked")
    assert "bytes_in" not in found


def test_both_messages_of_details_have_the_same_fields(world: World) -> None:
    theirs = frontier_contract().message("frontier.v1.EdgeDetails").DESCRIPTOR.fields
    ours = world.plane.table.contract.message("frontlas.v1.EdgeDetails").DESCRIPTOR.fields_by_number
    assert [(field.number, field.name, field.type) for field in theirs] == [
        (field.number, ours[field.number].name, ours[field.number].type) for field in theirs
    ]


def test_a_kick(world: World) -> None:
    edges(world, "east", 7)
    assert world.rest("/cluster/v1/edges/8", "DELETE").status == 404
    answer = world.rest("/cluster/v1/edges/7", "DELETE")
    assert (world.frontiers.asked, answer.status) == ([("kick", "east", 7)], 0)
    world.clock.advance(0.05)
    outcome(world.registry.release(world.registry.real._holders["east"].claim))
    world.clock.advance(0.05)
    assert (answer.status, answer.json) == (200, {})


def test_a_kick_that_fails(world: World) -> None:
    edges(world, "east", 7)
    world.frontiers.answer = RpcError(Status.UNIMPLEMENTED, "too old")
    assert (world.rest("/cluster/v1/edges/7", "DELETE").status, world.frontiers.asked) == (501, [("kick", "east", 7)])


def test_the_store_is_away(world: World) -> None:
    world.registry.go(away=True)
    for path in ("frontiers/details", "edges/search", "services/search?frontier_id=x", "edges/7/details"):
        answer = world.rest(f"/cluster/v1/{path}")
        assert (answer.status, answer.json["message"]) == (503, AWAY), path


def test_bad_questions(world: World) -> None:
    for path in ("edges/search?cursor=x", "edges/search?count=-1", "edges/x/details", "events?kinds=nonsense"):
        assert world.rest(f"/cluster/v1/{path}").status == 400, path
    assert world.rest("/cluster/v1/edges/0/details").status == 404


def follow(world: World, query: str = "") -> Recorder:
    """An open stream of events."""
    return world.rest(f"/cluster/v1/events{query}")


def test_events_with_a_snapshot(world: World) -> None:
    edges(world, "east", 7, meta="m")
    stream = follow(world, "?snapshot=1")
    claim = world.frontier("west")
    world.report(claim, ReportKind.SERVICE_ONLINE, 9, service="billing")
    world.report(claim, ReportKind.SERVICE_OFFLINE, 9)
    world.settle()
    told = events(stream)
    assert [kind for kind, _, _ in told] == [
        "frontier_online", "edge_online", "snapshot_end", "frontier_online", "service_online", "service_offline",
    ]  # fmt: skip
    assert [number for _, number, _ in told] == ["1", "2", "3", "4", "5", "6"]
    first, edge, *_ = (data for _, _, data in told)
    assert (first["frontier_id"], first["addr"], "edge_id" in first) == ("east", "east:30011", False)
    assert (edge["edge_id"], edge["meta"], edge["frontier_id"], edge["time"]) == ("7", "m7", "east", "1800000000")
    assert stream.on_gone is not None
    stream.on_gone()


def test_events_of_some_kinds(world: World) -> None:
    stream = follow(world, "?kinds=edge_offline")
    edges(world, "east", 7)
    claim = world.registry.real._holders["east"].claim
    world.report(claim, ReportKind.EDGE_OFFLINE, 7)
    world.settle()
    assert [(kind, data["edge_id"]) for kind, _, data in events(stream)] == [("edge_offline", "7")]
    assert stream.on_gone is not None
    stream.on_gone()


def test_the_description_and_the_page(world: World) -> None:
    document = json.loads(world.rest("/openapi.json").body)
    assert set(document["paths"]["/cluster/v1/edges/{edge_id}"]) == {"delete"}
    page = world.rest("/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    with a_world(web=False) as other:
        assert ask(other.router, "GET", "/").status == 404
