"""Whoever asks the registry may give up at any time, and a claim may end at any time: that stops nobody else."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher

from frontlas_tx.registry.errors import ClaimLostError
from frontlas_tx.registry.records import Claim, Report, ReportKind
from tests.registry.worlds import RedisWorld, make_world

reactor: Any = _reactor


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[RedisWorld]:
    made = make_world("standalone", request)
    pytest_twisted.blockon(ensureDeferred(made.open()))
    yield made
    pytest_twisted.blockon(ensureDeferred(made.close()))


@pytest.fixture
def failures() -> Iterator[list[str]]:
    lines: list[str] = []

    def see(event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            lines.append(f"{event.get('log_format')}: {event.get('log_failure')}")

    globalLogPublisher.addObserver(see)
    yield lines
    globalLogPublisher.removeObserver(see)


def turns(number: int) -> Deferred[None]:
    async def pass_by() -> None:
        for _ in range(number):
            await deferLater(reactor, 0)

    return ensureDeferred(pass_by())


async def claim_with_edge(world: RedisWorld) -> Claim:
    claim: Claim = await world.registry.claim("a", "a:1", "a:2")
    assert await world.registry.report(claim, [Report(ReportKind.EDGE_ONLINE, 1, "h:1")]) == [None]
    return claim


QUESTIONS: list[Callable[[Any], Deferred[Any]]] = [
    lambda registry: registry.frontier_of_edge(1),
    lambda registry: registry.frontiers(),
    lambda registry: registry.counts(),
    lambda registry: registry.edges_page(0, 10),
    lambda registry: registry.claim("b", "b:1", "b:2"),
]


@pytest_twisted.ensureDeferred
async def test_a_question_that_is_given_up_while_the_directory_is_read_leaves_the_others_their_answer(
    world: RedisWorld, failures: list[str]
) -> None:
    claim = await claim_with_edge(world)
    for ask in QUESTIONS:
        for wait in range(6):
            await world.registry.renew(claim)
            # What is known is too old: the first who asks has it read again, the second waits for that.
            world.clock.shift += 4
            first, second = ask(world.registry), world.registry.frontiers()
            await turns(wait)
            first.addErrback(lambda failure: None)
            first.cancel()
            assert "a" in [frontier.frontier_id for frontier in await second.addTimeout(5, reactor)]
            await world.registry.counts().addTimeout(5, reactor)
    gc.collect()
    assert failures == []


@pytest_twisted.ensureDeferred
async def test_claims_that_end_while_they_are_repaired_stop_no_repairs(world: RedisWorld) -> None:
    registry = world.registry
    for wait in range(12):
        claim = await claim_with_edge(world)
        registry._disturbed()
        await turns(wait)
        await registry.release(claim)
    claim = await claim_with_edge(world)
    for _ in range(500):
        if registry.idle:
            break
        await deferLater(reactor, 0.01)
    assert registry.idle
    # Redis loses the record, and hears of it again.
    world._flush()
    registry._disturbed()
    await world.agree()
    assert (await registry.edge(1)).frontier_id == "a"


@pytest_twisted.ensureDeferred
async def test_what_a_claim_that_is_over_is_asked_to_do_fails(world: RedisWorld) -> None:
    claim = await claim_with_edge(world)
    holder = world.registry._claims.holder(claim)
    await world.registry.release(claim)

    async def work() -> None:
        raise AssertionError("the claim is over")

    with pytest.raises(ClaimLostError):
        await holder.run(work).addTimeout(1, reactor)
