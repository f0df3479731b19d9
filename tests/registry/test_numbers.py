"""Numbers of Frontiers: handed out without a look at all of them, and again when nobody needs them any more."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred, gatherResults

from frontlas_tx.registry.redis.keys import INDEX
from tests.registry.worlds import WORLDS, make_world, servers

FLOOD = 60


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Any:
    world = make_world(request.param, request)
    pytest_twisted.blockon(ensureDeferred(world.open()))
    yield world
    pytest_twisted.blockon(ensureDeferred(world.close()))


def numbers(world: Any) -> list[int]:
    entries = world.registry._entries if hasattr(world.registry, "_entries") else world.registry._index.entries
    return sorted(entry.number for entry in entries.values())


async def flood(world: Any, name: str, count: int) -> list[Any]:
    claims: list[Any] = await gatherResults(
        [world.registry.claim(f"{name}{n}", f"{name}{n}:1", f"{name}{n}:2") for n in range(count)]
    )
    return claims


@pytest.mark.parametrize("world", ["standalone"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_flood_of_newcomers_does_not_look_at_everybody_each_time(
    world: Any, request: pytest.FixtureRequest
) -> None:
    server = servers("standalone", request)
    await flood(world, "f", 1)
    server.cli("CONFIG", "RESETSTAT")
    await flood(world, "g", FLOOD)
    assert "cmdstat_hvals" not in server.cli("INFO", "commandstats")
    assert numbers(world) == list(range(1, FLOOD + 2))


@pytest_twisted.ensureDeferred
async def test_numbers_of_the_forgotten_are_given_again(world: Any) -> None:
    claims = await flood(world, "f", 6)
    for claim in claims[1:4]:
        await world.registry.release(claim)
    for _ in range(2):
        await world.advance(86_400 + 61)
        for claim in (claims[0], *claims[4:]):
            if claim.lost is None:
                await world.registry.renew(claim)
    left = numbers(world)
    assert not {claim.frontier_id for claim in claims[1:4]} & {
        record.frontier_id for record in await world.registry.frontiers()
    }
    await flood(world, "g", 4)
    assert len(set(numbers(world))) == len(left) + 4
    assert max(numbers(world)) <= 7


@pytest.mark.parametrize("world", ["standalone"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_numbers_that_nobody_noted_are_taken_all_the_same(world: Any, request: pytest.FixtureRequest) -> None:
    server = servers("standalone", request)
    await flood(world, "f", 3)
    server.cli("HDEL", INDEX, "taken")
    await flood(world, "g", 3)
    assert numbers(world) == [1, 2, 3, 4, 5, 6]
    assert re.fullmatch("1{6}0{4089}", server.cli("HGET", INDEX, "taken").strip())
