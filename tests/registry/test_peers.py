"""What a Frontier's peers take, and who may take it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from frontlas_tx.registry.errors import RegistryError, RegistryFullError
from frontlas_tx.registry.memory import MemoryRegistry
from frontlas_tx.registry.peers import PART, PeerBudget, PeerTable
from frontlas_tx.registry.records import Claim, Report, ReportKind, service_name
from frontlas_tx.registry.slices import AT_ONCE, Job, Slices

ON, OFF, S_ON = ReportKind.EDGE_ONLINE, ReportKind.EDGE_OFFLINE, ReportKind.SERVICE_ONLINE


class OneTurn:
    """A reactor whose turns are made one by one."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def callLater(self, _delay: float, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def fill(table: PeerTable, first: int, most: int = 100_000) -> int:
    """Report edges until no more are taken; how many were."""
    for n in range(first, first + most):
        report = Report(ON, n, "10.0.0.1:12345")
        if isinstance(table.take(report, 5), RegistryError):
            return n - first
    return most


def test_one_address_leaves_a_part_to_others() -> None:
    budget = PeerBudget(100_000)
    greedy = [PeerTable(budget=budget, origin="10.0.0.9") for _ in range(5)]
    taken = sum(fill(table, 1) for table in greedy)
    assert 85_000 < budget.used < 90_000
    other = PeerTable(budget=budget, origin="10.0.0.1")
    assert 40 < fill(other, 1) < taken
    assert budget.used <= budget.limit
    assert isinstance(other.take(Report(ON, 10**6, "h:1"), 5), RegistryFullError)
    # What is known already may be told again, and what ends makes room.
    assert isinstance(greedy[0].take(Report(ON, 1, "10.0.0.1:12345"), 5), Report)
    for table in greedy:
        table.close()
    assert budget.used == other.bytes
    assert fill(other, 10**6) > 300


def test_bytes_come_back() -> None:
    budget = PeerBudget()
    table = PeerTable(budget=budget, origin="a")
    for n in range(1, 50):
        table.take(Report(ON, n, "10.0.0.1:5"), 5)
        table.take(Report(ON, n, "10.0.0.1:55555"), 5)
        table.take(Report(S_ON, n, "h:1", "svc"), 5)
    table.sync_begin()
    table.take(Report(ON, 1), 6)
    assert sum(len(part) for part in table.sync_end()) == 48
    table.take(Report(OFF, 1), 6)
    assert (table.bytes, budget.used, table.size) == (0, 0, 0)


def test_what_is_reported_while_a_sync_ends_stays() -> None:
    table = PeerTable()
    for n in range(1, 3 * PART):
        table.take(Report(ON, n), 5)
    table.sync_begin()
    ending = table.sync_end()
    assert len(next(ending)) == PART
    late = 3 * PART - 1
    table.take(Report(ON, late), 6)
    assert set(table.edges) == {*range(PART + 1, late), late}
    assert sum(map(len, ending)) == 2 * PART - 2
    assert set(table.edges) == {late}
    assert not table.syncing


def test_a_sync_that_begins_ends_the_one_before() -> None:
    table = PeerTable()
    for n in range(1, 3 * PART):
        table.take(Report(ON, n), 5)
    table.sync_begin()
    ending = table.sync_end()
    next(ending)
    table.sync_begin()
    assert list(ending) == []
    assert table.syncing


@pytest.mark.parametrize(
    ("given", "bytes_"), [("s" * 5_000, 1024), ("é" * 5_000, 1024), ("😀" * 5_000, 1024), ("ab", 2)]
)
def test_a_name_is_cut(given: str, bytes_: int) -> None:
    assert len(service_name('{"service":"' + given + '"}').encode()) == bytes_


def test_records_of_the_ended_make_room() -> None:
    clock = Clock()
    clock.advance(1_800_000_000)
    registry = MemoryRegistry(clock, max_edges=300)  # type: ignore[arg-type]
    registry.start()

    def claimed(name: str) -> Claim:
        found: list[Claim] = []
        registry.claim(name, f"{name}:1", f"{name}:2").addCallback(found.append)
        return found[0]

    def told(claim: Claim, first: int, count: int) -> int:
        found: list[list[object]] = []
        registry.report(claim, [Report(ON, n) for n in range(first, first + count)]).addCallback(found.append)
        return found[0].count(None)

    for n in range(3):
        claim = claimed(f"gone{n}")
        assert told(claim, n * 100 + 1, 100) == 100
        registry.release(claim)
        clock.advance(1)
    honest = claimed("honest")
    assert told(honest, 1_001, 50) == 50
    assert told(honest, 1_051, 100) >= 50
    clock.advance(1)
    assert told(honest, 1_051, 100) == 100
    assert registry.metrics()["edges"] <= 300


def test_long_work_is_done_in_turns() -> None:
    clock = OneTurn()
    slices = Slices(clock)  # type: ignore[arg-type]
    done: list[str] = []

    def job(name: str, steps: int) -> Job:
        for _ in range(steps):
            done.append(name)
            yield AT_ONCE // 10
        return steps

    results: list[int] = []
    slices.run(job("long", 100)).addCallback(results.append)
    assert len(done) == 10
    slices.run(job("short", 5)).addCallback(results.append)
    assert len(done) == 10
    clock.turn()
    assert (done[10:].count("short"), results) == (5, [])
    while len(slices):
        before = len(done)
        clock.turn()
        assert len(done) - before <= 10
    assert results == [5, 100]
