"""The server itself: what it is, its figures, its configuration without secrets, its log, its end."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from google.protobuf.json_format import MessageToDict
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from frontier_tx.rpc.stats import Statistics, estimate
from frontier_tx.rpc.status import RpcError
from frontier_tx.runtime import logs
from tests.control_plane.world import World, a_world

SERVER = "frontier.v1.Server"


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


def test_what_it_is(world: World) -> None:
    world.edge(7)
    world.gateway.advance(5)
    shown = world.ask("GetServer", SERVER)
    assert (shown.frontier_id, shown.edges, shown.services, shown.uptime_seconds) == ("f-1", 1, 0, 5)
    assert (list(shown.addresses.edges), list(shown.roles)) == (["127.0.0.1:30012"], ["read", "act", "call"])
    assert (shown.draining, shown.not_ready) == (False, "")
    world.host.trouble = "Frontlas: away"
    assert world.ask("GetServer", SERVER).not_ready == "Frontlas: away"


def test_the_figures_are_those_of_the_metrics(world: World) -> None:
    Gauge("made_up", "A gauge.", ("side",), registry=world.registry).labels("edgebound").set(3)
    Counter("things", "A counter.", registry=world.registry).inc(2)
    stats = world.ask("GetStats", SERVER)
    assert stats.gauges['made_up{side="edgebound"}'] == 3
    assert stats.counters["things_total"] == 2
    assert not [name for name in stats.counters if name.endswith("_created")]


def test_quantiles_of_the_last_seconds() -> None:
    registry, now = CollectorRegistry(), [0.0]
    histogram = Histogram("call_seconds", "Calls.", ("way",), buckets=(0.01, 0.1, 1.0), registry=registry)
    statistics = Statistics(registry, lambda: now[0])
    for _ in range(100):
        histogram.labels("up").observe(0.05)
    assert 0.01 < statistics.read().quantiles['call_seconds{way="up",quantile="0.5"}'] <= 0.1
    for _ in range(20):
        now[0] += 1
        statistics.read()
    for _ in range(100):
        histogram.labels("up").observe(0.5)
    now[0] += 1
    assert statistics.read().quantiles['call_seconds{way="up",quantile="0.5"}'] > 0.1


def test_figures_are_read_seldom() -> None:
    registry, now = CollectorRegistry(), [0.0]
    counter = Counter("things", "A counter.", registry=registry)
    statistics = Statistics(registry, lambda: now[0])
    assert statistics.read().counters["things_total"] == 0
    counter.inc()
    assert statistics.read().counters["things_total"] == 0
    now[0] += 0.6
    assert statistics.read().counters["things_total"] == 1


def test_an_estimate() -> None:
    buckets = {0.1: 10.0, 1.0: 20.0, math.inf: 20.0}
    assert estimate(buckets, 0.5) == pytest.approx(0.1)
    assert estimate(buckets, 0.75) == pytest.approx(0.55)
    assert estimate({0.1: 0.0, math.inf: 5.0}, 0.5) == 0.1
    assert estimate({0.1: 0.0, math.inf: 0.0}, 0.5) is None
    assert estimate({}, 0.5) is None


def test_the_configuration(world: World) -> None:
    shown = MessageToDict(world.ask("GetConfig", SERVER))
    assert shown["edgebound"]["listen"]["addr"] == "127.0.0.1:30012"
    assert shown["limits"]["edge_window"] == 64


def test_the_log_level(world: World) -> None:
    before = logs.level()
    try:
        assert world.ask("SetLogLevel", SERVER, level="debug").level == "debug" == logs.level()
        assert world.ask("GetLogLevel", SERVER).level == "debug"
        error = world.ask("SetLogLevel", SERVER, level="loud")
        assert isinstance(error, RpcError)
        assert error.message == "level must be one of debug, info, warn, error"
    finally:
        logs.set_level(before)


def test_the_end(world: World) -> None:
    for _ in range(2):
        assert not isinstance(world.ask("Drain", SERVER), RpcError)
    world.gateway.advance()
    assert world.host.left == 1
