"""Kicks are answered when the connection is gone, whatever the peer does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from frontier_tx.control_plane.kicks import GRACE
from frontier_tx.rpc.status import RpcError
from frontier_tx.switch.legs import Leg
from tests.control_plane.world import World, a_world


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def silence(leg: Leg) -> None:
    """Let a peer answer nothing any more, as a process that is stopped."""
    transport: Any = leg.transport
    transport.transport._other._protocol.dataReceived = lambda data: None


@pytest.mark.parametrize("side", ["edge", "service"])
def test_a_peer_that_answers_is_gone_at_once(world: World, side: str) -> None:
    getattr(world, side)(7, methods=("move",), reconnect=None)
    recorder = world.rest(f"/v1/{side}s/7", "DELETE")
    assert world.until(lambda: recorder.finished) < 0.2
    assert (recorder.status, recorder.json) == (200, {})
    assert world.rest(f"/v1/{side}s/7").status == 404
    assert world.rest(f"/v1/{side}s/rpcs").json["rpcs"] == []


@pytest.mark.parametrize("side", ["edge", "service"])
def test_a_silent_peer_is_cut_and_nobody_else_waits(world: World, side: str) -> None:
    getattr(world, side)(7, methods=("move",), reconnect=None)
    legs = getattr(world.core.repository, f"{side}s")
    silence(legs[7])
    first, second = world.rest(f"/v1/{side}s/7", "DELETE"), world.rest(f"/v1/{side}s/7", "DELETE")
    assert not first.finished
    # Meanwhile others come, are listed and kicked.
    world.edge(8, b"another", reconnect=None)
    assert [each["edge_id"] for each in world.rest("/v1/edges?meta=another").json["edges"]] == ["8"]
    other = world.rest("/v1/edges/8", "DELETE")
    assert world.until(lambda: other.finished) < 0.2
    assert not first.finished
    assert GRACE - 0.3 < world.until(lambda: first.finished) <= GRACE + 0.1
    assert second.finished
    assert (first.json, second.json) == ({}, {})
    assert 7 not in legs


def test_a_kick_goes_on_without_whoever_asked(world: World) -> None:
    world.edge(7, reconnect=None)
    silence(world.core.repository.edges[7])
    recorder = world.rest("/v1/edges/7", "DELETE")
    assert recorder.on_gone is not None
    recorder.on_gone()
    world.until(lambda: 7 not in world.core.repository.edges, GRACE + 1)


def test_a_kicked_edge_comes_back_under_its_id(world: World) -> None:
    edge = world.edge(7)
    world.ids.next = 7
    assert world.ask("KickEdge", edge_id=7) is not None
    world.until(lambda: edge.online)
    assert edge.edge_id == 7


@pytest.mark.parametrize(("name", "text"), [("KickEdge", "edge not online"), ("KickService", "service not online")])
def test_nobody_of_that_id(world: World, name: str, text: str) -> None:
    field = "edge_id" if name == "KickEdge" else "service_id"
    for peer_id in (0, 12345, 2**64 - 1):
        error = world.ask(name, **{field: peer_id})
        assert isinstance(error, RpcError)
        assert (error.status.name, error.message) == ("NOT_FOUND", text)


def test_a_service_whose_place_is_taken_while_it_is_kicked(world: World) -> None:
    world.service(7, reconnect=None)
    silence(world.core.repository.services[7])
    kick: Deferred[object] = world.ask("KickService", service_id=7)
    assert isinstance(kick, Deferred)
    world.service(7, "newcomer")
    world.until(lambda: kick.called, GRACE + 1)
    assert world.rest("/v1/services/7").json["service"] == "newcomer"
