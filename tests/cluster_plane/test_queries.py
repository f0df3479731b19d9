"""The questions of ``ClusterService``, over gRPC and REST, with the faults of its model put right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from frontier_tx.rpc.status import RpcError, Status
from frontlas_tx.cluster_plane.queries import MAX_IDS
from frontlas_tx.registry.records import ReportKind
from tests.cluster_plane.world import AWAY, START, World, a_world

TOP = 2**64 - 1


@pytest.fixture
def world() -> Iterator[World]:
    """Two Frontiers: a with edges 1, 2 and the largest identity, and service 50; b with edge 3, and 50 and 51."""
    with a_world() as made:
        a, b = made.frontier("a"), made.frontier("b")
        made.report(a, ReportKind.EDGE_ONLINE, 1, 2, TOP)
        made.report(b, ReportKind.EDGE_ONLINE, 3)
        made.report(a, ReportKind.SERVICE_ONLINE, 50, service="billing")
        made.report(b, ReportKind.SERVICE_ONLINE, 50, 51, service="billing")
        yield made


def refusal(error: Any) -> tuple[Status, str]:
    """Status and text of an error."""
    assert isinstance(error, RpcError), error
    return error.status, error.message


def test_the_frontier_of_an_edge(world: World) -> None:
    frontier = world.ask("GetFrontierByEdge", edge_id=TOP).fontier
    assert (frontier.frontier_id, frontier.advertised_sb_addr, frontier.advertised_eb_addr) == (
        "a", "a:30011", "a:30012",
    )  # fmt: skip
    assert world.rest(f"/cluster/v1/frontier?edge_id={TOP}").json == {
        "fontier": {"frontierId": "a", "advertisedSbAddr": "a:30011", "advertisedEbAddr": "a:30012"}
    }


@pytest.mark.parametrize(
    ("name", "fields", "path"),
    [
        ("GetFrontierByEdge", {"edge_id": 9}, "/cluster/v1/frontier?edge_id=9"),
        ("GetFrontierByEdge", {}, "/cluster/v1/frontier"),
        ("GetEdgeByID", {"edge_id": 9}, "/cluster/v1/edge?edge_id=9"),
        ("GetEdgeByID", {}, "/cluster/v1/edge"),
        ("GetServiceByID", {"service_id": 9}, "/cluster/v1/service?service_id=9"),
        ("GetServiceByID", {}, "/cluster/v1/service"),
    ],
)
def test_not_found(world: World, name: str, fields: dict[str, Any], path: str) -> None:
    assert refusal(world.ask(name, **fields)) == (Status.NOT_FOUND, "redis: nil")
    answer = world.rest(path)
    assert (answer.status, answer.json["message"], answer.json["reason"]) == (404, "redis: nil", "NOT_FOUND")


def test_an_edge(world: World) -> None:
    edge = world.ask("GetEdgeByID", edge_id=3).edge
    assert (edge.edge_id, edge.addr, edge.update_time, edge.frontier_id) == (3, "10.0.0.1:3", START, "b")
    assert world.rest("/cluster/v1/edge?edgeId=3").json["edge"]["updateTime"] == str(START)


def test_edges_by_identity_keep_their_places(world: World) -> None:
    edges = world.ask("ListEdges", edge_ids=[3, 9, 1, 3]).edges
    assert [(edge.edge_id, edge.frontier_id) for edge in edges] == [(3, "b"), (0, ""), (1, "a"), (3, "b")]
    listed = world.rest("/cluster/v1/edges?edge_ids=3&edge_ids=9").json
    assert [edge["edgeId"] for edge in listed["edges"]] == ["3", "0"]
    assert "cursor" not in listed


def test_a_scan_meets_every_edge(world: World) -> None:
    c = world.frontier("c")
    world.report(c, ReportKind.EDGE_ONLINE, *range(1000, 1100))
    met: set[int] = set()
    cursor, steps = 0, 0
    while cursor or not steps:
        step = world.ask("ListEdges", cursor=cursor, count=7, edge_ids=[5])
        assert step.HasField("cursor")
        met |= {edge.edge_id for edge in step.edges}
        cursor, steps = step.cursor, steps + 1
    assert met == {1, 2, 3, TOP, *range(1000, 1100)}
    assert steps > 5
    assert world.ask("ListEdges", cursor=0, count=0).HasField("cursor")
    assert world.ask("ListEdges", cursor=TOP >> 32, count=2**32 - 1).cursor == 0


@pytest.mark.parametrize("name", ["ListEdges", "ListServices"])
@pytest.mark.parametrize("fields", [{}, {"cursor": 0}, {"count": 5}])
def test_no_choice(world: World, name: str, fields: dict[str, int]) -> None:
    assert refusal(world.ask(name, **fields)) == (Status.UNKNOWN, "illegal request")
    query = "&".join(f"{key}={value}" for key, value in fields.items())
    answer = world.rest(f"/cluster/v1/{name.removeprefix('List').lower()}?{query}")
    assert (answer.status, answer.json["message"]) == (500, "illegal request")


def test_too_many_identities(world: World) -> None:
    ids = list(range(1, MAX_IDS + 2))
    assert refusal(world.ask("ListEdges", edge_ids=ids))[0] is Status.INVALID_ARGUMENT
    assert len(world.ask("ListEdges", edge_ids=ids[1:]).edges) == MAX_IDS


def test_all_frontiers(world: World) -> None:
    assert [each.frontier_id for each in world.ask("ListFrontiers").frontiers] == ["a", "b"]
    assert [each.frontier_id for each in world.ask("ListFrontiers", cursor=0).frontiers] == ["a", "b"]
    assert not world.ask("ListFrontiers").HasField("cursor")
    step = world.ask("ListFrontiers", cursor=0, count=10)
    assert ([each.frontier_id for each in step.frontiers], step.cursor) == (["a", "b"], 0)


def test_frontiers_by_name_and_by_edge(world: World) -> None:
    by_name = world.ask("ListFrontiers", frontier_ids=["b", "nope", "a"]).frontiers
    assert [(each.frontier_id, each.advertised_sb_addr) for each in by_name] == [
        ("b", "b:30011"), ("", ""), ("a", "a:30011"),
    ]  # fmt: skip
    by_edge = world.ask("ListFrontiers", edge_ids=[3, 9, 1], frontier_ids=["b"]).frontiers
    assert [each.frontier_id for each in by_edge] == ["b", "", "a"]


def test_services(world: World) -> None:
    assert world.ask("GetServiceByID", service_id=51).service.service == "billing"
    listed = world.ask("ListServices", service_ids=[51, 9]).services
    assert [(each.service, each.frontier_id) for each in listed] == [("billing", "b"), ("", "")]
    walked, cursor = [], None
    while cursor != 0:
        step = world.ask("ListServices", cursor=cursor or 0, count=100)
        walked += [each.frontier_id for each in step.services]
        cursor = step.cursor
    assert sorted(walked) == ["a", "b", "b"]


def test_counts_are_of_what_lives(world: World) -> None:
    assert world.ask("GetEdgesCount").count == 4
    assert world.ask("GetServicesCount").count == 3
    assert world.rest("/cluster/v1/edges/count").json == {"count": "4"}
    world.registry.release(world.frontier("a", boot_id="again"))
    assert (world.ask("GetEdgesCount").count, world.ask("GetServicesCount").count) == (1, 2)


def test_a_frontier_that_died(world: World) -> None:
    world.registry.release(world.frontier("a"))
    assert refusal(world.ask("GetFrontierByEdge", edge_id=1)) == (Status.NOT_FOUND, "redis: nil")
    assert [each.frontier_id for each in world.ask("ListFrontiers").frontiers] == ["a", "b"]
    for _ in range(31):
        world.clock.advance(1)
        world.registry.renew(world.frontier("b"))
    assert [each.frontier_id for each in world.ask("ListFrontiers").frontiers] == ["b"]


def test_the_spelling_shows_a_restart_and_only_that(world: World) -> None:
    def shown() -> list[str]:
        return [each.advertised_sb_addr for each in world.ask("ListFrontiers").frontiers]

    world.registry.release(world.frontier("a", boot_id=""), by_peer=False)
    claim = world.frontier("a", boot_id="")
    assert shown() == ["a:30011", "b:30011"]
    world.registry.release(claim, by_peer=True)
    claim = world.frontier("a", boot_id="")
    assert shown() == ["a:030011", "b:30011"]
    assert world.ask("ListFrontiers", frontier_ids=["a"]).frontiers[0].advertised_sb_addr == "a:030011"
    world.registry.release(claim, by_peer=True)
    world.frontier("a", boot_id="")
    assert shown() == ["a:30011", "b:30011"]


def test_nobody_is_sent_to_an_empty_address(world: World) -> None:
    claim = world.registry.claim("mute", "", "")
    (mute,) = [claim.result]
    world.report(mute, ReportKind.EDGE_ONLINE, 77)
    answer = world.ask("GetFrontierByEdge", edge_id=77)
    assert refusal(answer)[0] in (Status.FAILED_PRECONDITION, Status.NOT_FOUND)
    assert all(each.advertised_sb_addr for each in world.ask("ListFrontiers").frontiers)


QUESTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("GetFrontierByEdge", {"edge_id": 1}, "frontier?edge_id=1"),
    ("ListFrontiers", {}, "frontiers"),
    ("ListFrontiers", {"cursor": 0, "count": 1}, "frontiers?cursor=0&count=1"),
    ("ListFrontiers", {"edge_ids": [1]}, "frontiers?edge_ids=1"),
    ("ListFrontiers", {"frontier_ids": ["a"]}, "frontiers?frontier_ids=a"),
    ("ListEdges", {"edge_ids": [1]}, "edges?edge_ids=1"),
    ("ListEdges", {"cursor": 0, "count": 1}, "edges?cursor=0&count=1"),
    ("GetEdgeByID", {"edge_id": 1}, "edge?edge_id=1"),
    ("GetEdgesCount", {}, "edges/count"),
    ("ListServices", {"service_ids": [50]}, "services?service_ids=50"),
    ("GetServiceByID", {"service_id": 50}, "service?service_id=50"),
    ("GetServicesCount", {}, "services/count"),
]


@pytest.mark.parametrize(("name", "fields", "path"), QUESTIONS)
def test_a_store_that_is_away_is_said_to_be(world: World, name: str, fields: dict[str, Any], path: str) -> None:
    world.registry.go(away=True)
    assert refusal(world.ask(name, **fields)) == (Status.UNAVAILABLE, AWAY)
    answer = world.rest(f"/cluster/v1/{path}")
    assert (answer.status, answer.json["reason"], answer.json["message"]) == (503, "UNAVAILABLE", AWAY)
    world.registry.go(away=False)
    assert not isinstance(world.ask(name, **fields), RpcError)


def test_a_lookup_asks_the_store_once(world: World) -> None:
    world.registry.asked.clear()
    world.ask("GetFrontierByEdge", edge_id=1)
    assert world.registry.asked == ["frontier_of_edge"]
