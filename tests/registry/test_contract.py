"""What every registry does, in every mode (``IRegistry``)."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from zope.interface.verify import verifyObject

from frontier_tx.redis.interfaces import Script
from frontlas_tx.registry import directory
from frontlas_tx.registry.errors import (
    ClaimLostError,
    FrontierAlreadySetError,
    InvalidReportError,
    RegistryFullError,
)
from frontlas_tx.registry.interfaces import IRegistry, ISubscription
from frontlas_tx.registry.records import (
    Change,
    ChangeKind,
    Claim,
    Counts,
    EdgeRecord,
    FrontierRecord,
    Report,
    ReportKind,
    ServiceRecord,
    service_name,
)
from frontlas_tx.registry.redis import claims as redis_claims
from frontlas_tx.registry.redis import scripts as redis_scripts
from tests.registry.worlds import WORLDS, make_world

ON, OFF, BEAT = ReportKind.EDGE_ONLINE, ReportKind.EDGE_OFFLINE, ReportKind.EDGE_HEARTBEAT
S_ON, S_OFF, S_BEAT = ReportKind.SERVICE_ONLINE, ReportKind.SERVICE_OFFLINE, ReportKind.SERVICE_HEARTBEAT


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Any:
    world = make_world(request.param, request)
    pytest_twisted.blockon(ensureDeferred(world.open()))
    yield world
    pytest_twisted.blockon(ensureDeferred(world.close()))


async def take(world: Any, name: str, port: int = 1, **more: Any) -> Claim:
    # Links of these tests show no sign of life when another one asks for their place, unless they say so.
    more.setdefault("probe", lambda: succeed(False))
    return await world.registry.claim(name, f"{name}.example:{port}", f"{name}.example:{port + 1}", **more)


async def tell(world: Any, claim: Claim, *reports: Report) -> None:
    outcome = await world.registry.report(claim, reports)
    assert outcome == [None] * len(reports)


async def where(world: Any, edge_id: int) -> str | None:
    record = await world.registry.frontier_of_edge(edge_id)
    return None if record is None else record.frontier_id


async def names(world: Any) -> list[str]:
    return [record.frontier_id for record in await world.registry.frontiers()]


def limit_frontiers(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let the directory have so few places."""
    monkeypatch.setattr(directory, "MAX_FRONTIERS", most)
    text = redis_scripts.CLAIM.text.decode().replace("local most = 4095", f"local most = {most}")
    monkeypatch.setattr(redis_claims, "CLAIM", Script(text))


async def walk(step: Any, count: int) -> list[Any]:
    found, cursor = [], 0
    for _ in range(1_000):
        page = await step(cursor, count)
        found += page.records
        cursor = page.cursor
        assert 0 <= cursor < 2**32
        if cursor == 0:
            return found
    raise AssertionError("the walk does not end")


def test_interface(world: Any) -> None:
    assert verifyObject(IRegistry, world.registry)
    assert verifyObject(ISubscription, world.registry.watch())


@pytest_twisted.ensureDeferred
async def test_an_edge_is_found_until_it_goes(world: Any) -> None:
    claim = await take(world, "a", boot_id="x")
    await tell(world, claim, Report(ON, 77, "10.0.0.7:5"))
    found = await world.registry.frontier_of_edge(77)
    assert (found.frontier_id, found.advertised_sb_addr, found.advertised_eb_addr) == (
        "a",
        "a.example:1",
        "a.example:2",
    )
    assert found.alive
    edge = await world.registry.edge(77)
    assert edge == EdgeRecord(77, "a", "10.0.0.7:5", edge.update_time)
    assert edge.update_time == pytest.approx(world.clock.seconds(), abs=2)
    await tell(world, claim, Report(OFF, 77))
    assert await world.registry.edge(77) is None
    assert await world.registry.frontier_of_edge(77) is None


@pytest_twisted.ensureDeferred
async def test_what_a_process_and_an_edge_say_of_themselves_is_shown(world: Any) -> None:
    began = int(world.clock.seconds()) - 100
    a = await take(world, "a", boot_id="x", version="1.2", started=began)
    await take(world, "b")
    [first, second] = await world.registry.frontiers()
    assert (first.version, first.started, second.version, second.started) == ("1.2", began, "", 0)
    assert first.last_seen == pytest.approx(world.clock.seconds(), abs=2)
    await world.advance(10)
    await world.registry.renew(a)
    [first, second] = await world.registry.frontiers()
    assert first.last_seen - second.last_seen == pytest.approx(10, abs=2)
    meta = '{"model":"é","site":7}'
    await tell(world, a, Report(ON, 77, "h:1", meta=meta), Report(ON, 78, "h:1"))
    await tell(world, a, Report(BEAT, 77))
    assert [edge.meta for edge in await world.registry.edges([77, 78])] == [meta, ""]


@pytest_twisted.ensureDeferred
async def test_a_walk_over_one_frontier_meets_its_peers_alone(world: Any) -> None:
    for n, name in enumerate("abc"):
        claim = await take(world, name)
        await tell(world, claim, *(Report(ON, 100 * n + i) for i in range(1, 51)), Report(S_ON, 7, "h:1", "svc"))
    await world.settle()
    for page in (world.registry.edges_page, world.registry.services_page):
        for name in "bx":
            cursor, met = 0, []
            while True:
                step = await page(cursor, 10, name)
                met += step.records
                cursor = step.cursor
                if not cursor:
                    break
            assert {record.frontier_id for record in met} == ({name} if name == "b" else set())
            if page == world.registry.edges_page and name == "b":
                assert {record.edge_id for record in met} == set(range(101, 151))


@pytest_twisted.ensureDeferred
async def test_positions_are_kept_for_unknown_ids(world: Any) -> None:
    claim = await take(world, "a")
    biggest = 2**64 - 1
    await tell(world, claim, Report(ON, 1), Report(ON, biggest, "h:1"), Report(S_ON, 9, "h:2", "svc"))
    assert [edge and edge.edge_id for edge in await world.registry.edges([5, biggest, 6, 1])] == [
        None,
        biggest,
        None,
        1,
    ]
    holders = await world.registry.frontiers_of_edges([1, 2, biggest])
    assert [holder and holder.frontier_id for holder in holders] == ["a", None, "a"]
    listed = await world.registry.frontiers_by_ids(["nobody", "a", ""])
    assert [record and record.frontier_id for record in listed] == [None, "a", None]
    assert [s and s.service for s in await world.registry.services([8, 9])] == [None, "svc"]
    assert sum(edge is not None for edge in await world.registry.edges([*range(3_000), biggest])) == 2
    assert await world.registry.edges([]) == []
    assert await world.registry.frontiers_by_ids([]) == []


@pytest_twisted.ensureDeferred
async def test_an_edge_that_moved_is_not_overwritten_by_late_news(world: Any) -> None:
    a, b = await take(world, "a"), await take(world, "b")
    await tell(world, a, Report(ON, 77, "h:1"))
    await tell(world, b, Report(ON, 77, "h:2"))
    assert await where(world, 77) == "b"
    await tell(world, a, Report(BEAT, 77))
    assert await where(world, 77) == "b"
    assert await world.registry.counts() == Counts(2, 1, 0)
    await tell(world, a, Report(OFF, 77))
    assert await where(world, 77) == "b"
    assert (await world.registry.edge(77)).addr == "h:2"
    assert await world.registry.counts() == Counts(2, 1, 0)
    await tell(world, b, Report(OFF, 77))
    assert await where(world, 77) is None
    assert await world.registry.counts() == Counts(2, 0, 0)


@pytest_twisted.ensureDeferred
async def test_an_edge_that_two_nodes_hold_falls_back_to_the_older_one(world: Any) -> None:
    a, b = await take(world, "a"), await take(world, "b")
    await tell(world, a, Report(ON, 77, "h:1"))
    await tell(world, b, Report(ON, 77, "h:2"))
    await tell(world, b, Report(OFF, 77))
    await world.registry.renew(a)
    await world.settle()
    assert await where(world, 77) == "a"
    assert await world.registry.counts() == Counts(2, 1, 0)


@pytest_twisted.ensureDeferred
async def test_the_offline_of_a_replaced_connection_is_ignored(world: Any) -> None:
    claim = await take(world, "a")
    await tell(world, claim, Report(ON, 77, "h:1"))
    await tell(world, claim, Report(ON, 77, "h:2"), Report(OFF, 77, "h:1"))
    assert (await world.registry.edge(77)).addr == "h:2"
    await tell(world, claim, Report(OFF, 77, "h:2"))
    assert await where(world, 77) is None


@pytest_twisted.ensureDeferred
async def test_quick_changes_of_one_edge_keep_their_order(world: Any) -> None:
    claim = await take(world, "a")
    kinds = [ON, OFF, ON, OFF, BEAT, OFF, ON]
    waiting = [world.registry.report(claim, [Report(kind, 5, "h:5")]) for kind in kinds]
    for outcome in waiting:
        assert await outcome == [None]
    assert await where(world, 5) == "a"
    assert await world.registry.counts() == Counts(1, 1, 0)


@pytest_twisted.ensureDeferred
async def test_a_heartbeat_brings_a_missing_record_back(world: Any) -> None:
    claim = await take(world, "a")
    await tell(world, claim, Report(BEAT, 5), Report(S_BEAT, 6))
    assert (await world.registry.edge(5)).addr == ""
    assert (await world.registry.service(6)).frontier_id == "a"
    assert await world.registry.counts() == Counts(1, 1, 1)


@pytest_twisted.ensureDeferred
async def test_a_repetition_does_not_take_an_edge_from_a_newer_holder(world: Any) -> None:
    a, b = await take(world, "a"), await take(world, "b")
    now = int(world.clock.seconds())
    await tell(world, b, Report(ON, 77, "h:2", online_at=now - 50), Report(ON, 78, "h:2", online_at=now - 100))
    await tell(world, a, Report(ON, 77, "h:1", online_at=now - 60), Report(ON, 78, "h:1", online_at=now - 60))
    assert await where(world, 77) == "b"
    assert await where(world, 78) == "a"
    assert (await world.registry.edge(78)).update_time == now - 60


@pytest_twisted.ensureDeferred
async def test_a_release_ends_all_peers_at_once_but_not_the_place_in_the_list(world: Any) -> None:
    claim = await take(world, "a")
    await tell(world, claim, Report(ON, 1), Report(S_ON, 2, "h:1", "svc"))
    await world.registry.release(claim)
    assert await world.registry.edge(1) is None
    assert await world.registry.service(2) is None
    assert await where(world, 1) is None
    assert await world.registry.counts() == Counts(0, 0, 0)
    assert [(r.frontier_id, r.alive) for r in await world.registry.frontiers()] == [("a", False)]
    await world.advance(31)
    assert await names(world) == []


@pytest_twisted.ensureDeferred
async def test_a_silent_frontier_ends_with_its_lease(world: Any) -> None:
    a, b = await take(world, "a"), await take(world, "b")
    await tell(world, a, Report(ON, 1))
    await tell(world, b, Report(ON, 2))
    await world.advance(20)
    await world.registry.renew(b)
    assert await where(world, 1) == "a"
    await world.advance(11)
    assert await where(world, 1) is None
    assert await where(world, 2) == "b"
    assert await world.registry.counts() == Counts(1, 1, 0)
    assert await names(world) == ["a", "b"]
    await world.advance(15)
    await world.registry.renew(b)
    await world.advance(16)
    assert await names(world) == ["b"]
    await world.registry.renew(a)
    assert await where(world, 1) == "a"
    assert await names(world) == ["a", "b"]


@pytest_twisted.ensureDeferred
async def test_a_second_frontier_with_the_same_id_is_refused(world: Any) -> None:
    claim = await take(world, "a")
    with pytest.raises(FrontierAlreadySetError, match=r"^frontier already set$"):
        await take(world, "a", port=100)
    await tell(world, claim, Report(ON, 1))
    assert await where(world, 1) == "a"
    await world.registry.release(claim)
    second = await take(world, "a", port=100)
    assert (await world.registry.frontiers())[0].advertised_sb_addr == "a.example:100"
    with pytest.raises(ClaimLostError):
        await world.registry.renew(claim)
    await world.registry.release(claim)
    await tell(world, second, Report(ON, 2))
    assert await where(world, 2) == "a"


@pytest_twisted.ensureDeferred
async def test_the_same_node_takes_its_place_back(world: Any) -> None:
    reasons: list[str] = []
    first = await take(world, "a", boot_id="x", on_lost=reasons.append)
    await tell(world, first, Report(ON, 1))
    second = await take(world, "a", boot_id="x")
    assert second.returning
    assert len(reasons) == 1
    assert first.lost == reasons[0]
    assert await where(world, 1) == "a"
    with pytest.raises(ClaimLostError):
        await world.registry.report(first, [Report(OFF, 1)])
    await world.registry.release(first)
    assert await where(world, 1) == "a"
    assert await names(world) == ["a"]


@pytest.mark.parametrize(("held_by", "asked_by"), [("x", "y"), ("x", ""), ("", ""), ("", "y")])
@pytest_twisted.ensureDeferred
async def test_nobody_takes_the_place_of_one_that_lives(world: Any, held_by: str, asked_by: str) -> None:
    asked: list[Deferred[bool]] = []
    reasons: list[str] = []

    def probe() -> Deferred[bool]:
        asked.append(Deferred())
        return asked[-1]

    first = await take(world, "a", boot_id=held_by, probe=probe, on_lost=reasons.append)
    await tell(world, first, Report(ON, 1))
    # All that ListFrontiers tells is repeated.
    waiting = take(world, "a", boot_id=asked_by, probe=lambda: succeed(True))
    taking = ensureDeferred(waiting)
    await world.settle()
    assert len(asked) == 1
    asked[0].callback(True)
    with pytest.raises(FrontierAlreadySetError):
        await taking
    await tell(world, first, Report(ON, 2))
    assert await where(world, 1) == "a"
    assert reasons == []
    taking = ensureDeferred(take(world, "a", boot_id=asked_by))
    await world.settle()
    asked[1].callback(False)
    second = await taking
    assert len(reasons) == 1
    with pytest.raises(ClaimLostError):
        await world.registry.report(first, [Report(OFF, 1)])
    await tell(world, second, Report(ON, 3))


@pytest_twisted.ensureDeferred
async def test_of_several_that_ask_for_a_dead_ones_place_one_gets_it(world: Any) -> None:
    dead: list[Deferred[bool]] = []

    def probe() -> Deferred[bool]:
        dead.append(Deferred())
        return dead[-1]

    await take(world, "a", probe=probe)
    asking = [ensureDeferred(take(world, "a", probe=lambda: succeed(True))) for _ in range(40)]
    await world.settle()
    assert len(dead) == 16
    for each in dead:
        each.callback(False)
    outcomes = []
    for each in asking:
        try:
            outcomes.append(await each)
        except FrontierAlreadySetError:
            outcomes.append(None)
    assert sum(outcome is not None for outcome in outcomes) == 1


@pytest_twisted.ensureDeferred
async def test_the_process_that_holds_a_place_needs_no_proof(world: Any) -> None:
    await take(world, "a", boot_id="x", probe=lambda: succeed(True))
    assert (await take(world, "a", port=100, boot_id="x")).returning


@pytest_twisted.ensureDeferred
async def test_in_a_full_registry_the_ended_and_the_empty_make_room(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_frontiers(monkeypatch, 12)
    reasons: list[str] = []
    honest = await take(world, "honest", origin="10.0.0.1")
    await tell(world, honest, Report(ON, 1))
    await world.registry.renew(honest)
    ended = await take(world, "ended", origin="10.0.0.1")
    await tell(world, ended, Report(ON, 2))
    await world.registry.release(ended)
    for n in range(10):
        await world.registry.release(await take(world, f"gone{n}", origin="10.0.0.9"))
    # Those that have ended, without peers first.
    for n in range(10):
        await take(world, f"flood{n}", origin="10.0.0.9", on_lost=reasons.append)
        assert ("ended" in await names(world)) is True
    await take(world, "flood10", origin="10.0.0.9", on_lost=reasons.append)
    assert set(await names(world)) == {"honest", *(f"flood{n}" for n in range(11))}
    # Then live ones without peers, of whoever has most.
    assert reasons == []
    await take(world, "late", origin="10.0.0.2")
    assert len(reasons) == 1
    assert {"honest", "late"} < set(await names(world))
    for n in range(11, 30):
        await take(world, f"flood{n}", origin="10.0.0.9")
    await world.agree() if hasattr(world, "agree") else await world.settle()
    assert {"honest", "late"} < set(await names(world))
    assert await where(world, 1) == "honest"
    assert world.registry.metrics()["frontiers_displaced_total"] == 31


@pytest_twisted.ensureDeferred
async def test_who_asks_for_one_frontier_does_not_pay_for_all(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        await take(world, f"f{n}")
    ended = await take(world, "ended")
    await world.registry.release(ended)
    made: list[str] = []
    record = directory.Entry.record

    def counted(entry: directory.Entry, alive: bool) -> FrontierRecord:
        made.append(entry.frontier_id)
        return record(entry, alive)

    await world.settle()
    with monkeypatch.context() as patched:
        patched.setattr(directory.Entry, "record", counted)
        found = await world.registry.frontiers_by_ids(["f7", "ended"])
    assert [(each.frontier_id, each.alive) for each in found] == [("f7", True), ("ended", False)]
    assert sorted(made) == ["ended", "f7"]
    assert await world.registry.frontiers_by_ids(["f7", "nobody"]) == [found[0], None]


@pytest_twisted.ensureDeferred
async def test_a_full_registry_refuses_where_nobody_is_dispensable(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_frontiers(monkeypatch, 3)
    for n in range(3):
        claim = await take(world, f"f{n}", origin="10.0.0.1")
        await tell(world, claim, Report(ON, n + 1))
        await world.registry.renew(claim)
    with pytest.raises(RegistryFullError, match="4095 frontiers"):
        await take(world, "more", origin="10.0.0.2")
    assert await names(world) == ["f0", "f1", "f2"]


@pytest_twisted.ensureDeferred
async def test_a_silent_holder_is_replaced_by_anyone(world: Any) -> None:
    reasons: list[str] = []
    await take(world, "a", on_lost=reasons.append)
    await world.advance(29)
    with pytest.raises(FrontierAlreadySetError):
        await take(world, "a", port=100)
    await world.advance(12)
    await take(world, "a", port=100)
    assert len(reasons) == 1


@pytest_twisted.ensureDeferred
async def test_blank_nodes_are_neither_the_same_nor_listed(world: Any) -> None:
    claim = await world.registry.claim("", "", "")
    with pytest.raises(FrontierAlreadySetError):
        await world.registry.claim("", "", "")
    await tell(world, claim, Report(ON, 1))
    assert await names(world) == []
    assert await where(world, 1) is None
    assert (await world.registry.edge(1)).frontier_id == ""


@pytest.mark.parametrize("how", ["another boot id", "hung up"])
@pytest_twisted.ensureDeferred
async def test_a_new_process_voids_the_peers_of_the_old_one(world: Any, how: str) -> None:
    tells = how == "another boot id"
    claim = await take(world, "a", boot_id="x" if tells else "")
    await tell(world, claim, Report(ON, 1), Report(ON, 2), Report(S_ON, 3, "h:1", "svc"))
    assert (await world.registry.frontiers())[0].listed_sb_addr == "a.example:1"
    await world.advance(5)
    if not tells:
        await world.registry.release(claim, by_peer=True)
    claim = await take(world, "a", boot_id="y" if tells else "")
    assert not claim.returning
    assert (await world.registry.frontiers())[0].listed_sb_addr == "a.example:01"
    assert (await world.registry.frontiers())[0].advertised_sb_addr == "a.example:1"
    assert await world.registry.edges([1, 2]) == [None, None]
    assert await world.registry.service(3) is None
    assert await world.registry.counts() == Counts(1, 0, 0)
    await tell(world, claim, Report(ON, 2, online_at=int(world.clock.seconds()) - 3))
    assert await where(world, 2) == "a"
    assert await world.registry.counts() == Counts(1, 1, 0)
    await world.settle()
    assert await world.registry.edges([1, 2]) == [None, await world.registry.edge(2)]


@pytest.mark.parametrize(("boot", "by_peer"), [("x", True), ("", False)])
@pytest_twisted.ensureDeferred
async def test_a_lost_link_voids_nothing(world: Any, boot: str, by_peer: bool) -> None:
    claim = await take(world, "a", boot_id=boot)
    await tell(world, claim, Report(ON, 1))
    await world.registry.release(claim, by_peer=by_peer)
    assert await where(world, 1) is None
    claim = await take(world, "a", boot_id=boot)
    assert claim.returning
    assert await where(world, 1) == "a"
    assert (await world.registry.frontiers())[0].listed_sb_addr == "a.example:1"
    # What was is forgotten with the next claim: only the last link counts.
    await world.registry.release(claim, by_peer=True)
    await take(world, "a", boot_id=boot)
    claim = await take(world, "a", boot_id=boot)
    assert claim.returning


@pytest_twisted.ensureDeferred
async def test_a_sync_removes_what_it_does_not_name(world: Any) -> None:
    claim = await take(world, "a", boot_id="x")
    await tell(world, claim, *[Report(ON, n, f"h:{n}") for n in range(1, 21)], Report(S_ON, 5, "h", "s"))
    claim = await take(world, "a", boot_id="x")
    assert await world.registry.counts() == Counts(1, 20, 1)
    world.registry.sync_begin(claim)
    await tell(world, claim, *[Report(ON, n, f"h:{n}", online_at=7) for n in range(1, 11)])
    await tell(world, claim, Report(BEAT, 11), Report(ON, 12), Report(OFF, 12), Report(ON, 30))
    assert await world.registry.sync_end(claim) == 9
    assert await world.registry.counts() == Counts(1, 12, 0)
    assert [n for n in range(1, 31) if await where(world, n)] == [*range(1, 12), 30]
    world.registry.sync_begin(claim)
    await tell(world, claim, Report(BEAT, 30))
    assert await world.registry.sync_end(claim) == 11
    assert await world.registry.counts() == Counts(1, 1, 0)


@pytest_twisted.ensureDeferred
async def test_without_a_sync_heartbeats_name_the_living(world: Any) -> None:
    claim = await take(world, "a")
    await tell(world, claim, *[Report(ON, n) for n in range(1, 6)])
    claim = await take(world, "a")
    for _ in range(4):
        await world.registry.renew(claim)
        await tell(world, claim, Report(BEAT, 1), Report(BEAT, 2))
        await world.advance(16)
    await world.registry.renew(claim)
    await world.settle()
    assert [n for n in range(1, 6) if await where(world, n)] == [1, 2]
    assert await world.registry.counts() == Counts(1, 2, 0)


@pytest_twisted.ensureDeferred
async def test_pages_meet_every_edge_once_or_more(world: Any) -> None:
    expected: dict[int, str] = {}
    for index, name in enumerate(["a", "b", "c", "d"]):
        claim = await take(world, name)
        if name != "c":
            ids = range(index * 1_000 + 1, index * 1_000 + 301)
            await tell(world, claim, *[Report(ON, n, f"h:{n}") for n in ids], Report(S_ON, 7, "h:1", name))
            expected |= dict.fromkeys(ids, name)
        if name == "d":
            await world.registry.release(claim)
            for n in ids:
                del expected[n]
    edges = await walk(world.registry.edges_page, 50)
    assert {edge.edge_id: edge.frontier_id for edge in edges} == expected
    assert len(await walk(world.registry.edges_page, 0)) >= len(expected)
    services = await walk(world.registry.services_page, 10)
    assert sorted(service.frontier_id for service in services) == ["a", "b"]
    assert [record.frontier_id for record in await walk(world.registry.frontiers_page, 1)] == [
        "a",
        "b",
        "c",
        "d",
    ]
    assert (await world.registry.edges_page(4_000_000_000, 10)).cursor == 0
    assert (await world.registry.frontiers_page(4_000_000_000, 10)).records == []


@pytest_twisted.ensureDeferred
async def test_a_page_is_filled_across_frontiers(world: Any) -> None:
    claims = {}
    for index in range(40):
        claim = claims[index] = await take(world, f"f{index:02}")
        if index % 5 == 0:
            ids = range(index * 10 + 1, index * 10 + 5)
            await tell(world, claim, *[Report(ON, n) for n in ids], Report(S_ON, index + 1, "h:1", "svc"))
    page = await world.registry.edges_page(0, 100)
    assert (len(page.records), page.cursor) == (32, 0)
    assert (len((await world.registry.services_page(0, 100)).records)) == 8
    first = await world.registry.edges_page(0, 10)
    assert 10 <= len(first.records) < 20
    # What stays is met, whoever comes and goes in between.
    await world.registry.release(claims[0])
    late = await take(world, "late")
    await tell(world, late, Report(ON, 1_000))
    rest, cursor = [], first.cursor
    while cursor:
        page = await world.registry.edges_page(cursor, 10)
        rest += page.records
        cursor = page.cursor
    met = [edge.edge_id for edge in first.records + rest]
    assert set(met) >= {n for index in range(5, 40, 5) for n in range(index * 10 + 1, index * 10 + 5)}
    assert len(rest) <= 32


@pytest_twisted.ensureDeferred
async def test_a_cluster_service_has_one_record_per_frontier(world: Any) -> None:
    a, b = await take(world, "a"), await take(world, "b")
    await tell(world, a, Report(S_ON, 7, "h:1", "svc"))
    await world.advance(2)
    await tell(world, b, Report(S_ON, 7, "h:2", "svc"))
    newest = await world.registry.service(7)
    assert newest == ServiceRecord(7, "svc", "b", "h:2", newest.update_time)
    assert await world.registry.counts() == Counts(2, 0, 2)
    assert await world.registry.counts_of("a") == Counts(1, 0, 1)
    assert await world.registry.counts_of("nobody") == Counts(0, 0, 0)
    await tell(world, b, Report(S_OFF, 7))
    assert (await world.registry.service(7)).frontier_id == "a"
    await world.registry.release(a)
    assert await world.registry.service(7) is None
    assert await world.registry.counts() == Counts(1, 0, 0)


@pytest_twisted.ensureDeferred
async def test_identity_zero_is_refused_and_nothing_else_with_it(world: Any) -> None:
    claim = await take(world, "a")
    outcome = await world.registry.report(claim, [Report(ON, 1), Report(ON, 0), Report(S_ON, 2**64), Report(ON, 2)])
    assert [type(problem) for problem in outcome] == [
        type(None),
        InvalidReportError,
        InvalidReportError,
        type(None),
    ]
    assert str(outcome[1]) == "edge id 0 is not valid: ids are 1 to 2^64-1"
    assert await world.registry.counts() == Counts(1, 2, 0)


@pytest_twisted.ensureDeferred
async def test_changes_are_told_in_order(world: Any) -> None:
    edges = world.registry.watch([ChangeKind.EDGE_ONLINE, ChangeKind.EDGE_OFFLINE])
    everything = world.registry.watch()
    await world.settle()
    claim = await take(world, "a")
    await tell(world, claim, Report(ON, 1, "h:1"))
    await tell(world, claim, Report(BEAT, 1), Report(S_ON, 2, "h:2", "svc"))
    await tell(world, claim, Report(OFF, 1))
    await world.registry.release(claim)
    await world.settle()
    seen: list[Change] = []
    while len(seen) < 5:
        seen += await everything.next()
    assert sorted((c.kind.value, c.frontier_id, c.peer_id, c.addr) for c in seen) == [
        ("edge_offline", "a", 1, "h:1"),
        ("edge_online", "a", 1, "h:1"),
        ("frontier_down", "a", 0, "a.example:1"),
        ("frontier_up", "a", 0, "a.example:1"),
        ("service_online", "a", 2, "h:2"),
    ]
    only: list[Change] = []
    while len(only) < 2:
        only += await edges.next()
    assert [(c.kind, c.peer_id) for c in only] == [(ChangeKind.EDGE_ONLINE, 1), (ChangeKind.EDGE_OFFLINE, 1)]
    edges.stop()
    everything.stop()


@pytest_twisted.ensureDeferred
async def test_health_and_metrics(world: Any) -> None:
    claim = await take(world, "a")
    await tell(world, claim, Report(ON, 1))
    assert world.registry.ready
    assert world.registry.why_not_ready == ""
    await world.registry.check_health()
    assert world.registry.metrics()["reports_total"] == 1.0


def test_service_name() -> None:
    assert service_name('{"service":"svcA","topics":["t1"],"more":{}}') == "svcA"
    assert [service_name(text) for text in ("", "{}", "[]", "7", '{"service":7}', "\udcff")] == [""] * 6
