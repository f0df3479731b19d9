"""One claim at work: reports come in, wait for each other, and go to Redis in batches; repairs run in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from frontlas_tx.redis.interfaces import IRedis, command
from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.errors import RegistryError, RegistryFullError
from frontlas_tx.registry.peers import PeerTable
from frontlas_tx.registry.records import Claim, Report, ReportKind
from frontlas_tx.registry.redis.keys import INDEX
from frontlas_tx.registry.redis.peer_records import Held, IHeldHost, Lives
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
        self.waiting = 1

    def settle(self, index: int, problem: RegistryError | None) -> None:
        """Note how one report ended."""
        self.outcome[index] = problem
        self.done()

    def done(self) -> None:
        """One thing less to wait for."""
        self.waiting -= 1
        if not self.waiting:
            self.waiter.callback(self.outcome)


@dataclass(slots=True, eq=False)
class _Pending:
    """The newest report on one peer, and the calls that wait for it."""

    report: Report
    tickets: list[tuple[_Ticket, int]] = field(default_factory=list)

    def settle(self, problem: RegistryError | None) -> None:
        """Tell all calls how it ended."""
        for ticket, index in self.tickets:
            ticket.settle(index, problem)


class Session:
    """One claim at work.

    At most one batch is under way; what comes meanwhile gathers, one entry per peer, into the next.  So
    reports on one peer cannot overtake each other and batches grow with the load.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        host: IHeldHost,
        claim: Claim,
        entry: Entry,
        lives: Lives,
        table: PeerTable,
        claimed_at: int,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._host = host
        self.claim = claim
        self.held = Held(redis, clock, host, claim, entry, lives, table)
        self.repairs = Repairs(redis, clock, self.held, self._write_pending, lambda: bool(self._pending))
        self.claimed_at = claimed_at
        self.started = clock.seconds()
        self.spoke = clock.seconds()
        self.looked_after = clock.seconds()
        self.syncing = False
        self._counted = (-1, -1)
        self._over: RegistryError | None = None
        self._pending: dict[tuple[bool, int], _Pending] = {}
        self._jobs: list[tuple[Callable[[], Awaitable[Any]], Deferred[Any]]] = []
        self._timer: IDelayedCall | None = None
        self._working = False

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._over is not None

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
        held = self.held
        return max(0, len(held.table.edges) - len(held.elsewhere)), len(held.table.services)

    # Taking in

    def report(self, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        """See ``IRegistry.report``."""
        self.spoke = self._clock.seconds()
        now = max(self._now(), self.claim.born)
        ticket = _Ticket(len(reports))
        for index, given in enumerate(reports):
            problem = self.held.table.check(given)
            if problem is None and len(self._pending) >= PENDING:
                self.held.dirty = True
                problem = RegistryFullError(f"{PENDING} reports of this frontier wait for redis, no more are taken")
            if problem is not None:
                ticket.outcome[index] = problem
                continue
            settled = self._is_settled(given)
            report = self.held.table.apply(given, now)
            if report is not None and not settled:
                self._add(report).tickets.append((ticket, index))
                ticket.waiting += 1
        ticket.done()
        if self._pending:
            self._kick()
        return ticket.waiter

    def denies(self, edge_id: int) -> bool:
        """Whether a record that names this Frontier is wrong, because everything that it holds is known and this edge
        is not among it; then the record is removed."""
        if not self.held.named or edge_id in self.held.table.edges or (True, edge_id) in self._pending:
            return False
        self._add(Report(ReportKind.EDGE_OFFLINE, edge_id))
        self._kick()
        return True

    def run(self, job: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
        """Run something after what was reported so far, with nothing else under way."""
        if self._over is not None:
            return fail(self._over)
        done: Deferred[Any] = Deferred()
        self._jobs.append((job, done))
        self._kick(at_once=True)
        return done

    async def reconcile(self, everything: bool) -> int:
        """See ``Repairs.reconcile``; where the table is complete, note that all of it was written since Redis last lost
        its data."""
        complete, epoch = self.held.named, self._host.epoch
        removed = await self.repairs.reconcile(everything=everything, sweep=complete)
        if complete and epoch:
            await self._redis.batch([command("HSET", INDEX, f"t:{self.claim.frontier_id}", epoch)])
        return removed

    def close(self, error: RegistryError) -> None:
        """End the session; what waits, and whatever is asked of it from now on, fails with ``error``."""
        self._over = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.held.table.close()
        waiting, self._pending = self._pending, {}
        ensureDeferred(self._settle_all(list(waiting.values()), error))
        jobs, self._jobs = self._jobs, []
        for _job, done in jobs:
            done.errback(error)

    async def _settle_all(self, waiting: list[_Pending], problem: RegistryError | None) -> None:
        for index, pending in enumerate(waiting, 1):
            pending.settle(problem)
            if not index % BATCH:
                await pause(self._clock)

    def _now(self) -> int:
        return self._host.seconds()

    def _is_settled(self, report: Report) -> bool:
        """Whether this is the heartbeat of a peer that is recorded already.

        Its record lives for as long as the walk that goes with renewals comes by, so nothing need be written.
        """
        if report.kind is ReportKind.EDGE_HEARTBEAT:
            return report.peer_id in self.held.table.edges and report.peer_id not in self.held.elsewhere
        return report.kind is ReportKind.SERVICE_HEARTBEAT and report.peer_id in self.held.table.services

    def _add(self, report: Report) -> _Pending:
        key = (report.kind.of_edge, report.peer_id)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = _Pending(report)
        elif report.kind.value.endswith("heartbeat") and pending.report.kind.value.endswith("online"):
            # The heartbeat of a peer that is still to be announced announces it.
            before = pending.report
            pending.report = Report(before.kind, before.peer_id, report.addr, report.service, before.online_at)
        else:
            pending.report = report
        return pending

    def _kick(self, at_once: bool = False) -> None:
        if self._working or self.closed:
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
            problems = await self.held.write([pending.report for pending in batch])
            for pending, problem in zip(batch, problems, strict=True):
                pending.settle(problem)
            if not self._redis.ready and None not in problems:
                # One batch has waited for its deadline; the rest need not do the same one after the other.
                waiting, self._pending = self._pending, {}
                for index, pending in enumerate(list(waiting.values()), 1):
                    self.held.failed(pending.report)
                    pending.settle(problems[0])
                    if not index % BATCH:
                        await pause(self._clock)
                return
