"""What Redis did not take is written again, and no more than that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from frontier_tx.redis.errors import RedisTimeoutError
from frontier_tx.redis.interfaces import Request
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.records import Claim, Counts, Report, ReportKind
from tests.registry.worlds import RedisWorld, make_world

ON, OFF, BEAT = ReportKind.EDGE_ONLINE, ReportKind.EDGE_OFFLINE, ReportKind.EDGE_HEARTBEAT
EDGES = 1_000


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[RedisWorld]:
    made = make_world("standalone", request)
    pytest_twisted.blockon(ensureDeferred(made.open()))
    yield made
    pytest_twisted.blockon(ensureDeferred(made.close()))


async def named(world: RedisWorld) -> Claim:
    """A Frontier with many edges, all of which it has named."""
    claim: Claim = await world.registry.claim("a", "a:1", "a:2", boot_id="a")
    world.registry.sync_begin(claim)
    await world.registry.report(claim, [Report(ON, n, f"h:{n}") for n in range(1, EDGES + 1)])
    await world.registry.sync_end(claim)
    return claim


def failing(world: RedisWorld, monkeypatch: pytest.MonkeyPatch, which: Callable[[Request], bool]) -> list[Request]:
    """From now on these commands fail as if Redis had not answered; gives those that have failed."""
    failed: list[Request] = []
    redis = world.clients[0]
    batch = redis.batch

    async def moody(requests: list[Request]) -> list[Any]:
        replies = await batch(requests)
        for index, request in enumerate(requests):
            if which(request):
                failed.append(request)
                replies[index] = RedisTimeoutError("h:1", 3)
        return replies

    monkeypatch.setattr(redis, "batch", lambda requests: ensureDeferred(moody(list(requests))))
    return failed


@pytest.mark.parametrize(
    "lost",
    [lambda r: r.script is not None and b"frontlas" in str(r.key).encode(), lambda r: r.args[0] in ("SADD", "SREM")],
)
@pytest_twisted.ensureDeferred
async def test_what_failed_is_written_again_and_not_everything(
    world: RedisWorld, monkeypatch: pytest.MonkeyPatch, lost: Callable[[Request], bool]
) -> None:
    claim = await named(world)
    with monkeypatch.context() as patch:
        failed = failing(world, patch, lambda request: "x:frontiers" not in str(request.key) and lost(request))
        outcome = await world.registry.report(
            claim, [Report(ON, EDGES + 1, "h:9"), Report(OFF, 1), Report(ON, 2, "h:8"), Report(BEAT, EDGES + 2)]
        )
        assert failed
    if failed[0].script is not None:
        assert all(isinstance(problem, RegistryUnavailableError) for problem in outcome)
    written = world.registry.metrics()["writes_total"]
    await world.registry.renew(claim)
    await world.settle()
    assert world.registry.metrics()["writes_total"] - written < 50
    found = await world.registry.edges([1, 2, 3, EDGES + 1, EDGES + 2])
    assert [edge and edge.addr for edge in found] == [None, "h:8", "h:3", "h:9", ""]
    assert await world.registry.counts() == Counts(1, EDGES + 1, 0)


@pytest_twisted.ensureDeferred
async def test_an_edge_that_came_while_redis_failed_is_taken_from_who_had_it_before(
    world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await named(world)
    b = await world.registry.claim("b", "b:1", "b:2", boot_id="b")
    world.clock.shift += 5
    with monkeypatch.context() as patch:
        failing(world, patch, lambda request: "edges" in str(request.key))
        await world.registry.report(b, [Report(ON, 7, "h:7")])
    await world.registry.renew(b)
    await world.settle()
    assert (await world.registry.frontier_of_edge(7)).frontier_id == "b"
    # Its end is noted, whatever was to be written again, and the older one does not take it back meanwhile.
    for claim in (a, b, a):
        await world.registry.renew(claim)
        await world.settle()
    assert (await world.registry.frontier_of_edge(7)).frontier_id == "b"
    assert await world.registry.counts() == Counts(2, EDGES, 0)


@pytest_twisted.ensureDeferred
async def test_what_redis_lost_behind_everybodys_back_is_found_with_renewals(world: RedisWorld) -> None:
    claim = await named(world)
    await world.clients[0].execute("SREM", "frontlas:x:edges:1:a", 5, 6)
    await world.clients[0].execute("DEL", "frontlas:edges:5")
    await world.clients[0].execute("SADD", "frontlas:x:edges:1:a", 999_999)
    await world.registry.renew(claim)
    await world.settle()
    assert await world.registry.counts() == Counts(1, EDGES, 0)
    assert await world.clients[0].execute("GET", "frontlas:edges:5")


@pytest_twisted.ensureDeferred
async def test_an_edge_that_came_and_went_while_redis_failed_is_gone(
    world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await named(world)
    with monkeypatch.context() as patch:
        failing(world, patch, lambda request: "edges" in str(request.key))
        await world.registry.report(claim, [Report(ON, EDGES + 1, "h:7")])
    assert await world.registry.report(claim, [Report(OFF, EDGES + 1)]) == [None]
    assert await world.registry.edge(EDGES + 1) is None
    await world.registry.renew(claim)
    await world.settle()
    assert await world.registry.counts() == Counts(1, EDGES, 0)
