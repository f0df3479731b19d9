"""One claim at work: reports come in, wait for each other, and go to Redis in batches; repairs run in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from frontier_tx.redis.interfaces import IRedis
from frontlas_tx.registry.errors import RegistryError, RegistryFullError
from frontlas_tx.registry.records import EdgeRecord, Report, ReportKind
from frontlas_tx.registry.redis.index import RedisIndex
from frontlas_tx.registry.redis.peer_records import Key, PeerRecords
from frontlas_tx.registry.redis.repairs import Repairs
from frontlas_tx.registry.slices import pause

log = Logger()

BATCH = 100
"""Peers per batch."""
LINGER = 0.005
"""Seconds for which a batch that is not full waits for more."""
PENDING = 200_000
"""Peers that may wait to be written."""


class _Ticket:
    """One call of ``report``: fires when nothing of it waits any more."""

    __slots__ = ("outcome", "waiter", "waiting")

    def __init__(self, size: int) -> None:
        self.outcome: list[RegistryError | None] = [None] * size
        self.waiter: Deferred[list[RegistryError | None]] = Deferred()
        self.waiting = 0


@dataclass(slots=True, eq=False)
class _Pending:
    """The newest report on one peer, and the calls that wait for it."""

    report: Report
    tickets: list[tuple[_Ticket, int]] = field(default_factory=list)


def _settle(pending: _Pending, problem: RegistryError | None) -> None:
    for ticket, index in pending.tickets:
        ticket.outcome[index] = problem
        ticket.waiting -= 1
        if not ticket.waiting:
            ticket.waiter.callback(ticket.outcome)


class Holder:
    """A claim at work, with what its Frontier has told.

    At most one batch is under way; what comes meanwhile gathers, one entry per peer, into the next.  So
    reports on one peer cannot overtake each other and batches grow with the load.
    """

    def __init__(
        self, redis: IRedis, clock: IReactorTime, index: RedisIndex, records: PeerRecords, claimed_at: int
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._index = index
        self.records = records
        self.claim = records.claim
        self.table = records.table
        self.repairs = Repairs(redis, clock, index, records, self._write_pending, lambda: bool(self._pending))
        self.claimed_at = claimed_at
        self.started = clock.seconds()
        self.spoke = clock.seconds()
        self.looked_after = clock.seconds()
        self._counted = (-1, -1)
        self._over: RegistryError | None = None
        self._pending: dict[Key, _Pending] = {}
        self._jobs: list[tuple[Callable[[], Awaitable[Any]], Deferred[Any]]] = []
        self._timer: IDelayedCall | None = None
        self._working = False

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._over is not None

    @property
    def complete(self) -> bool:
        """Whether the table has all that is live, or is being told so."""
        return self.repairs.named or self.table.syncing

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not (self._working or self._pending or self._jobs or self._timer)

    @property
    def busy(self) -> bool:
        """Whether repairs wait already."""
        return len(self._jobs) > 1

    @property
    def waiting(self) -> int:
        """Peers whose reports are not written yet."""
        return len(self._pending)

    # Numbers

    @property
    def recounted(self) -> bool:
        """Whether the numbers are others than those that ``counted`` gave last."""
        return self._counted != self._numbers()

    def counted(self) -> tuple[str | int, ...]:
        """Fields of the Frontier's hash with its numbers of edges and services, as they are to be written now."""
        self._counted = self._numbers()
        return "edge_count", self._counted[0], "service_count", self._counted[1]

    def recount(self) -> None:
        """What ``counted`` gave was not written."""
        self._counted = (-1, -1)

    def _numbers(self) -> tuple[int, int]:
        return self.records.edges, len(self.table.services)

    # Taking in

    def report(self, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        """See ``IRegistry.report``."""
        self.spoke = self._clock.seconds()
        now = max(self._index.now // 1000, self.claim.born)
        ticket = _Ticket(len(reports))
        for index, given in enumerate(reports):
            if len(self._pending) >= PENDING:
                ticket.outcome[index] = RegistryFullError(
                    f"{PENDING} reports of this frontier wait for redis, no more are taken"
                )
                continue
            # The record of a peer that only gives a sign of life is kept alive by the walk that goes with renewals.
            settled = (
                given.kind.beats
                and given.peer_id in self.table.of(given.kind)
                and not (given.kind.of_edge and given.peer_id in self.records.moved_away)
            )
            taken = self.table.take(given, now)
            if isinstance(taken, RegistryError):
                ticket.outcome[index] = taken
            elif taken is not None and not settled:
                self._add(taken).tickets.append((ticket, index))
                ticket.waiting += 1
        if self._pending:
            self._kick()
        if not ticket.waiting:
            ticket.waiter.callback(ticket.outcome)
        return ticket.waiter

    def edge(self, edge_id: int) -> EdgeRecord | None:
        """The edge as this Frontier has told it, unless it is with another one by now."""
        peer = self.table.edges.get(edge_id)
        if peer is None or edge_id in self.records.moved_away:
            return None
        return EdgeRecord(edge_id, self.claim.frontier_id, peer.addr, max(peer.since, self.claim.born), peer.meta)

    def disowns(self, edge_id: int) -> bool:
        """Whether a record that names this Frontier is wrong, because everything that it holds is known and this edge
        is not among it; then the record is removed."""
        if not self.repairs.named or edge_id in self.table.edges or (True, edge_id) in self._pending:
            return False
        self._add(Report(ReportKind.EDGE_OFFLINE, edge_id))
        self._kick()
        return True

    def moved_away(self, edge_id: int, since: int) -> None:
        """Another Frontier has an edge since then."""
        peer = self.table.edges.get(edge_id)
        if peer is not None and peer.since <= since:
            self.records.moved_away.add(edge_id)

    def look_at(self, edge_id: int) -> None:
        """Another Frontier may have an edge: see what its record says."""
        if edge_id in self.table.edges and edge_id not in self.records.moved_away:
            self._add(self.records.repetition((True, edge_id)))
            self._kick()

    def sync_begin(self) -> None:
        """See ``IRegistry.sync_begin``."""
        self.repairs.named = False
        self.table.sync_begin()

    async def repair(self) -> None:
        """Write what Redis may lack, after what was reported so far."""
        if self.records.lost:
            await self.run(self.repairs.write_everything)
        elif self.records.again:
            await self.run(self.repairs.finish)

    async def sync_end(self) -> int:
        """See ``IRegistry.sync_end``."""
        for _part in self.table.sync_end():
            await pause(self._clock)
        # Another naming that began meanwhile will tell by itself.
        return 0 if self.table.syncing else await self.name()

    async def name(self) -> int:
        """All that is live was named: whatever else Redis has of this Frontier is removed; gives the number."""
        self.repairs.named = True
        return int(await self.run(self.repairs.finish))

    def run(self, job: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
        """Run something after what was reported so far, with nothing else under way."""
        if self._over is not None:
            return fail(self._over)
        done: Deferred[Any] = Deferred()
        self._jobs.append((job, done))
        self._kick(at_once=True)
        return done

    def background(self, job: Callable[[], Awaitable[Any]]) -> None:
        """Run something when there is time; what fails because of Redis is done again later."""

        def failed(failure: Any) -> None:
            if failure.check(RegistryError) is None:
                log.failure("repairing records", failure)

        self.run(job).addErrback(failed)

    def close(self, error: RegistryError) -> None:
        """End the session; what waits, and whatever is asked of it from now on, fails with ``error``."""
        self._over = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.table.close()
        waiting, self._pending = self._pending, {}
        ensureDeferred(self._settle_all(list(waiting.values()), error))
        jobs, self._jobs = self._jobs, []
        for _job, done in jobs:
            done.errback(error)

    async def _settle_all(self, waiting: list[_Pending], problem: RegistryError | None) -> None:
        for index, pending in enumerate(waiting, 1):
            _settle(pending, problem)
            if not index % BATCH:
                await pause(self._clock)

    def _add(self, report: Report) -> _Pending:
        key = (report.kind.of_edge, report.peer_id)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = _Pending(report)
        elif report.kind.beats and pending.report.kind.begins:
            # The heartbeat of a peer that is still to be announced announces it.
            pending.report = replace(report, kind=pending.report.kind, online_at=pending.report.online_at)
        else:
            pending.report = report
        return pending

    def _kick(self, at_once: bool = False) -> None:
        if self._working or self._over is not None:
            return
        if at_once or len(self._pending) >= BATCH:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._work()
        elif self._timer is None:
            self._timer = self._clock.callLater(LINGER, self._work)

    def _work(self) -> None:
        self._timer = None
        self._working = True
        ensureDeferred(self._work_off()).addErrback(lambda f: log.failure("writing reports to redis", f))

    async def _work_off(self) -> None:
        try:
            while (self._pending or self._jobs) and not self.closed:
                await self._write_pending()
                if self._jobs and not self.closed:
                    job, done = self._jobs.pop(0)
                    try:
                        result = await job()
                    except Exception as error:
                        done.errback(error)
                    else:
                        done.callback(result)
        finally:
            self._working = False

    async def _write_pending(self) -> None:
        """Write what waits now; what comes meanwhile is left for later."""
        for _ in range(0, len(self._pending), BATCH):
            keys = list(islice(self._pending, BATCH))
            batch = [self._pending.pop(key) for key in keys]
            problems = await self.records.write([pending.report for pending in batch])
            for pending, problem in zip(batch, problems, strict=True):
                _settle(pending, problem)
            if not self._redis.ready and None not in problems:
                # One batch has waited for its deadline; the rest need not do the same one after the other.
                waiting, self._pending = self._pending, {}
                for index, pending in enumerate(list(waiting.values()), 1):
                    self.records.failed(pending.report)
                    _settle(pending, problems[0])
                    if not index % BATCH:
                        await pause(self._clock)
                return
