"""Figures of a gateway, of few connections and of many."""

import pytest
from prometheus_client import CollectorRegistry

from frontier_tx.gateway.bypass import BypassFactory
from frontier_tx.gateway.metrics import FRESH_SECONDS, SLICE, GatewayCollector
from frontier_tx.switch.budget import PENDING_BYTES
from tests.switch.world import World


@pytest.fixture
def world() -> World:
    return World()


class Page:
    """What a scrape shows."""

    def __init__(self, world: World, bypass: BypassFactory | None = None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(GatewayCollector(world.core, world.clock, bypass))

    def __getitem__(self, name: str) -> float | None:
        side, _, metric = name.rpartition(" ")
        return self.registry.get_sample_value(f"frontier_{metric}", {"side": side} if side else {})


def test_what_few_connections_hold(world: World) -> None:
    page = Page(world)
    service, edge = world.service(methods=(b"m", b"n")), world.edge()
    world.stream(service, edge, str(edge.id))
    edge.transport.block()
    for _ in range(100):
        service.publish(bytes(1000), custom=edge.id.to_bytes(8))
    world.advance()
    assert (page["streams"], page["service_methods"], page["pending"]) == (1, 2, 100)
    assert page["edgebound connections"] == page["servicebound connections"] == 1
    held = sum(map(len, edge.transport.held))
    outside = held + (page["edgebound unsent_bytes"] or 0) + (page["edgebound waiting_bytes"] or 0)
    assert 100 * 1300 < outside < 100 * 1700
    assert page["edgebound waiting_bytes"] == page["edgebound waiting_bytes_max"] == edge.leg.waiting_bytes > 0
    budget = world.core.exchange.budget
    assert page["held_bytes"] == budget.used > edge.leg.waiting_bytes + 100 * PENDING_BYTES
    assert page["held_bytes_limit"] == budget.limit
    world.everybody_leaves()
    for name in (
        "streams",
        "service_methods",
        "pending",
        "held_bytes",
        "edgebound unsent_bytes",
        "edgebound waiting_bytes",
    ):
        assert page[name] == 0


def test_many_connections_are_counted_in_slices(world: World) -> None:
    page = Page(world)
    service = world.service()
    edges = [world.edge() for _ in range(SLICE + 200)]
    world.stream(service, edges[-1], str(edges[-1].id))
    assert page["streams"] == 0
    world.advance()
    assert page["streams"] == 1
    world.stream(service, edges[0], str(edges[0].id))
    assert page["streams"] == 1
    world.advance(FRESH_SECONDS)
    page["streams"]
    world.advance()
    assert page["streams"] == 2


def test_connections_that_are_relayed(world: World) -> None:
    bypass = BypassFactory(world.core.edges, [], world.clock)
    page = Page(world, bypass)
    assert page["bypass_connections"] == 0
    bypass.buildProtocol(None)
    assert page["bypass_connections"] == 1
    assert Page(world)["bypass_connections"] is None
