"""The figures of a registry as Prometheus gets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from frontier_tx.config.redis import Redis
from frontier_tx.redis.connect import make_redis
from frontlas_tx.frontier_plane import FrontierPlane
from frontlas_tx.metrics import MEANINGS, FrontlasCollector
from frontlas_tx.registry.memory import MemoryRegistry
from frontlas_tx.registry.records import Report, ReportKind
from frontlas_tx.registry.redis.registry import RedisRegistry
from tests.registry.worlds import MemoryWorld, RedisWorld, make_world


@pytest.fixture(params=["memory", "standalone"])
def world(request: pytest.FixtureRequest) -> Iterator[MemoryWorld | RedisWorld]:
    made = make_world(request.param, request)
    pytest_twisted.blockon(ensureDeferred(made.open()))
    yield made
    pytest_twisted.blockon(ensureDeferred(made.close()))


@pytest_twisted.ensureDeferred
async def test_each_figure_has_its_meaning_and_its_kind(world: Any) -> None:
    registry = world.registry
    claim = await registry.claim("a", "a:1", "a:2")
    await registry.report(claim, [Report(ReportKind.EDGE_ONLINE, 1, "h:1")])
    page = CollectorRegistry()
    page.register(FrontlasCollector(registry, FrontierPlane(registry, world.clock)))
    lines = generate_latest(page).decode().splitlines()
    for name in registry.metrics():
        kind = "counter" if name.endswith("_total") else "gauge"
        assert f"# TYPE frontlas_registry_{name} {kind}" in lines
        assert f"# HELP frontlas_registry_{name} {MEANINGS[name]}" in lines
    assert "frontlas_registry_reports_total 1.0" in lines
    assert "frontlas_registry_frontiers 1.0" in lines
    assert "frontlas_ready 1.0" in lines
    answered = page.get_sample_value("frontlas_redis_seconds_count")
    assert answered is None if isinstance(world, MemoryWorld) else answered


def test_no_figure_is_described_that_none_has() -> None:
    clock: Any = Clock()
    redis = make_redis(clock, Redis())
    named = {*MemoryRegistry(clock).metrics(), *RedisRegistry(clock, redis).metrics()}
    assert named == set(MEANINGS)
