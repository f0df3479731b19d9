"""Health that means it, readiness, and the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred

from frontier_tx.rpc.status import Status
from tests.cluster_plane.world import AWAY, CONTRACT, World, a_world
from tests.rpc.support import outcome

HEALTH = "controlplane.Health"
SERVING, NOT_SERVING = 1, 2


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def followed(world: World, service: str) -> list[int]:
    """The states that a watcher of this health service is told, as they come."""
    spec = CONTRACT.method(service, "Watch")
    stream = world.client.stream(spec, spec.request())
    states: list[int] = []

    async def read() -> None:
        async for state in stream:
            states.append(state.status)

    Deferred.fromCoroutine(read()).addErrback(lambda _: None)
    world.settle()
    return states


@pytest.mark.parametrize("service", [HEALTH, "grpc.health.v1.Health"])
def test_health_follows_the_store(world: World, service: str) -> None:
    states = followed(world, service)
    assert world.ask("Check", service).status == SERVING
    world.registry.go(away=True)
    world.settle()
    assert world.ask("Check", service).status == NOT_SERVING
    world.registry.go(away=False)
    world.settle()
    assert states == [SERVING, NOT_SERVING, SERVING]


def test_health_over_rest(world: World) -> None:
    answer = world.rest("/cluster/v1/health?service=whatever")
    assert (answer.status, answer.json) == (200, {"status": "SERVING"})
    world.registry.go(away=True)
    answer = world.rest("/cluster/v1/health")
    assert (answer.status, answer.json) == (417, {"status": "NOT_SERVING"})


def test_readiness_asks_the_store_each_time(world: World) -> None:
    def why() -> Any:
        return outcome(Deferred.fromCoroutine(world.plane.not_ready()))

    assert why() is None
    world.registry.away = True
    assert why() == AWAY
    world.registry.away = False
    assert why() is None
    world.plane.drain(0)
    assert why() == "draining"


def test_the_state_at_the_start_is_the_stores() -> None:
    with a_world() as world:
        world.plane.stop()
        world.registry.go(away=True)
        assert world.ask("Check", HEALTH).status == SERVING
        world.plane.start()
        assert world.ask("Check", HEALTH).status == NOT_SERVING


def test_the_end(world: World) -> None:
    states = followed(world, HEALTH)
    watching = world.watch()
    drained = world.plane.drain(5)
    world.settle()
    assert states == [SERVING, NOT_SERVING]
    world.clock.advance(5)
    world.settle()
    assert outcome(watching.end).status is Status.UNAVAILABLE
    assert outcome(drained) is None
    world.plane.stop()
    assert outcome(world.client.closed) is None


def test_calls_are_counted() -> None:
    metrics = CollectorRegistry()
    with a_world(metrics=metrics) as world:
        world.ask("GetEdgesCount")
        world.rest("/cluster/v1/edge?edge_id=1")
    path = "/controlplane.ClusterService/"

    def count(method: str, code: str, via: str) -> float | None:
        labels = {"method": path + method, "code": code, "via": via}
        return metrics.get_sample_value("control_plane_requests_total", labels)

    assert count("GetEdgesCount", "OK", "grpc") == 1
    assert count("GetEdgeByID", "NOT_FOUND", "rest") == 1


def test_every_method_asks_for_a_role(world: World) -> None:
    asked = {method.spec.path.rpartition(".")[2]: method.role for method in world.plane.table.entries}
    assert None not in asked.values()
    assert [path for path, role in asked.items() if role == "act"] == ["Directory/KickEdge"]
