"""The attacks of this folder for some seconds each; ``python -m tests.hostile`` goes on for as long as one likes."""

from __future__ import annotations

import random

import pytest

from benchmarks.gateways import StartedGateway
from tests.hostile.drill import Report, fuzz, hoard
from tests.hostile.mutation import Mutator, recorded
from tests.interop.go_driver import GoDriver

pytestmark = pytest.mark.timeout(240)

BUDGET = 1 << 30


def unnoticed(report: Report) -> None:
    assert report.errors == [], "\n".join(report.lines())
    assert all(report.done.values()) and max(report.slowest.values()) < 20, "\n".join(report.lines())
    assert report.resident < BUDGET


def test_honest_pairs_notice_nothing_of_mutated_frames(gateway: StartedGateway) -> None:
    report = fuzz(gateway, 6, seed=random.randrange(1 << 32), pairs=2, width=10)
    assert report.attack["frames"] > 500
    unnoticed(report)


def test_a_pair_of_the_go_library_notices_nothing_either(gateway: StartedGateway, go: GoDriver) -> None:
    report = fuzz(gateway, 6, seed=random.randrange(1 << 32), pairs=1, width=10, go=go)
    assert report.done["go streams"] and report.done["go publishes"]
    unnoticed(report)


def test_honest_pairs_go_on_beside_connections_that_have_the_gateway_hold_what_they_may(
    gateway: StartedGateway,
) -> None:
    report = hoard(gateway, 200, 3, 2.0)
    assert report.attack["connections"] == 200
    unnoticed(report)


@pytest.mark.parametrize("careful", [True, False])
def test_a_seed_makes_the_same_frames_again(careful: bool) -> None:
    first, second = (
        [made.make() for _ in range(300)]
        for made in (Mutator(random.Random(5), ["a"], [bytes(8)], careful) for _ in range(2))
    )
    assert first == second
    whole = [len(data) == 14 + int.from_bytes(data[10:14]) and data[0] == 1 for data in first]
    assert all(whole) is careful


def test_conversations_of_both_kinds_are_there_to_be_spoilt() -> None:
    assert all(len(recorded(leg)) > 20 for leg in ("edge", "service"))
