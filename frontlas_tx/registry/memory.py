"""The registry inside one process: for a single machine without Redis, and for tests.

Nothing outlives the process.  All bounds are constructor arguments; a full table refuses newcomers with
``RegistryFullError`` and keeps what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count as counter

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from frontlas_tx.registry.directory import (
    Entry,
    Lease,
    Numbers,
    claimed,
    decode_cursor,
    differences,
    dispensable,
    encode_cursor,
    page_of,
    page_size,
)
from frontlas_tx.registry.errors import (
    ClaimLostError,
    FrontierAlreadySetError,
    RegistryError,
    RegistryFullError,
    RegistryUnavailableError,
    no_room,
)
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.interfaces import IRegistry, ISubscription
from frontlas_tx.registry.peers import PART, Peer, PeerBudget, PeerTable
from frontlas_tx.registry.records import (
    Change,
    ChangeKind,
    Claim,
    Counts,
    EdgeRecord,
    FrontierRecord,
    Page,
    Report,
    ReportKind,
    ServiceRecord,
)
from frontlas_tx.registry.slices import Job, Slices
from frontlas_tx.registry.walkable import WalkableIds


@dataclass(slots=True, eq=False)
class _Holder:
    """A claim with what it told and when it last spoke (seconds)."""

    claim: Claim
    table: PeerTable
    spoke: float
    elsewhere: set[int] = field(default_factory=set)
    synced: bool = False
    claimed_at: float = 0.0


@dataclass(slots=True, eq=False)
class _Held:
    """The recorded peers of one process of one Frontier."""

    edges: WalkableIds = field(default_factory=WalkableIds)
    services: WalkableIds = field(default_factory=WalkableIds)


@implementer(IRegistry)
class MemoryRegistry:
    """See ``IRegistry``.  ``clock`` gives Unix seconds (any reactor does, or a ``Clock`` in tests)."""

    durable = False

    def __init__(
        self,
        clock: IReactorTime,
        *,
        lease: Lease | None = None,
        max_edges: int = 1_000_000,
        max_services: int = 100_000,
        peers_bytes: int = 1 << 30,
        feed: ChangeFeed | None = None,
    ) -> None:
        self._clock = clock
        self._lease = lease or Lease()
        self._max_edges = max_edges
        self._max_services = max_services
        self._feed = feed or ChangeFeed()
        self._entries: dict[str, Entry] = {}
        self._numbers = Numbers()
        self._holders: dict[str, _Holder] = {}
        self._held: dict[tuple[str, int], _Held] = {}
        self._edges: dict[int, EdgeRecord] = {}
        self._services: dict[int, dict[str, ServiceRecord]] = {}
        self._service_total = 0
        self._serial = counter(1)
        self._alive: dict[str, FrontierRecord] = {}
        self._upkeep = LoopingCall(self._tidy)
        self._upkeep.clock = clock
        self._reports = 0
        self._refused = 0
        self._displaced = 0
        self._slices = Slices(clock)
        self._budget = PeerBudget(peers_bytes)
        self.ready = False
        self._stopped = False
        self.why_not_ready = "the registry has not been started"
        self._ready_watchers: list[Callable[[bool, str], None]] = []

    def start(self) -> Deferred[None]:
        if self._stopped:
            return fail(RegistryUnavailableError("the registry was stopped"))
        if not self._upkeep.running:
            self._upkeep.start(1.0, now=False)
            self._set_ready(True, "")
        return succeed(None)

    def stop(self) -> Deferred[None]:
        if self._upkeep.running:
            self._upkeep.stop()
        self._stopped = True
        self._feed.close()
        self._set_ready(False, "the registry was stopped")
        return succeed(None)

    def watch_ready(self, callback: Callable[[bool, str], None]) -> Callable[[], None]:
        self._ready_watchers.append(callback)
        return lambda: self._ready_watchers.remove(callback) if callback in self._ready_watchers else None

    # Frontiers

    def claim(
        self,
        frontier_id: str,
        advertised_sb_addr: str,
        advertised_eb_addr: str,
        boot_id: str = "",
        on_lost: Callable[[str], None] | None = None,
        probe: Callable[[], Deferred[bool]] | None = None,
        origin: str = "",
    ) -> Deferred[Claim]:
        addresses = (advertised_sb_addr, advertised_eb_addr)
        return ensureDeferred(self._claim(frontier_id, *addresses, boot_id, on_lost, probe, origin))

    async def _claim(
        self,
        frontier_id: str,
        sb: str,
        eb: str,
        boot: str,
        on_lost: Callable[[str], None] | None,
        probe: Callable[[], Deferred[bool]] | None,
        origin: str,
    ) -> Claim:
        same = bool(sb) and (entry := self._entries.get(frontier_id)) is not None and (entry.sb, entry.eb) == (sb, eb)
        holder = self._respected(frontier_id, boot)
        if holder is not None and same and not await holder.claim.lives():
            # Others may have asked for the place at the same time.
            now_there = self._respected(frontier_id, boot)
            holder = None if now_there is holder else now_there
        if holder is not None:
            self._refused += 1
            raise FrontierAlreadySetError
        now, current = self._now(), self._entries.get(frontier_id)
        number = current.number if current is not None else self._free_number(origin)
        token = f"memory/{next(self._serial)}"
        entry = claimed(current, frontier_id, sb, eb, boot, token, now, number, origin)
        if current is not None and entry.generation != current.generation:
            self._drop(frontier_id, current.generation)
        self._entries[frontier_id] = entry
        returning = current is not None and entry.generation == current.generation
        claim = Claim(frontier_id, token, sb, eb, boot, entry.born, entry.respelled, returning, on_lost, probe, origin)
        moment = self._clock.seconds()
        former = self._holders.get(frontier_id)
        if former is not None:
            former.table.close()
        self._holders[frontier_id] = _Holder(
            claim, PeerTable(self._max_edges, self._budget, origin), moment, claimed_at=moment
        )
        self._changed(frontier_id)
        if former is not None:
            former.claim.void("another connection of this frontier took its place")
        return claim

    def _respected(self, frontier_id: str, boot: str) -> _Holder | None:
        """The holder of an identity that a newcomer with this boot id does not simply replace."""
        entry, holder = self._entries.get(frontier_id), self._holders.get(frontier_id)
        if entry is None or holder is None or not entry.alive(self._now(), self._lease):
            return None
        if entry.is_same_process(boot) or self._clock.seconds() - holder.spoke > self._lease.silence:
            return None
        return holder

    def _free_number(self, origin: str) -> int:
        """A number for a new Frontier; in a full registry another one makes room."""
        number = self._numbers.take()
        if number is not None:
            return number
        gone = dispensable(self._entries.values(), self._now(), self._lease, origin)
        if gone is None:
            raise no_room()
        self._displaced += 1
        self._forget(gone, "the registry is full, and another frontier needed the place of one without peers")
        number = self._numbers.take()
        assert number is not None
        return number

    def _forget(self, entry: Entry, why: str) -> None:
        self._drop(entry.frontier_id, entry.generation)
        del self._entries[entry.frontier_id]
        self._numbers.give_back(entry.number)
        holder = self._holders.pop(entry.frontier_id, None)
        self._changed(entry.frontier_id)
        if holder is not None:
            holder.table.close()
            holder.claim.void(why)

    def renew(self, claim: Claim) -> Deferred[None]:
        holder = self._holder(claim)
        if holder is None:
            return fail(self._lost(claim))
        holder.spoke = self._clock.seconds()
        entry = self._entries[claim.frontier_id]
        self._entries[claim.frontier_id] = replace(entry, renewed=self._now(), left=0, held=holder.table.size)
        self._changed(claim.frontier_id)
        if holder.elsewhere:
            self._slices.run(self._look_elsewhere(holder))
        return succeed(None)

    def release(self, claim: Claim, by_peer: bool = False) -> Deferred[None]:
        holder = self._holder(claim)
        if holder is not None:
            del self._holders[claim.frontier_id]
            entry = self._entries[claim.frontier_id]
            self._entries[claim.frontier_id] = entry.released(self._now(), by_peer, holder.table.size)
            holder.table.close()
            self._changed(claim.frontier_id)
        return succeed(None)

    # Peers

    def report(self, claim: Claim, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        holder = self._holder(claim)
        if holder is None:
            return fail(self._lost(claim))
        holder.spoke = self._clock.seconds()
        outcome: list[RegistryError | None] = []
        now = max(self.seconds(), claim.born)
        for given in reports:
            taken = self._room(given) or holder.table.take(given, now)
            outcome.append(taken if isinstance(taken, RegistryError) else None)
            self._reports += outcome[-1] is None
            if isinstance(taken, Report):
                self._record(holder, taken, holder.table.of(taken.kind).get(taken.peer_id))
        return succeed(outcome)

    def sync_begin(self, claim: Claim) -> None:
        holder = self._holder(claim)
        if holder is not None:
            holder.synced = True
            holder.table.sync_begin()

    def sync_end(self, claim: Claim) -> Deferred[int]:
        holder = self._holder(claim)
        if holder is None:
            return fail(self._lost(claim))
        return self._slices.run(self._sync(holder))

    # Queries

    def frontier_of_edge(self, edge_id: int) -> Deferred[FrontierRecord | None]:
        return succeed(self._frontier_of(edge_id))

    def frontiers_of_edges(self, edge_ids: Sequence[int]) -> Deferred[list[FrontierRecord | None]]:
        return succeed([self._frontier_of(edge_id) for edge_id in edge_ids])

    def edge(self, edge_id: int) -> Deferred[EdgeRecord | None]:
        return succeed(self._edge(edge_id))

    def edges(self, edge_ids: Sequence[int]) -> Deferred[list[EdgeRecord | None]]:
        return succeed([self._edge(edge_id) for edge_id in edge_ids])

    def edges_page(self, cursor: int, count: int) -> Deferred[Page[EdgeRecord]]:
        found, rest = self._walk(cursor, lambda held: held.edges, page_size(count))
        return succeed(Page(rest, [self._edges[edge_id] for edge_id, _name in found]))

    def frontiers(self) -> Deferred[list[FrontierRecord]]:
        return succeed(self._listed())

    def frontiers_by_ids(self, frontier_ids: Sequence[str]) -> Deferred[list[FrontierRecord | None]]:
        return succeed([self._listed_one(frontier_id) for frontier_id in frontier_ids])

    def frontiers_page(self, cursor: int, count: int) -> Deferred[Page[FrontierRecord]]:
        numbered = [(self._entries[record.frontier_id].number, record) for record in self._listed()]
        return succeed(page_of(numbered, cursor, count))

    def service(self, service_id: int) -> Deferred[ServiceRecord | None]:
        return succeed(self._service(service_id))

    def services(self, service_ids: Sequence[int]) -> Deferred[list[ServiceRecord | None]]:
        return succeed([self._service(service_id) for service_id in service_ids])

    def services_page(self, cursor: int, count: int) -> Deferred[Page[ServiceRecord]]:
        found, rest = self._walk(cursor, lambda held: held.services, page_size(count))
        return succeed(Page(rest, [self._services[service_id][name] for service_id, name in found]))

    def counts(self) -> Deferred[Counts]:
        totals = [self._counts_of(entry) for entry in self._entries.values()]
        return succeed(
            Counts(
                sum(t.frontiers for t in totals),
                sum(t.edges for t in totals),
                sum(t.services for t in totals),
            )
        )

    def counts_of(self, frontier_id: str) -> Deferred[Counts]:
        entry = self._entries.get(frontier_id)
        return succeed(self._counts_of(entry) if entry is not None else Counts(0, 0, 0))

    def seconds(self) -> int:
        return int(self._clock.seconds())

    def watch(self, kinds: Iterable[ChangeKind] | None = None) -> ISubscription:
        return self._feed.subscribe(kinds)

    def check_health(self) -> Deferred[None]:
        return succeed(None)

    def metrics(self) -> dict[str, float]:
        return {
            "frontiers": float(len(self._alive)),
            "edges": float(len(self._edges)),
            "services": float(self._service_total),
            "reports_total": float(self._reports),
            "claims_refused_total": float(self._refused),
            "frontiers_displaced_total": float(self._displaced),
            "own_bytes": float(self._budget.used),
            "watchers": float(self._feed.watchers),
            "changes_total": float(self._feed.published),
            "changes_dropped_total": float(self._feed.dropped),
        }

    # Inside

    def _now(self) -> int:
        return int(self._clock.seconds() * 1000)

    def _set_ready(self, ready: bool, why: str) -> None:
        self.ready, self.why_not_ready = ready, why
        for callback in list(self._ready_watchers):
            callback(ready, why)

    def _holder(self, claim: Claim) -> _Holder | None:
        holder = self._holders.get(claim.frontier_id)
        return holder if holder is not None and holder.claim is claim else None

    def _lost(self, claim: Claim) -> ClaimLostError:
        return ClaimLostError(claim.lost or f"frontier {claim.frontier_id!r} was released by this connection")

    def _is_alive(self, frontier_id: str) -> bool:
        entry = self._entries.get(frontier_id)
        return entry is not None and entry.alive(self._now(), self._lease)

    def _held_by(self, frontier_id: str) -> _Held:
        return self._held.setdefault((frontier_id, self._entries[frontier_id].generation), _Held())

    def _room(self, report: Report) -> RegistryError | None:
        if report.kind in (ReportKind.EDGE_OFFLINE, ReportKind.SERVICE_OFFLINE):
            return None
        if report.kind.of_edge:
            if report.peer_id in self._edges or len(self._edges) < self._max_edges:
                return None
            self._spare_records()
            if len(self._edges) < self._max_edges:
                return None
            return RegistryFullError(
                f"the embedded registry holds {self._max_edges} edges, its bound; use Redis or raise it"
            )
        if report.peer_id in self._services or self._service_total < self._max_services:
            return None
        self._spare_records()
        if self._service_total < self._max_services:
            return None
        return RegistryFullError(
            f"the embedded registry holds {self._max_services} services, its bound; use Redis or raise it"
        )

    def _spare_records(self) -> None:
        """Forget the Frontier that has ended first of those with records; there is room for others in a moment."""
        if len(self._slices):
            return
        now = self._now()
        ended = [e for e in self._entries.values() if not e.alive(now, self._lease) and self._held_of(e)]
        if ended:
            self._displaced += 1
            self._forget(min(ended, key=lambda entry: entry.ended(self._lease)), "its records made room for others")

    def _held_of(self, entry: Entry) -> int:
        held = self._held.get((entry.frontier_id, entry.generation))
        return len(held.edges) + len(held.services) if held is not None else 0

    def _record(self, holder: _Holder, report: Report, peer: Peer | None) -> None:
        if report.kind.of_edge:
            self._record_edge(holder, report, peer)
        else:
            self._record_service(holder, report, peer)

    def _record_edge(self, holder: _Holder, report: Report, peer: Peer | None) -> None:
        name, edge_id = holder.claim.frontier_id, report.peer_id
        stored = self._edges.get(edge_id)
        if stored is not None and not self._counts(stored):
            stored = None
        holder.elsewhere.discard(edge_id)
        if peer is None:
            if (
                stored is not None
                and stored.frontier_id == name
                and (not report.addr or stored.addr in ("", report.addr))
            ):
                del self._edges[edge_id]
                self._held_by(name).edges.discard(edge_id)
                self._feed.publish([Change(ChangeKind.EDGE_OFFLINE, name, edge_id, stored.addr)])
            return
        fresh = report.kind is ReportKind.EDGE_ONLINE
        if stored is not None:
            repeated = not fresh or (report.online_at and stored.addr == peer.addr)
            if stored.frontier_id == name and repeated:
                return
            newer = not fresh or (report.online_at and stored.update_time >= report.online_at)
            if newer and stored.frontier_id != name and self._is_alive(stored.frontier_id):
                holder.elsewhere.add(edge_id)
                return
            if stored.frontier_id != name:
                other = self._holders.get(stored.frontier_id)
                if other is not None and edge_id in other.table.edges:
                    other.elsewhere.add(edge_id)
                self._held_by(stored.frontier_id).edges.discard(edge_id)
        record = EdgeRecord(edge_id, name, peer.addr, max(peer.since, holder.claim.born))
        self._edges[edge_id] = record
        self._held_by(name).edges.add(edge_id)
        self._feed.publish([Change(ChangeKind.EDGE_ONLINE, name, edge_id, peer.addr, "", record.update_time)])

    def _record_service(self, holder: _Holder, report: Report, peer: Peer | None) -> None:
        name, service_id = holder.claim.frontier_id, report.peer_id
        stored = known = self._services.get(service_id, {}).get(name)
        if stored is not None and not self._counts(stored):
            stored = None
        if peer is None:
            if stored is not None and (not report.addr or stored.addr in ("", report.addr)):
                self._remove_service(stored)
                self._feed.publish([Change(ChangeKind.SERVICE_OFFLINE, name, service_id, stored.addr, stored.service)])
            return
        if stored is not None and report.kind is not ReportKind.SERVICE_ONLINE:
            return
        if known is None:
            self._service_total += 1
        record = ServiceRecord(service_id, peer.service, name, peer.addr, max(peer.since, holder.claim.born))
        self._services.setdefault(service_id, {})[name] = record
        self._held_by(name).services.add(service_id)
        self._feed.publish(
            [Change(ChangeKind.SERVICE_ONLINE, name, service_id, peer.addr, peer.service, record.update_time)]
        )

    def _remove_service(self, record: ServiceRecord) -> None:
        records = self._services[record.service_id]
        del records[record.frontier_id]
        if not records:
            del self._services[record.service_id]
        self._service_total -= 1
        if record.frontier_id in self._entries:
            self._held_by(record.frontier_id).services.discard(record.service_id)

    def _sync(self, holder: _Holder) -> Job:
        """What was not named leaves the table, and then the records."""
        for gone in holder.table.sync_end():
            holder.elsewhere.difference_update(gone)
            yield PART // 10 + len(gone)
        return (yield from self._sweep(holder))

    def _look_elsewhere(self, holder: _Holder) -> Job:
        """Take back what another Frontier had and has no more."""
        for edge_id in list(holder.elsewhere):
            peer = holder.table.edges.get(edge_id)
            if self._holder(holder.claim) is holder and edge_id in holder.elsewhere and peer is not None:
                self._record(holder, Report(ReportKind.EDGE_HEARTBEAT, edge_id, peer.addr), peer)
            yield 1
        holder.elsewhere &= holder.table.edges.keys()
        return 0

    def _sweep(self, holder: _Holder) -> Job:
        """Remove records of peers that the holder's table does not have."""
        removed, held = 0, self._held_by(holder.claim.frontier_id)
        for ids, table, kind, record in (
            (held.services, holder.table.services, ReportKind.SERVICE_OFFLINE, self._record_service),
            (held.edges, holder.table.edges, ReportKind.EDGE_OFFLINE, self._record_edge),
        ):
            for part in ids.parts():
                for peer_id in part:
                    if self._holder(holder.claim) is not holder:
                        return removed
                    if peer_id not in table:
                        record(holder, Report(kind, peer_id), None)
                        removed += 1
                        yield 1
                yield len(part) // 10
        return removed

    def _drop(self, frontier_id: str, generation: int) -> None:
        """Remove the records of a process that is no more; they do not count from this moment on."""
        held = self._held.pop((frontier_id, generation), None)
        if held is not None and (len(held.edges) or len(held.services)):
            self._slices.run(self._clear(frontier_id, held))

    def _clear(self, frontier_id: str, held: _Held) -> Job:
        for service_id in held.services:
            service = self._services.get(service_id, {}).get(frontier_id)
            if service is not None and not self._counts(service):
                self._remove_service(service)
                self._tell(ChangeKind.SERVICE_OFFLINE, service)
            yield 1
        for edge_id in held.edges:
            edge = self._edges.get(edge_id)
            if edge is not None and edge.frontier_id == frontier_id and not self._counts(edge):
                del self._edges[edge_id]
                self._tell(ChangeKind.EDGE_OFFLINE, edge)
            yield 1
        return len(held.services) + len(held.edges)

    def _counts(self, record: EdgeRecord | ServiceRecord) -> bool:
        """Whether a record is one of the present process of its Frontier."""
        entry = self._entries.get(record.frontier_id)
        held = self._held.get((record.frontier_id, entry.generation)) if entry is not None else None
        if held is None:
            return False
        if isinstance(record, EdgeRecord):
            return record.edge_id in held.edges
        return record.service_id in held.services

    def _tell(self, kind: ChangeKind, record: EdgeRecord | ServiceRecord) -> None:
        if isinstance(record, EdgeRecord):
            change = Change(kind, record.frontier_id, record.edge_id, record.addr)
        else:
            change = Change(kind, record.frontier_id, record.service_id, record.addr, record.service)
        self._feed.publish([change])

    def _tidy(self) -> None:
        now = self._now()
        for entry in list(self._entries.values()):
            if entry.forgotten(now, self._lease):
                self._forget(entry, "the frontier was silent for so long that it was forgotten")
        moment = self._clock.seconds()
        for holder in list(self._holders.values()):
            if not holder.synced and moment - holder.claimed_at >= self._lease.naming:
                holder.synced = True
                self._slices.run(self._sweep(holder))
        self._refresh()

    def _refresh(self) -> None:
        """Tell who came to life and whose life ended."""
        now = self._now()
        alive = {name: entry.record(True) for name, entry in self._entries.items() if entry.alive(now, self._lease)}
        before, self._alive = self._alive, alive
        self._feed.publish(differences(before, alive))

    def _changed(self, frontier_id: str) -> None:
        """The same for one Frontier."""
        entry, before = self._entries.get(frontier_id), self._alive.pop(frontier_id, None)
        now = None
        if entry is not None and entry.alive(self._now(), self._lease):
            now = self._alive[frontier_id] = entry.record(True)
        old, new = ({frontier_id: record} if record is not None else {} for record in (before, now))
        self._feed.publish(differences(old, new))

    def _edge(self, edge_id: int) -> EdgeRecord | None:
        record = self._edges.get(edge_id)
        live = record is not None and self._is_alive(record.frontier_id) and self._counts(record)
        return record if live else None

    def _frontier_of(self, edge_id: int) -> FrontierRecord | None:
        record = self._edge(edge_id)
        if record is None:
            return None
        entry = self._entries[record.frontier_id]
        return entry.record(True) if entry.sb else None

    def _listed(self) -> list[FrontierRecord]:
        now = self._now()
        entries = sorted(self._entries.values(), key=lambda entry: entry.number)
        return [entry.record(entry.alive(now, self._lease)) for entry in entries if entry.listed(now, self._lease)]

    def _listed_one(self, frontier_id: str) -> FrontierRecord | None:
        now, entry = self._now(), self._entries.get(frontier_id)
        if entry is None or not entry.listed(now, self._lease):
            return None
        return entry.record(entry.alive(now, self._lease))

    def _service(self, service_id: int) -> ServiceRecord | None:
        known = self._services.get(service_id, {}).values()
        records = [record for record in known if self._is_alive(record.frontier_id) and self._counts(record)]
        return max(records, key=lambda record: (record.update_time, record.frontier_id), default=None)

    def _counts_of(self, entry: Entry) -> Counts:
        if not entry.alive(self._now(), self._lease):
            return Counts(0, 0, 0)
        held = self._held.get((entry.frontier_id, entry.generation), _Held())
        return Counts(1, len(held.edges), len(held.services))

    def _walk(self, cursor: int, part: Callable[[_Held], WalkableIds], count: int) -> tuple[list[tuple[int, str]], int]:
        """About ``count`` identities with their Frontiers from ``cursor`` on, and where the next step begins."""
        number, inner = decode_cursor(cursor)
        now = self._now()
        entries = sorted(
            (e for e in self._entries.values() if e.number >= number and e.alive(now, self._lease)),
            key=lambda entry: entry.number,
        )
        found: list[tuple[int, str]] = []
        for entry in entries:
            if len(found) >= count:
                return found, encode_cursor(entry.number, 0)
            start = inner if entry.number == number else 0
            ids, rest = part(self._held_by(entry.frontier_id)).step(start, count - len(found))
            found += [(peer_id, entry.frontier_id) for peer_id in ids]
            if rest:
                return found, encode_cursor(entry.number, rest)
        return found, 0
