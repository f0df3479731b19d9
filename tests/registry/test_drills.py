"""Failure drills on real servers under load: afterwards no live edge is missing and no dead one is listed.

The truth is what the Frontiers of a :class:`Site` hold; they report it, heartbeat, and let edges come and go
all the time, also while Redis is away, whether or not a report is answered with an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater

from frontier_tx.redis.cluster import slot_of
from frontier_tx.redis.connect import make_redis
from frontlas_tx.registry.errors import RegistryError, RegistryUnavailableError
from frontlas_tx.registry.records import Claim, Counts, Report, ReportKind
from frontlas_tx.registry.redis.keys import INDEX
from frontlas_tx.registry.redis.registry import RedisRegistry
from frontlas_tx.registry.redis.scripts import ALL
from tests.redis.servers import Clustered, RedisServer, Watched, free_ports
from tests.registry.worlds import settings_for

reactor: Any = _reactor
pytestmark = pytest.mark.slow

LAG_EVERY = 0.1
EDGES = 600
FRONTIERS = ("a", "b", "c")
BEAT_EVERY = 2.0


class Site:
    """Two Frontlas, three Frontiers with edges, and everybody busy."""

    def __init__(self, mode: str, made: Any) -> None:
        self.mode = mode
        self.made = made
        self.registries: list[RedisRegistry] = []
        self.claims: dict[str, Claim] = {}
        self.truth: dict[int, str] = {}
        self.random = Random(7)
        self.failed_reports = 0
        self.made_reports = 0
        self.failed_lookups = 0
        self.wrong_lookups = 0
        self.wrong_by_its_own = 0
        self.slowest = 0.0
        self.lag = 0.0
        self.lost_claims: list[str] = []
        self._next_edge = 10_000
        self._lag_call: Any = None
        self._loops: list[LoopingCall] = []
        self._pending = 0

    def of(self, name: str) -> RedisRegistry:
        """The Frontlas that this Frontier is connected to."""
        return self.registries[FRONTIERS.index(name) % len(self.registries)]

    async def open(self) -> None:
        for _ in range(2):
            registry = RedisRegistry(reactor, make_redis(reactor, settings_for(self.mode, self.made), ALL))
            await registry.start()
            self.registries.append(registry)
        for name in FRONTIERS:
            registry = self.of(name)
            claim = await registry.claim(name, f"{name}:1", f"{name}:2", boot_id=name, on_lost=self.lost_claims.append)
            self.claims[name] = claim
            registry.sync_begin(claim)
            start = FRONTIERS.index(name) * 1_000 + 1
            ids = range(start, start + EDGES)
            self.truth.update(dict.fromkeys(ids, name))
            outcome = await registry.report(claim, [Report(ReportKind.EDGE_ONLINE, n, f"h:{n}") for n in ids])
            assert outcome == [None] * EDGES
            await registry.sync_end(claim)
        self._watch_lag(reactor.seconds())
        for call, every in ((self._beat, BEAT_EVERY), (self._churn, 0.05), (self._look, 0.1)):
            loop = LoopingCall(call)
            loop.start(every, now=False)
            self._loops.append(loop)

    def _watch_lag(self, last: float) -> None:
        now = reactor.seconds()
        self.lag = max(self.lag, now - last - LAG_EVERY)
        self._lag_call = reactor.callLater(LAG_EVERY, self._watch_lag, now)

    def at_most(self, seconds: float) -> float:
        """A bound, longer by what this process itself was late because the machine has other work: a time that is
        asserted goes through the reactor some ten times."""
        return seconds + 10 * self.lag

    async def close(self) -> None:
        self._lag_call.cancel()
        await self.quiet()
        for registry in self.registries:
            await registry.stop()

    async def quiet(self) -> None:
        """Stop the load and wait for what is under way."""
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops.clear()
        await until(lambda: not self._pending, "everything under way has ended")

    def _run(self, work: Awaitable[None]) -> None:
        self._pending += 1

        async def run() -> None:
            try:
                await work
            finally:
                self._pending -= 1

        ensureDeferred(run())

    def _beat(self) -> None:
        for name in FRONTIERS:
            self._run(self._renew(name))

    async def _renew(self, name: str) -> None:
        try:
            await self.of(name).renew(self.claims[name])
        except RegistryUnavailableError:
            return

    def _churn(self) -> None:
        name = self.random.choice(FRONTIERS)
        gone = self.random.choice([edge for edge, holder in self.truth.items() if holder == name])
        self._next_edge += 1
        del self.truth[gone]
        self.truth[self._next_edge] = name
        reports = [Report(ReportKind.EDGE_OFFLINE, gone), Report(ReportKind.EDGE_ONLINE, self._next_edge, "h:9")]
        self._run(self._report(name, reports))

    async def _report(self, name: str, reports: list[Report]) -> None:
        begun = reactor.seconds()
        self.made_reports += len(reports)
        outcome = await self.of(name).report(self.claims[name], reports)
        self.failed_reports += sum(problem is not None for problem in outcome)
        self.slowest = max(self.slowest, reactor.seconds() - begun)

    def _look(self) -> None:
        edge = self.random.randrange(1, 3_000)
        if edge in self.truth:
            self._run(self._look_up(edge))

    async def _look_up(self, edge: int) -> None:
        begun = reactor.seconds()
        try:
            registry = self.random.choice(self.registries)
            found = await registry.frontier_of_edge(edge)
        except RegistryError:
            self.failed_lookups += 1
        else:
            if edge in self.truth and (found is None or found.frontier_id != self.truth[edge]):
                self.wrong_lookups += 1
                self.wrong_by_its_own += registry is self.of(self.truth[edge])
        self.slowest = max(self.slowest, reactor.seconds() - begun)

    async def differences(self) -> str:
        """What the registries say that is not so; empty if all is right."""
        live = list(self.truth)
        gone = [
            edge for edge in range(1, self._next_edge + 1) if edge not in self.truth and (edge < 3_000 or edge > 10_000)
        ]
        for registry in self.registries:
            try:
                found = await registry.edges(live)
                missing = sum(e is None or e.frontier_id != self.truth[n] for n, e in zip(live, found, strict=True))
                dead = sum(edge is not None for edge in await registry.edges(gone))
                counts = await registry.counts()
                listed = [record.frontier_id for record in await registry.frontiers()]
            except RegistryError as error:
                return str(error)
            if missing or dead or counts != Counts(3, len(live), 0) or sorted(listed) != list(FRONTIERS):
                return f"{missing} missing, {dead} dead, {counts} for {len(live)} edges, {listed}"
        return ""

    async def right_within(self, seconds: float) -> float:
        """How long it takes until everything is right (asked while the load goes on, checked when it has
        stopped)."""
        begun = reactor.seconds()
        while True:
            await self.quiet()
            said = await self.differences()
            if not said:
                return float(reactor.seconds() - begun)
            assert reactor.seconds() - begun < self.at_most(seconds), f"after {seconds:g} s: {said}"
            self._beat()
            await sleep(0.3)

    def tell(self, what: str, took: float) -> None:
        """One line of figures, shown with ``pytest -s``."""
        print(
            f"\n{what}: right after {took:.1f} s; reports answered with an error {self.failed_reports} of "
            f"{self.made_reports}, lookups failed {self.failed_lookups}, wrong {self.wrong_lookups} "
            f"({self.wrong_by_its_own} of them at the edge's own Frontlas), "
            f"slowest answer {self.slowest:.1f} s, the reactor late by {self.lag:.2f} s at most"
        )


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)


async def until(done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for a state; how long that may take is asserted where it matters."""
    end = reactor.seconds() + seconds
    while not done():
        assert reactor.seconds() < end, f"not within {seconds:g} s: {what}"
        await sleep(0.02)


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    mode, made = request.param[0], request.param[1]()
    try:
        site = Site(mode, made.start())
        pytest_twisted.blockon(ensureDeferred(site.open()))
        yield site
        pytest_twisted.blockon(ensureDeferred(site.close()))
    finally:
        made.close()


def single() -> RedisServer:
    return RedisServer(*free_ports(1))


def on(mode: str, make: Callable[[], Any]) -> Any:
    return pytest.mark.parametrize("site", [pytest.param((mode, make), id=mode)], indirect=True)


@on("sentinel", Watched)
@pytest_twisted.ensureDeferred
async def test_the_master_is_killed_under_sentinels(site: Site) -> None:
    await sleep(1)
    killed = site.made.master()
    killed.kill()
    begun = reactor.seconds()
    await until(lambda: not all(r.ready for r in site.registries), "the loss is noticed")
    await until(lambda: all(r.ready for r in site.registries), "the new master is used")
    back = reactor.seconds() - begun
    assert site.made.master() is not killed
    await sleep(1)
    await site.right_within(15)
    site.tell("sentinel, master killed", back)
    assert site.lost_claims == []
    assert site.slowest < site.at_most(6)


@on("cluster", lambda: Clustered(replicas=1))
@pytest_twisted.ensureDeferred
async def test_a_cluster_node_with_a_replica_is_killed(site: Site) -> None:
    await sleep(1)
    holder = next(m for m in site.made.masters if slot_of(INDEX) in slots(m))
    begun = reactor.seconds()
    holder.kill()
    await until(lambda: not all(r.ready for r in site.registries), "the loss is noticed")
    await until(lambda: all(r.ready for r in site.registries), "the replica is used")
    back = reactor.seconds() - begun
    await sleep(1)
    await site.right_within(15)
    site.tell("cluster, node with the index killed, replica takes over", back)
    assert site.lost_claims == []
    assert site.slowest < site.at_most(6)


def slots(master: RedisServer) -> range:
    """The slots of a master of three, from its own description."""
    words = master.cli("CLUSTER", "NODES").splitlines()
    first, last = next(line.split()[8] for line in words if "myself" in line).split("-")
    return range(int(first), int(last) + 1)


@pytest.mark.parametrize("which", ["with the index", "without"])
@on("cluster", Clustered)
@pytest_twisted.ensureDeferred
async def test_a_cluster_node_without_replica_is_killed_and_comes_back_empty(site: Site, which: str) -> None:
    victim = next(m for m in site.made.masters if (slot_of(INDEX) in slots(m)) is (which == "with the index"))
    victim.kill()
    await until(lambda: not any(r.ready for r in site.registries), "the loss is noticed")
    for registry in site.registries:
        begun = reactor.seconds()
        with pytest.raises(RegistryUnavailableError):
            await registry.check_health()
        with pytest.raises(RegistryUnavailableError):
            await registry.edges(range(1, 10))
        assert reactor.seconds() - begun < site.at_most(6)
    await sleep(2)
    victim.start()
    begun = reactor.seconds()
    await until(lambda: all(r.ready for r in site.registries), "the node is used again")
    await site.right_within(25)
    site.tell(f"cluster, node {which} came back empty", reactor.seconds() - begun)
    assert site.lost_claims == []


@on("cluster", Clustered)
@pytest_twisted.ensureDeferred
async def test_slots_move_under_load(site: Site) -> None:
    keys = [f"frontlas:edges:{n}" for n in range(1, 12)] + [INDEX, "frontlas:x:edges:1:a"]
    moves = []
    for slot in sorted({slot_of(key) for key in keys}):
        source = next(master for master in site.made.masters if slot in slots(master))
        moves.append((slot, source, site.made.masters[(site.made.masters.index(source) + 1) % 3]))
    for slot, source, target in moves:
        await in_thread(site.made.move_slot, slot, source, target)
    await site.right_within(5)
    redirects = sum(registry.metrics()["redis_redirects_total"] for registry in site.registries)
    site.tell(f"cluster, {len(moves)} slots moved, {redirects:.0f} redirections", 0)
    assert redirects > 0
    assert (site.failed_reports, site.failed_lookups, site.wrong_lookups) == (0, 0, 0)
    assert site.lost_claims == []


async def in_thread(call: Callable[..., None], *args: Any) -> None:
    done: Deferred[None] = Deferred()

    def work() -> None:
        try:
            call(*args)
        except BaseException as error:
            reactor.callFromThread(done.errback, error)
        else:
            reactor.callFromThread(done.callback, None)

    reactor.callInThread(work)
    await done


@on("standalone", single)
@pytest_twisted.ensureDeferred
async def test_redis_comes_back_empty(site: Site) -> None:
    listed: list[list[str]] = []

    async def follow() -> None:
        for registry in site.registries:
            try:
                listed.append([record.frontier_id for record in await registry.frontiers()])
            except RegistryUnavailableError:
                continue

    watching = LoopingCall(lambda: ensureDeferred(follow()))
    watching.start(0.05)
    site.made.kill()
    await until(lambda: not any(r.ready for r in site.registries), "the loss is noticed")
    await sleep(1)
    site.made.start()
    begun = reactor.seconds()
    await until(lambda: all(r.ready for r in site.registries), "ready again")
    await site.right_within(10)
    watching.stop()
    site.tell("standalone, back empty", reactor.seconds() - begun)
    assert site.lost_claims == []
    assert site.wrong_lookups == 0
    assert {tuple(names) for names in listed} == {FRONTIERS}


@on("standalone", single)
@pytest_twisted.ensureDeferred
async def test_redis_is_emptied_while_it_runs(site: Site) -> None:
    before = [registry.metrics()["repairs_total"] for registry in site.registries]
    site.made.cli("FLUSHALL")
    begun = reactor.seconds()

    def repairing() -> bool:
        return all(r.metrics()["repairs_total"] > n for r, n in zip(site.registries, before, strict=True))

    await until(repairing, "the loss is noticed")
    await site.right_within(10)
    site.tell("standalone, FLUSHALL", reactor.seconds() - begun)
    assert site.lost_claims == []
    assert site.wrong_lookups == 0


@on("standalone", single)
@pytest_twisted.ensureDeferred
async def test_redis_stands_still_for_ten_seconds(site: Site) -> None:
    site.made.freeze()
    begun = reactor.seconds()
    await until(lambda: not any(r.ready for r in site.registries), "the silence is noticed")
    assert reactor.seconds() - begun < site.at_most(6)
    asked = [registry.frontier_of_edge(1) for registry in site.registries]
    for answer in asked:
        with pytest.raises(RegistryUnavailableError):
            await answer
    await sleep(max(0, 10 - (reactor.seconds() - begun)))
    site.made.thaw()
    begun = reactor.seconds()
    await until(lambda: all(r.ready for r in site.registries), "ready again")
    await site.right_within(10)
    site.tell("standalone, frozen for 10 s", reactor.seconds() - begun)
    assert site.lost_claims == []
    assert site.slowest < site.at_most(6)
