"""Several Frontlas over one Redis agree, and each may be killed at any time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import deferLater

from frontier_tx.redis.interfaces import command
from frontlas_tx.registry.errors import ClaimLostError, FrontierAlreadySetError, RegistryUnavailableError
from frontlas_tx.registry.records import ChangeKind, Claim, Counts, Report, ReportKind
from frontlas_tx.registry.redis import signs
from tests.registry.worlds import RedisWorld, make_world

ON, OFF, BEAT = ReportKind.EDGE_ONLINE, ReportKind.EDGE_OFFLINE, ReportKind.EDGE_HEARTBEAT
S_ON = ReportKind.SERVICE_ONLINE


@pytest.fixture(params=["standalone", "sentinel", "cluster"])
def world(request: pytest.FixtureRequest) -> Iterator[RedisWorld]:
    world: RedisWorld = make_world(request.param, request)
    pytest_twisted.blockon(ensureDeferred(world.open()))
    pytest_twisted.blockon(ensureDeferred(world.add()))
    yield world
    pytest_twisted.blockon(ensureDeferred(world.close()))


async def take(registry: Any, name: str, port: int = 1, **more: Any) -> Claim:
    # Links of these tests show no sign of life when another one asks for their place, unless they say so.
    more.setdefault("probe", lambda: succeed(False))
    return await registry.claim(name, f"{name}.example:{port}", f"{name}.example:{port + 1}", **more)


async def raw(world: RedisWorld, *args: str | int) -> Any:
    """One command to Redis itself."""
    [reply] = await world.clients[0].batch([command(*args)])
    return reply


async def crash(world: RedisWorld) -> None:
    """The first Frontlas ends as under kill -9: nothing is said to Redis any more."""
    registry, client = world.registries.pop(0), world.clients.pop(0)
    await client.stop()
    await registry.stop()


@pytest_twisted.ensureDeferred
async def test_all_say_the_same(world: RedisWorld) -> None:
    one, two = world.registries
    a = await take(one, "a", boot_id="x")
    b = await take(two, "b")
    await one.report(a, [Report(ON, n, f"h:{n}") for n in range(1, 101)] + [Report(S_ON, 7, "h", "svc")])
    await two.report(b, [Report(ON, n, f"h:{n}") for n in range(91, 121)])
    await world.agree()
    for registry in (one, two):
        for _ in range(50):
            # What another Frontlas claimed is seen with its next look at the index.
            if await registry.counts() == Counts(2, 120, 1):
                break
            await deferLater(reactor, 0.1)
        assert await registry.counts() == Counts(2, 120, 1)
        assert [record.frontier_id for record in await registry.frontiers()] == ["a", "b"]
        assert [f.frontier_id for f in await registry.frontiers_of_edges([90, 91, 120])] == ["a", "b", "b"]
        assert (await registry.service(7)).service == "svc"
    assert await one.report(a, [Report(OFF, n) for n in range(91, 101)]) == [None] * 10
    assert await two.counts() == Counts(2, 120, 1)


@pytest_twisted.ensureDeferred
async def test_another_frontlas_refuses_a_second_node_and_takes_the_same_one_back(world: RedisWorld) -> None:
    one, two = world.registries
    reasons: list[str] = []
    first = await take(one, "a", on_lost=reasons.append)
    with pytest.raises(FrontierAlreadySetError):
        await take(two, "a", port=100)
    await one.report(first, [Report(ON, 1)])
    second = await take(two, "a")
    assert (await two.frontier_of_edge(1)).frontier_id == "a"
    await one.upkeep()
    assert len(reasons) == 1
    with pytest.raises(ClaimLostError):
        await one.renew(first)
    await one.release(first)
    await two.report(second, [Report(BEAT, 1)])
    for registry in (one, two):
        assert (await registry.frontier_of_edge(1)).frontier_id == "a"
    assert await raw(world, "GET", "frontlas:alive:frontiers:a") == second.token.encode()


@pytest_twisted.ensureDeferred
async def test_another_frontlas_asks_the_one_that_has_the_link(world: RedisWorld) -> None:
    one, two = world.registries
    alive, asked = True, 0

    def probe() -> Deferred[bool]:
        nonlocal asked
        asked += 1
        return succeed(alive)

    reasons: list[str] = []
    first = await take(one, "a", on_lost=reasons.append, probe=probe)
    await one.report(first, [Report(ON, 1)])
    for _ in range(2):
        with pytest.raises(FrontierAlreadySetError):
            await take(two, "a")
    assert (asked, reasons) == (2, [])
    assert (await two.frontier_of_edge(1)).frontier_id == "a"
    alive = False
    second = await take(two, "a")
    assert len(reasons) == 1
    assert await two.report(second, [Report(ON, 2)]) == [None]


@pytest_twisted.ensureDeferred
async def test_a_frontlas_that_does_not_answer_and_has_gone_holds_nobody(
    world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "ANSWER_WITHIN", 0.3)
    one, two = world.registries
    await take(one, "a")
    # It lives, by its sign of life, and only does not hear.
    monkeypatch.setattr(one._claims, "question", lambda *_: None)
    with pytest.raises(FrontierAlreadySetError):
        await take(two, "a")
    await crash(world)
    world.clock.shift += 5
    await two.upkeep()
    await take(two, "a")


@pytest_twisted.ensureDeferred
async def test_a_killed_frontlas_costs_no_edge_and_hides_no_frontier(world: RedisWorld) -> None:
    one, two = world.registries
    a = await take(one, "a", boot_id="x")
    await one.report(a, [Report(ON, n, f"h:{n}") for n in range(1, 301)])
    await two.upkeep()
    await crash(world)
    await world.advance(25)
    assert await two.counts() == Counts(1, 300, 0)
    again = await take(two, "a", boot_id="x")
    assert again.returning
    two.sync_begin(again)
    # 300 went and 301 came while there was no Frontlas to tell.
    await two.report(again, [Report(ON, n, f"h:{n}", online_at=1) for n in range(1, 300)])
    await two.report(again, [Report(ON, 301, "h:301")])
    assert await two.sync_end(again) == 1
    assert await two.counts() == Counts(1, 300, 0)
    assert await two.frontier_of_edge(300) is None
    assert [record.frontier_id for record in await two.frontiers()] == ["a"]


@pytest_twisted.ensureDeferred
async def test_the_identity_of_a_dead_frontlas_is_free_for_anyone(world: RedisWorld) -> None:
    one, two = world.registries
    await take(one, "a")
    await crash(world)
    with pytest.raises(FrontierAlreadySetError):
        await take(two, "a", port=100)
    await world.advance(29)
    with pytest.raises(FrontierAlreadySetError):
        await take(two, "a", port=100)
    await world.advance(2)
    await take(two, "a", port=100)
    assert (await two.frontiers())[0].advertised_sb_addr == "a.example:100"


@pytest_twisted.ensureDeferred
async def test_a_time_without_any_frontlas_hides_no_frontier(world: RedisWorld) -> None:
    one, _two = world.registries
    a, b = await take(one, "a", boot_id="x"), await take(one, "b")
    await one.report(a, [Report(ON, 1, "h:1")])
    await one.release(b)
    await one.upkeep()
    await crash(world)
    await crash(world)
    # Far longer than a lease and the time for which lists show what has ended.
    world.clock.shift += 600
    for registry in (await world.add(), await world.add()):
        assert [record.frontier_id for record in await registry.frontiers()] == ["a"]
        assert (await registry.frontier_of_edge(1)).frontier_id == "a"
        assert await registry.counts() == Counts(1, 1, 0)
    await world.advance(24)
    assert (await world.registry.frontier_of_edge(1)).frontier_id == "a"
    # It had the time to come back, and did not.
    await world.advance(2)
    assert await world.registry.frontier_of_edge(1) is None
    assert await world.registry.counts() == Counts(0, 0, 0)


@pytest_twisted.ensureDeferred
async def test_a_node_without_boot_id_that_died_is_known_everywhere(world: RedisWorld) -> None:
    one, two = world.registries
    first = await take(one, "a")
    await one.report(first, [Report(ON, 1)])
    await world.advance(5)
    await one.release(first, by_peer=True)
    second = await take(two, "a")
    assert not second.returning
    assert await two.frontier_of_edge(1) is None
    assert (await two.frontiers())[0].listed_sb_addr == "a.example:01"
    # The death is over and done with: the next change of Frontlas is a mere loss of the link.
    await two.report(second, [Report(ON, 2)])
    third = await take(one, "a")
    assert third.returning
    assert (await one.frontier_of_edge(2)).frontier_id == "a"


@pytest_twisted.ensureDeferred
async def test_changes_reach_watchers_on_all_frontlas(world: RedisWorld) -> None:
    one, two = world.registries
    far = two.watch()
    await world.settle()
    a = await take(one, "a")
    await one.report(a, [Report(ON, 1, "h:1"), Report(S_ON, 2, "h:2", "svc")])
    await one.report(a, [Report(OFF, 1)])
    await one.release(a)
    kinds: list[tuple[ChangeKind, int]] = []
    while len(kinds) < 5:
        kinds += [(change.kind, change.peer_id) for change in await far.next()]
    assert sorted(kinds, key=lambda pair: pair[0].value) == [
        (ChangeKind.EDGE_OFFLINE, 1),
        (ChangeKind.EDGE_ONLINE, 1),
        (ChangeKind.FRONTIER_DOWN, 0),
        (ChangeKind.FRONTIER_UP, 0),
        (ChangeKind.SERVICE_ONLINE, 2),
    ]
    far.stop()


@pytest_twisted.ensureDeferred
async def test_the_numbers_in_the_shared_hash_follow_within_seconds(world: RedisWorld) -> None:
    one, two = world.registries
    a, b = await take(one, "a"), await take(two, "b")

    async def numbers(name: str) -> list[bytes]:
        for registry in world.registries:
            await registry.upkeep()
        found: list[bytes] = await raw(world, "HMGET", f"frontlas:frontiers:{name}", "edge_count", "service_count")
        return found

    await one.report(a, [*[Report(ON, n, f"h:{n}") for n in range(1, 101)], Report(S_ON, 7, "h:1", "svc")])
    assert await numbers("a") == [b"100", b"1"]
    await two.report(b, [Report(ON, 1, "g:1", online_at=int(world.clock.seconds()) + 1)])
    await world.settle()
    assert (await numbers("a"), await numbers("b")) == ([b"99", b"1"], [b"1", b"0"])
    await one.report(a, [Report(OFF, n) for n in range(1, 51)])
    assert await numbers("a") == [b"50", b"1"]
    before = one.metrics()["redis_commands_total"]
    await one.upkeep()
    assert one.metrics()["redis_commands_total"] - before <= 1
    await one.release(a)
    assert await numbers("a") == [b"0", b"0"]


@pytest_twisted.ensureDeferred
async def test_what_the_reference_reads_is_as_it_expects(world: RedisWorld) -> None:
    one, _two = world.registries
    a = await take(one, "a")
    await one.report(a, [Report(ON, 2**64 - 1, "10.0.0.1:5"), Report(S_ON, 7, "10.0.0.2:6", "svc")])
    now = int(world.clock.seconds())
    edge = await raw(world, "GET", "frontlas:edges:18446744073709551615")
    prefix = b'{"frontier_id":"a","addr":"10.0.0.1:5","update_time":'
    assert edge.startswith(prefix)
    assert abs(int(edge[len(prefix) : -1]) - now) <= 1
    assert 86_000 < await raw(world, "TTL", "frontlas:edges:18446744073709551615") <= 86_400
    assert await raw(world, "HKEYS", "frontlas:services:7") == [b"a"]
    assert 86_000 < await raw(world, "TTL", "frontlas:services:7") <= 86_400
    assert 25 < await raw(world, "TTL", "frontlas:alive:frontiers:a") <= 30
    await one.renew(a)
    await world.settle()
    fields = await raw(world, "HGETALL", "frontlas:frontiers:a")
    assert dict(zip(fields[::2], fields[1::2], strict=True)) == {
        b"advertised_sb_addr": b"a.example:1",
        b"advertised_eb_addr": b"a.example:2",
        b"edge_count": b"1",
        b"service_count": b"1",
    }
    await one.release(a)
    assert await raw(world, "GET", "frontlas:alive:frontiers:a") is None


@pytest_twisted.ensureDeferred
async def test_a_frontier_of_a_reference_frontlas_is_respected_and_found(world: RedisWorld) -> None:
    one, _two = world.registries
    await raw(world, "SET", "frontlas:alive:frontiers:go", "1", "EX", 30)
    await raw(world, "HSET", "frontlas:frontiers:go", "advertised_sb_addr", "go.example:1", "advertised_eb_addr", "e:2")
    await raw(world, "SET", "frontlas:edges:9", '{"frontier_id":"go","addr":"h:1","update_time":5}', "EX", 30)
    text = 'service: {"service":"svcA","topics":null}, frontier_id: a, addr: h:3, update_time: 1795468876'
    await raw(world, "HSET", "frontlas:services:9", "a", text)
    found = await one.frontier_of_edge(9)
    assert (found.frontier_id, found.advertised_sb_addr) == ("go", "go.example:1")
    assert (await one.frontiers_by_ids(["go"]))[0].advertised_eb_addr == "e:2"
    with pytest.raises(FrontierAlreadySetError):
        await take(one, "go", port=100)
    a = await take(one, "a")
    assert (await one.service(9)).service == "svcA"
    await one.report(a, [Report(BEAT, 9)])
    assert (await one.frontier_of_edge(9)).frontier_id == "go"
    await raw(world, "DEL", "frontlas:alive:frontiers:go")
    await world.advance(2)
    assert await one.frontier_of_edge(9) is None
    await one.renew(a)
    await world.settle()
    assert (await one.frontier_of_edge(9)).frontier_id == "a"
    await take(one, "go", port=100)


@pytest.mark.parametrize("world", ["standalone", "sentinel"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_frontiers_of_the_reference_are_listed_where_that_is_asked_for(world: RedisWorld) -> None:
    third = await world.add(shared_with_go=True)
    await raw(world, "SET", "frontlas:alive:frontiers:go", "1", "EX", 30)
    await raw(world, "HSET", "frontlas:frontiers:go", "advertised_sb_addr", "go.example:1", "advertised_eb_addr", "e:2")
    await raw(world, "HSET", "frontlas:frontiers:go", "edge_count", "7", "service_count", "-1")
    await raw(world, "HSET", "frontlas:frontiers:dead", "advertised_sb_addr", "d.example:1", "advertised_eb_addr", "e")
    await take(third, "a")
    await third.upkeep()
    assert [record.frontier_id for record in await third.frontiers()] == ["a", "go"]
    assert await third.counts() == Counts(2, 7, 0)
    assert await third.counts_of("go") == Counts(1, 7, 0)
    assert [record.frontier_id for record in (await third.frontiers_page(0, 1)).records] == ["a"]
    await raw(world, "DEL", "frontlas:alive:frontiers:go")
    await world.advance(2)
    await third.upkeep()
    assert [record.frontier_id for record in await third.frontiers()] == ["a"]


@pytest_twisted.ensureDeferred
async def test_lost_records_and_members_are_written_again(world: RedisWorld) -> None:
    one, two = world.registries
    a = await take(one, "a")
    one.sync_begin(a)
    await one.report(a, [Report(ON, n, f"h:{n}") for n in range(1, 6)])
    await one.sync_end(a)
    await raw(world, "DEL", "frontlas:edges:3")
    await raw(world, "SREM", "frontlas:x:edges:1:a", 4)
    await raw(world, "SADD", "frontlas:x:edges:1:a", 77)
    await raw(world, "SET", "frontlas:edges:77", '{"frontier_id":"a","addr":"h:1","update_time":5}')
    await one.renew(a)
    await world.agree()
    assert await two.counts() == Counts(1, 5, 0)
    assert [edge and edge.edge_id for edge in await two.edges([3, 4, 77])] == [3, 4, None]


@pytest_twisted.ensureDeferred
async def test_frontiers_gone_for_a_day_leave_nothing_behind(world: RedisWorld) -> None:
    one, _two = world.registries
    a = await take(one, "a")
    await one.report(a, [Report(ON, 1)])
    await one.release(a)
    await world.advance(86_401)
    await world.settle()
    for key in ("frontlas:frontiers:a", "frontlas:x:edges:1:a", "frontlas:x:services:1:a"):
        assert await raw(world, "EXISTS", key) == 0
    assert b"f:a" not in await raw(world, "HKEYS", "frontlas:x:frontiers")


@pytest_twisted.ensureDeferred
async def test_an_edge_lookup_is_one_round_trip(world: RedisWorld) -> None:
    one, _two = world.registries
    a = await take(one, "a")
    await one.report(a, [Report(ON, 1)])
    await world.settle()
    await one.upkeep()
    before = world.clients[0].metrics()
    for _ in range(20):
        assert (await one.frontier_of_edge(1)).frontier_id == "a"
    after = world.clients[0].metrics()
    assert after["redis_batches_total"] - before["redis_batches_total"] == 20
    assert after["redis_commands_total"] - before["redis_commands_total"] == 20


@pytest_twisted.ensureDeferred
async def test_removals_that_a_failover_lost_are_made_again(world: RedisWorld) -> None:
    one, two = world.registries
    a = await take(one, "a")
    one.sync_begin(a)
    await one.report(a, [Report(ON, n, f"h:{n}") for n in (1, 2, 3)] + [Report(S_ON, 7, "h", "svc")])
    await one.sync_end(a)
    lost = {n: await raw(world, "GET", f"frontlas:edges:{n}") for n in (1, 2)}
    service = await raw(world, "HGET", "frontlas:services:7", "a")
    await one.report(a, [Report(OFF, 1), Report(OFF, 2), Report(ReportKind.SERVICE_OFFLINE, 7)])
    # The server that took over knows of none of that, and another one holds the sets.
    for n, text in lost.items():
        await raw(world, "SET", f"frontlas:edges:{n}", text)
    await raw(world, "HSET", "frontlas:services:7", "a", service)
    assert (await two.frontier_of_edge(1)).frontier_id == "a"
    # Edge 2 is there again in the meantime.
    await one.report(a, [Report(ON, 2, "h:9")])
    for disturbed in world.clients[0]._disturbed:
        disturbed()
    await world.settle()
    for registry in (one, two):
        assert [edge and edge.addr for edge in await registry.edges([1, 2, 3])] == [None, "h:9", "h:3"]
        assert await registry.service(7) is None
        assert await registry.counts() == Counts(1, 2, 0)


@pytest_twisted.ensureDeferred
async def test_a_record_that_its_own_frontier_denies_is_not_shown_and_goes(world: RedisWorld) -> None:
    one, two = world.registries
    a = await take(one, "a")
    one.sync_begin(a)
    await one.report(a, [Report(ON, 1, "h:1")])
    await one.sync_end(a)
    await raw(world, "SET", "frontlas:edges:77", '{"frontier_id":"a","addr":"h:1","update_time":1999999999}')
    assert await one.frontier_of_edge(77) is None
    await world.settle()
    assert await raw(world, "GET", "frontlas:edges:77") is None
    assert await two.frontier_of_edge(77) is None


@pytest_twisted.ensureDeferred
async def test_remembered_removals_are_bounded(world: RedisWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontlas_tx.registry.redis.peer_records.REMOVED", 10)
    one, _two = world.registries
    a = await take(one, "a")
    for start in range(1, 50, 5):
        await one.report(a, [Report(ON, n) for n in range(start, start + 5)])
        await one.report(a, [Report(OFF, n) for n in range(start, start + 5)])
    removed = one._holders["a"].records.removed
    assert list(removed) == [(True, n) for n in range(41, 51)]
    await world.advance(700)
    await one.report(a, [Report(OFF, 99)])
    await one.report(a, [Report(OFF, n) for n in range(100, 110)])
    assert set(removed) == {(True, n) for n in range(100, 110)}


@pytest_twisted.ensureDeferred
async def test_a_directory_with_foreign_entries_is_named_and_heals(world: RedisWorld) -> None:
    one, _two = world.registries
    await take(one, "a")
    for junk in ('{"x":1}', "no json at all"):
        await raw(world, "HSET", "frontlas:x:frontiers", "f:junk", junk)
        await one.upkeep()
        assert not one.ready
        assert "the directory frontlas:x:frontiers cannot be read" in one.why_not_ready
        await raw(world, "HDEL", "frontlas:x:frontiers", "f:junk")
        await one.upkeep()
        assert one.ready
        assert [record.frontier_id for record in await one.frontiers()] == ["a"]


@pytest_twisted.ensureDeferred
async def test_no_frontlas_calls_an_edge_offline_whose_record_redis_lost(world: RedisWorld) -> None:
    first, second = world.registries
    claims = [await first.claim(name, f"{name}:1", f"{name}:2") for name in "ab"]
    for number, claim in enumerate(claims):
        first.sync_begin(claim)
        edges = [Report(ReportKind.EDGE_ONLINE, 1_000 * number + n, "h:1") for n in range(1, 500)]
        assert await first.report(claim, edges) == [None] * 499
        await first.sync_end(claim)
    await world.agree()
    assert await second.edge(77_777) is None
    for _ in range(3):
        world._flush()
        end = reactor.seconds() + 2.5
        refused: list[str] = []
        found = 0
        while reactor.seconds() < end:
            for edge_id, name in ((1, "a"), (1_499, "b")):
                try:
                    edge = await second.edge(edge_id)
                except RegistryUnavailableError as error:
                    refused.append(str(error))
                else:
                    found += 1
                    assert edge is not None and edge.frontier_id == name
        assert refused and all(text.startswith("redis lost its data; ") for text in refused)
        assert found
        # When everybody has told everything, what has no record is offline again.
        assert await second.edge(77_777) is None


@pytest_twisted.ensureDeferred
async def test_who_was_alive_is_remembered_through_losses_in_quick_succession(world: RedisWorld) -> None:
    first, second = world.registries
    claims = [await first.claim(name, f"{name}:1", f"{name}:2") for name in "ab"]
    await world.agree()
    for _ in range(3):
        world._flush()
        await second.upkeep()
    assert [(each.frontier_id, each.alive) for each in await second.frontiers()] == [("a", True), ("b", True)]
    assert claims


@pytest_twisted.ensureDeferred
async def test_after_a_loss_a_frontier_that_was_written_again_lives_by_its_lease(world: RedisWorld) -> None:
    first, second = world.registries
    a = await take(first, "a")
    first.sync_begin(a)
    await first.report(a, [Report(ON, 1, "h:1")])
    await first.sync_end(a)
    await world.agree()
    world._flush()
    await world.agree()
    while first._index.incomplete or second._index.incomplete:
        await world.agree()
    assert (await second.frontier_of_edge(1)).frontier_id == "a"
    # Its link was lost a moment later, and it did not come back.
    await world.advance(28)
    for registry in (first, second):
        assert (await registry.frontier_of_edge(1)).frontier_id == "a"
    await world.advance(4)
    for registry in (first, second):
        assert await registry.frontier_of_edge(1) is None
        assert await registry.counts() == Counts(0, 0, 0)


FOREIGN = ["5", "null", "[]", '"text"', "{}", "no json", '{"frontier_id":7,"addr":[],"update_time":"x"}']


@pytest.mark.parametrize("text", [*FOREIGN, '{"frontier_id":"a","addr":"h:1","update_time":"1"}'])
@pytest_twisted.ensureDeferred
async def test_a_record_that_nobody_of_us_wrote_is_no_edge_and_stands_in_nobodys_way(
    world: RedisWorld, text: str
) -> None:
    first, second = world.registries
    a = await take(first, "a")
    for kind in (BEAT, ON):
        await raw(world, "SET", "frontlas:edges:1", text)
        await raw(world, "HSET", "frontlas:services:7", "a", text)
        assert await second.frontier_of_edge(1) is None
        assert await first.report(a, [Report(kind, 1, "h:2"), Report(S_ON, 7, "h:3", "svc")]) == [None, None]
        await world.settle()
        assert (await second.frontier_of_edge(1)).frontier_id == "a"
        assert (await second.service(7)).service == "svc"
        await raw(world, "SET", "frontlas:edges:1", text)
        assert await first.report(a, [Report(OFF, 1, "h:2"), Report(ReportKind.SERVICE_OFFLINE, 7)]) == [None, None]
        await world.settle()
        assert await second.frontier_of_edge(1) is None
