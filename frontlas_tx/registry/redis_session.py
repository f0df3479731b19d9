"""What one claim writes to Redis: batches of reports in order, repairs, and the slow walk that renews
records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from frontlas_tx.redis.errors import RedisError
from frontlas_tx.redis.interfaces import IRedis, Reply, Request, command
from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.errors import RegistryError, RegistryFullError, RegistryUnavailableError
from frontlas_tx.registry.peers import Peer, PeerTable
from frontlas_tx.registry.records import Change, ChangeKind, Claim, Report, ReportKind
from frontlas_tx.registry.redis_keys import (
    CHANNEL,
    decode_edge,
    decode_service,
    edge_key,
    edges_of,
    encode_changes,
    encode_edge,
    encode_service,
    service_key,
    services_of,
)
from frontlas_tx.registry.redis_scripts import EDGE_DROP, EDGE_SWAP, EDGE_WRITE, SERVICE_DROP, SERVICE_WRITE

log = Logger()

BATCH = 500
"""Peers per batch."""
LINGER = 0.005
"""Seconds for which a batch that is not full waits for more."""
PENDING = 200_000
"""Peers that may wait to be written."""
WALK = 8
"""The fewest edges that one renewal of the lease looks at."""
REMOVED = 20_000
"""Removals of one Frontier that are remembered, and for how many seconds: a server that takes over may not have
heard of the last ones."""
REMOVED_FOR = 600.0


@dataclass(frozen=True, slots=True)
class Lives:
    """Lives of records in seconds."""

    edge: int = 86_400
    service: int = 86_400


class ISessionHost(Protocol):
    """What a session needs of the registry around it."""

    def seconds(self) -> int:
        """The store's time."""

    def entry(self, frontier_id: str) -> Entry | None:
        """The entry of another Frontier."""

    def holder(self, frontier_id: str) -> Entry | None:
        """The same if it is alive, else None."""

    async def held_elsewhere(self, frontier_id: str) -> bool:
        """Whether a Frontier that is not in the index is alive (with a Frontlas of the reference)."""

    def moved_away(self, edge_id: int, frontier_id: str) -> None:
        """An edge was taken from that Frontier."""


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


@dataclass(slots=True, eq=False)
class _Second:
    """What the answers to a batch make necessary: members to add and to remove by set, changes to tell."""

    add: dict[str, list[int]] = field(default_factory=dict)
    remove: dict[str, list[int]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def requests(self) -> list[Request]:
        """The commands of the second round trip."""
        made = [command("SREM", key, *members) for key, members in self.remove.items()]
        made += [command("SADD", key, *members) for key, members in self.add.items()]
        if self.changes:
            made.append(command("PUBLISH", CHANNEL, encode_changes(self.changes)))
        return made


class Session:
    """One claim at work.

    At most one batch is under way; what comes meanwhile gathers, one entry per peer, into the next.  So
    reports on one peer cannot overtake each other and batches grow with the load.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        host: ISessionHost,
        claim: Claim,
        entry: Entry,
        lives: Lives,
        limit: int,
        claimed_at: int,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._host = host
        self._lives = lives
        self.claim = claim
        self.entry = entry
        self.claimed_at = claimed_at
        self.started = clock.seconds()
        self.spoke = clock.seconds()
        self.table = PeerTable(limit)
        self.elsewhere: set[int] = set()
        self.unfinished: dict[tuple[bool, int], Report] = {}
        self.removed: dict[tuple[bool, int], float] = {}
        self.looked_after = clock.seconds()
        self.syncing = False
        self.named = False
        self.dirty = False
        self.closed = False
        self.written = 0
        self.restored = 0
        self.batches = 0
        self._pending: dict[tuple[bool, int], _Pending] = {}
        self._jobs: list[tuple[Callable[[], Awaitable[Any]], Deferred[Any]]] = []
        self._timer: IDelayedCall | None = None
        self._working = False
        self._walks: dict[bool, list[int]] = {True: [], False: []}

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

    # Taking in

    def report(self, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        """See ``IRegistry.report``."""
        self.spoke = self._clock.seconds()
        now = max(self._now(), self.claim.born)
        ticket = _Ticket(len(reports))
        for index, given in enumerate(reports):
            problem = self.table.check(given)
            if problem is None and len(self._pending) >= PENDING:
                self.dirty = True
                problem = RegistryFullError(f"{PENDING} reports of this frontier wait for redis, no more are taken")
            if problem is not None:
                ticket.outcome[index] = problem
                continue
            settled = self._is_settled(given)
            report = self.table.apply(given, now)
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
        if not self.named or edge_id in self.table.edges or (True, edge_id) in self._pending:
            return False
        self._add(Report(ReportKind.EDGE_OFFLINE, edge_id))
        self._kick()
        return True

    def run(self, job: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
        """Run something after what was reported so far, with nothing else under way."""
        done: Deferred[Any] = Deferred()
        self._jobs.append((job, done))
        self._kick(at_once=True)
        return done

    def close(self, error: RegistryError) -> None:
        """End the session; what waits fails with ``error``."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._pending = self._pending, {}
        for pending in waiting.values():
            pending.settle(error)
        jobs, self._jobs = self._jobs, []
        for _job, done in jobs:
            done.errback(error)

    def _now(self) -> int:
        return self._host.seconds()

    def _is_settled(self, report: Report) -> bool:
        """Whether this is the heartbeat of a peer that is recorded already.

        Its record lives for as long as the walk that goes with renewals comes by, so nothing need be written.
        """
        if report.kind is ReportKind.EDGE_HEARTBEAT:
            return report.peer_id in self.table.edges and report.peer_id not in self.elsewhere
        return report.kind is ReportKind.SERVICE_HEARTBEAT and report.peer_id in self.table.services

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
            problems = await self._write([pending.report for pending in batch])
            for pending, problem in zip(batch, problems, strict=True):
                pending.settle(problem)
            if not self._redis.ready and None not in problems:
                # One batch has waited for its deadline; the rest need not do the same one after the other.
                waiting, self._pending = self._pending, {}
                for pending in waiting.values():
                    self._failed(pending.report)
                    pending.settle(problems[0])
                return

    def _failed(self, report: Report) -> None:
        """What was reported is not in Redis: repair it later.  What has gone is in no table, so it is noted
        here."""
        self.dirty = True
        key = (report.kind.of_edge, report.peer_id)
        if not _ends(report):
            self.unfinished.pop(key, None)
        elif len(self.unfinished) < PENDING:
            self.unfinished[key] = report

    # Writing

    async def _write(self, reports: Sequence[Report], before: int = 0) -> list[RegistryError | None]:
        """Write reports on different peers; ``before`` limits removals to records older than that second."""
        if not reports:
            return []
        self.batches += 1
        self.written += len(reports)
        replies = await self._redis.batch([self._request(report, before) for report in reports])
        second = _Second()
        problems: list[RegistryError | None] = []
        conflicts: list[tuple[Report, bytes]] = []
        for report, reply in zip(reports, replies, strict=True):
            if isinstance(reply, RedisError):
                problems.append(RegistryUnavailableError(str(reply)))
                self._failed(report)
                continue
            problems.append(None)
            key = (report.kind.of_edge, report.peer_id)
            self.unfinished.pop(key, None)
            self.removed.pop(key, None)
            if _ends(report):
                self._remember_removal(key)
            if report.kind.of_edge:
                self._edge_written(report, reply, second, conflicts)
            else:
                self._service_written(report, reply, second)
        for report, text in conflicts:
            await self._resolve(report, text, second)
        for reply in await self._redis.batch(second.requests()):
            if isinstance(reply, RedisError):
                self.dirty = True
        return problems

    def _remember_removal(self, key: tuple[bool, int]) -> None:
        moment = self._clock.seconds()
        self.removed[key] = moment
        for oldest in list(islice(self.removed, 2)):
            if len(self.removed) > REMOVED or self.removed[oldest] < moment - REMOVED_FOR:
                del self.removed[oldest]

    def _request(self, report: Report, before: int) -> Request:
        name, born = self.claim.frontier_id, self.claim.born
        edge = report.kind.of_edge
        key = edge_key(report.peer_id) if edge else service_key(report.peer_id)
        if _ends(report):
            return (EDGE_DROP if edge else SERVICE_DROP)(key, name, report.addr, before)
        peer = self._peer(report)
        if edge:
            record = encode_edge(name, peer.addr, max(peer.since, born))
            return EDGE_WRITE(key, record, self._lives.edge, name, _mode(report), born, peer.addr)
        record = encode_service(peer.service, name, peer.addr, max(peer.since, born))
        return SERVICE_WRITE(key, name, record, self._lives.service, _mode(report), born)

    def _peer(self, report: Report) -> Peer:
        # A peer that went offline after this report was taken in is written and then removed.
        known = self.table.of(report.kind).get(report.peer_id)
        return known or Peer(report.addr, report.online_at or self._now(), report.service)

    def _edge_written(
        self, report: Report, reply: Reply, second: _Second, conflicts: list[tuple[Report, bytes]]
    ) -> None:
        edge_id, mine = report.peer_id, edges_of(self.entry)
        if report.kind is ReportKind.EDGE_OFFLINE:
            second.remove.setdefault(mine, []).append(edge_id)
            self.elsewhere.discard(edge_id)
            gone = decode_edge(edge_id, reply)
            if gone is not None:
                second.changes.append(Change(ChangeKind.EDGE_OFFLINE, gone.frontier_id, edge_id, gone.addr))
            return
        code = reply[0]
        self.restored += code == 0 and _mode(report) == "beat"
        if code == 3:
            conflicts.append((report, reply[1]))
            return
        self.elsewhere.discard(edge_id)
        second.add.setdefault(mine, []).append(edge_id)
        if code != 1:
            self._online(edge_id, second)
        if code == 2:
            self._taken(edge_id, reply[1], second)

    def _online(self, edge_id: int, second: _Second) -> None:
        peer = self.table.edges.get(edge_id)
        if peer is not None:
            since = max(peer.since, self.claim.born)
            second.changes.append(Change(ChangeKind.EDGE_ONLINE, self.claim.frontier_id, edge_id, peer.addr, "", since))

    def _taken(self, edge_id: int, text: bytes, second: _Second) -> None:
        """The edge was recorded at another Frontier: it is no member there any more."""
        old = decode_edge(edge_id, text)
        if old is None or old.frontier_id == self.claim.frontier_id:
            return
        other = self._host.entry(old.frontier_id)
        if other is not None:
            second.remove.setdefault(edges_of(other), []).append(edge_id)
            self._host.moved_away(edge_id, old.frontier_id)

    async def _resolve(self, report: Report, text: bytes, second: _Second) -> None:
        """A repetition met the record of another Frontier: whoever saw the edge last keeps it, if it is
        alive."""
        edge_id = report.peer_id
        old = decode_edge(edge_id, text)
        if old is not None:
            other = self._host.holder(old.frontier_id)
            live = old.update_time >= other.born if other else await self._host.held_elsewhere(old.frontier_id)
            newer = old.update_time >= report.online_at if _mode(report) == "sync" else True
            if live and newer:
                self.elsewhere.add(edge_id)
                return
        peer = self._peer(report)
        record = encode_edge(self.claim.frontier_id, peer.addr, max(peer.since, self.claim.born))
        [reply] = await self._redis.batch([EDGE_SWAP(edge_key(edge_id), text, record, self._lives.edge)])
        if reply != 1:
            self.elsewhere.add(edge_id)
            return
        self.elsewhere.discard(edge_id)
        second.add.setdefault(edges_of(self.entry), []).append(edge_id)
        self._online(edge_id, second)
        self._taken(edge_id, text, second)

    def _service_written(self, report: Report, reply: Reply, second: _Second) -> None:
        service_id, mine = report.peer_id, services_of(self.entry)
        if report.kind is ReportKind.SERVICE_OFFLINE:
            second.remove.setdefault(mine, []).append(service_id)
            gone = decode_service(service_id, reply)
            if gone is not None:
                second.changes.append(
                    Change(ChangeKind.SERVICE_OFFLINE, self.claim.frontier_id, service_id, gone.addr, gone.service)
                )
            return
        second.add.setdefault(mine, []).append(service_id)
        self.restored += reply[0] == 0 and _mode(report) == "beat"
        peer = self.table.services.get(service_id)
        if reply[0] != 1 and peer is not None:
            second.changes.append(
                Change(
                    ChangeKind.SERVICE_ONLINE,
                    self.claim.frontier_id,
                    service_id,
                    peer.addr,
                    peer.service,
                    max(peer.since, self.claim.born),
                )
            )

    # Repairs; each runs as a job

    async def reconcile(self, everything: bool, sweep: bool) -> int:
        """Make Redis say what the table says.

        ``sweep`` removes members that the table does not have, ``everything`` writes all records again
        instead of only those that are missing in the sets, and repeats the last removals.  Gives the number of
        removed peers.  Raises ``RegistryUnavailableError``.
        """
        self.dirty = False
        removed = 0
        again = {key: Report(_END_OF[key[0]], key[1]) for key in self.removed} if everything else {}
        for chunk in _chunks(list((again | self.unfinished).values())):
            await self._write([report for report in chunk if report.peer_id not in self.table.of(report.kind)])
        self.unfinished = {
            key: report for key, report in self.unfinished.items() if report.peer_id not in self.table.of(report.kind)
        }
        edges = await self._members(edges_of(self.entry))
        services = await self._members(services_of(self.entry))
        if sweep:
            stale = [Report(ReportKind.EDGE_OFFLINE, n) for n in edges - self.table.edges.keys()]
            stale += [Report(ReportKind.SERVICE_OFFLINE, n) for n in services - self.table.services.keys()]
            for chunk in _chunks(stale):
                gone = [report for report in chunk if report.peer_id not in self.table.of(report.kind)]
                removed += len(gone)
                await self._write(gone)
                await self._write_pending()
        missing = [
            report
            for report in self.table.reports()
            if everything or report.peer_id not in (edges if report.kind.of_edge else services)
        ]
        for chunk in _chunks(missing):
            await self._write([report for report in chunk if report.peer_id in self.table.of(report.kind)])
            await self._write_pending()
        if self.dirty:
            raise RegistryUnavailableError("redis failed while records of this frontier were repaired")
        return removed

    async def clear(self, former: Entry) -> None:
        """Remove what an earlier process of this Frontier left behind."""
        edges = await self._members(edges_of(former))
        services = await self._members(services_of(former))
        left = [Report(ReportKind.EDGE_OFFLINE, peer_id) for peer_id in edges]
        left += [Report(ReportKind.SERVICE_OFFLINE, peer_id) for peer_id in services]
        for chunk in _chunks(left):
            gone = [report for report in chunk if report.peer_id not in self.table.of(report.kind)]
            await self._write(gone, before=self.claim.born + 1)
            await self._write_pending()
        await self._redis.batch([command("DEL", edges_of(former)), command("DEL", services_of(former))])

    async def look_after(self, share: float) -> None:
        """What goes with a renewal: renew the lives of a ``share`` of the records, see whether anything is
        missing, and repair it if so."""
        before = self.restored
        for edges in (True, False):
            for chunk in _chunks(self._step(edges, share)):
                await self._write(chunk)
        if self.named and not self.dirty:
            keys = (edges_of(self.entry), services_of(self.entry))
            replies = await self._redis.batch([command("SCARD", key) for key in keys])
            away = len(self.elsewhere & self.table.edges.keys())
            if any(isinstance(reply, RedisError) for reply in replies):
                self.dirty = True
            elif replies != [len(self.table.edges) - away, len(self.table.services)] and not self._pending:
                await self.reconcile(everything=False, sweep=True)
        if self.restored > before or self.dirty:
            await self.reconcile(everything=True, sweep=self.named)

    def _step(self, edges: bool, share: float) -> list[Report]:
        """The next records of the walk, and the edges that another Frontier had when last seen."""
        table = self.table.edges if edges else self.table.services
        kind = ReportKind.EDGE_HEARTBEAT if edges else ReportKind.SERVICE_HEARTBEAT
        if not self._walks[edges]:
            self._walks[edges] = list(table)
        walk = self._walks[edges]
        ids = {walk.pop() for _ in range(min(len(walk), max(WALK, int(len(table) * share) + 1)))}
        if edges:
            ids.update(islice(self.elsewhere, BATCH))
            self.elsewhere &= table.keys()
        return [Report(kind, peer_id, table[peer_id].addr) for peer_id in ids if peer_id in table]

    async def _members(self, key: str) -> set[int]:
        members: set[int] = set()
        cursor: bytes | int = 0
        while True:
            [reply] = await self._redis.batch([command("SSCAN", key, cursor, "COUNT", 1_000)])
            if isinstance(reply, RedisError):
                self.dirty = True
                raise RegistryUnavailableError(str(reply))
            cursor = reply[0]
            members.update(int(member) for member in reply[1])
            if int(cursor) == 0:
                return members


_END_OF = {True: ReportKind.EDGE_OFFLINE, False: ReportKind.SERVICE_OFFLINE}


def _mode(report: Report) -> str:
    if report.kind in (ReportKind.EDGE_HEARTBEAT, ReportKind.SERVICE_HEARTBEAT):
        return "beat"
    return "sync" if report.online_at else "online"


def _ends(report: Report) -> bool:
    return report.kind in (ReportKind.EDGE_OFFLINE, ReportKind.SERVICE_OFFLINE)


def _chunks(reports: Sequence[Report]) -> Iterable[Sequence[Report]]:
    return (reports[start : start + BATCH] for start in range(0, len(reports), BATCH))
