"""The registry inside one process: for a single machine without Redis, and for tests.

Nothing outlives the process.  All bounds are constructor arguments; a full table refuses newcomers with
``RegistryFullError`` and keeps what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count as counter

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from frontier_tx.runtime.deferreds import deferred
from frontlas_tx.registry.base import RegistryBase, stopped
from frontlas_tx.registry.directory import (
    Entry,
    Lease,
    Numbers,
    claimed,
    differences,
    dispensable,
    page_of,
    page_size,
)
from frontlas_tx.registry.errors import (
    FrontierAlreadySetError,
    RegistryError,
    no_room,
)
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.interfaces import IRegistry
from frontlas_tx.registry.memory_records import Holder, MemoryRecords
from frontlas_tx.registry.peers import PeerBudget, PeerTable
from frontlas_tx.registry.records import (
    Claim,
    Counts,
    EdgeRecord,
    FrontierRecord,
    Page,
    Report,
    ServiceRecord,
)
from frontlas_tx.registry.slices import Slices


@implementer(IRegistry)
class MemoryRegistry(RegistryBase):
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
        super().__init__(lease, feed)
        self._clock = clock
        self._max_edges = max_edges
        self._entries: dict[str, Entry] = {}
        self._numbers = Numbers()
        self._holders: dict[str, Holder] = {}
        self._serial = counter(1)
        self._alive: dict[str, FrontierRecord] = {}
        self._upkeep = LoopingCall(self._tidy)
        self._upkeep.clock = clock
        self._reports = 0
        self._refused = 0
        self._displaced = 0
        slices = self._slices = Slices(clock)
        self._records = MemoryRecords(
            self._entries,
            self._holders,
            self._is_alive,
            self._feed,
            slices,
            max_edges,
            max_services,
            self._spare_records,
        )
        self._budget = PeerBudget(peers_bytes)
        self.store_times = None

    def start(self) -> Deferred[None]:
        if self._stopped:
            return fail(stopped())
        if not self._upkeep.running:
            self._upkeep.start(1.0, now=False)
            self._set_ready(True, "")
        return succeed(None)

    def stop(self) -> Deferred[None]:
        if self._upkeep.running:
            self._upkeep.stop()
        self._end()
        return succeed(None)

    # Frontiers

    @deferred
    async def claim(
        self,
        frontier_id: str,
        advertised_sb_addr: str,
        advertised_eb_addr: str,
        boot_id: str = "",
        on_lost: Callable[[str], None] | None = None,
        probe: Callable[[], Deferred[bool]] | None = None,
        origin: str = "",
        version: str = "",
        started: int = 0,
    ) -> Claim:
        sb, eb, boot = advertised_sb_addr, advertised_eb_addr, boot_id
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
        entry = claimed(current, frontier_id, sb, eb, boot, token, now, number, origin, version, started)
        if current is not None and entry.generation != current.generation:
            self._records.drop(frontier_id, current.generation)
        self._entries[frontier_id] = entry
        returning = current is not None and entry.generation == current.generation
        claim = Claim(
            frontier_id, token, sb, eb, boot, entry.born, bool(entry.respelled), returning, on_lost, probe, origin
        )
        moment = self._clock.seconds()
        former = self._holders.get(frontier_id)
        if former is not None:
            former.table.close()
        self._holders[frontier_id] = Holder(claim, PeerTable(self._max_edges, self._budget, origin), moment, moment)
        self._changed(frontier_id)
        if former is not None:
            former.claim.void("another connection of this frontier took its place")
        return claim

    def _respected(self, frontier_id: str, boot: str) -> Holder | None:
        """The holder of an identity that a newcomer with this boot id does not simply replace."""
        entry, holder = self._entries.get(frontier_id), self._holders.get(frontier_id)
        if entry is None or holder is None or not self._is_alive(entry):
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
        self._records.drop(entry.frontier_id, entry.generation)
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
            return fail(claim.lost_error())
        holder.spoke = self._clock.seconds()
        entry = self._entries[claim.frontier_id]
        self._entries[claim.frontier_id] = replace(entry, renewed=self._now(), left=0, held=holder.table.size)
        self._changed(claim.frontier_id)
        if holder.moved_away:
            self._slices.run(self._records.look_for_moved(holder))
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
            return fail(claim.lost_error())
        holder.spoke = self._clock.seconds()
        outcome: list[RegistryError | None] = []
        now = max(self.seconds(), claim.born)
        for given in reports:
            taken = self._records.room(given) or holder.table.take(given, now)
            outcome.append(taken if isinstance(taken, RegistryError) else None)
            self._reports += outcome[-1] is None
            if isinstance(taken, Report):
                self._records.record(holder, taken)
        return succeed(outcome)

    def sync_begin(self, claim: Claim) -> None:
        holder = self._holder(claim)
        if holder is not None:
            holder.named = True
            holder.table.sync_begin()

    def sync_end(self, claim: Claim) -> Deferred[int]:
        holder = self._holder(claim)
        if holder is None:
            return fail(claim.lost_error())
        return self._slices.run(self._records.sync(holder))

    # Queries

    def frontier_of_edge(self, edge_id: int) -> Deferred[FrontierRecord | None]:
        return succeed(self._frontier_of(edge_id))

    def frontiers_of_edges(self, edge_ids: Sequence[int]) -> Deferred[list[FrontierRecord | None]]:
        return succeed([self._frontier_of(edge_id) for edge_id in edge_ids])

    def edge(self, edge_id: int) -> Deferred[EdgeRecord | None]:
        return succeed(self._records.edge(edge_id))

    def edges(self, edge_ids: Sequence[int]) -> Deferred[list[EdgeRecord | None]]:
        return succeed([self._records.edge(edge_id) for edge_id in edge_ids])

    def edges_page(self, cursor: int, count: int, frontier_id: str = "") -> Deferred[Page[EdgeRecord]]:
        found, rest = self._records.walk(cursor, lambda held: held.edges, page_size(count), frontier_id)
        return succeed(Page(rest, [self._records.edges[edge_id] for edge_id, _name in found]))

    def frontiers(self) -> Deferred[list[FrontierRecord]]:
        return succeed(self._listed())

    def frontiers_by_ids(self, frontier_ids: Sequence[str]) -> Deferred[list[FrontierRecord | None]]:
        return succeed([self._shown(self._entries.get(frontier_id)) for frontier_id in frontier_ids])

    def frontiers_page(self, cursor: int, count: int) -> Deferred[Page[FrontierRecord]]:
        numbered = [(self._entries[record.frontier_id].number, record) for record in self._listed()]
        return succeed(page_of(numbered, cursor, count))

    def service(self, service_id: int) -> Deferred[ServiceRecord | None]:
        return succeed(self._records.service(service_id))

    def services(self, service_ids: Sequence[int]) -> Deferred[list[ServiceRecord | None]]:
        return succeed([self._records.service(service_id) for service_id in service_ids])

    def services_page(self, cursor: int, count: int, frontier_id: str = "") -> Deferred[Page[ServiceRecord]]:
        found, rest = self._records.walk(cursor, lambda held: held.services, page_size(count), frontier_id)
        return succeed(Page(rest, [self._records.services[service_id][name] for service_id, name in found]))

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
        return succeed(self._counts_of(self._entries.get(frontier_id)))

    def seconds(self) -> int:
        return int(self._clock.seconds())

    def check_health(self) -> Deferred[None]:
        return succeed(None)

    def metrics(self) -> dict[str, float]:
        return {
            "frontiers": float(len(self._alive)),
            "edges": float(len(self._records.edges)),
            "services": float(self._records.service_total),
            "reports_total": float(self._reports),
            "claims_refused_total": float(self._refused),
            "frontiers_displaced_total": float(self._displaced),
            "own_bytes": float(self._budget.used),
            **self._feed_metrics(),
        }

    # Inside

    def _now(self) -> int:
        return int(self._clock.seconds() * 1000)

    def _holder(self, claim: Claim) -> Holder | None:
        holder = self._holders.get(claim.frontier_id)
        return holder if holder is not None and holder.claim is claim else None

    def _is_alive(self, entry: Entry) -> bool:
        return entry.alive(self._now(), self._lease)

    def _spare_records(self) -> None:
        """Forget the Frontier that has ended first of those with records; there is room for others in a moment."""
        if len(self._slices):
            return
        ended = [e for e in self._entries.values() if not self._is_alive(e) and self._records.members(e).size]
        if ended:
            self._displaced += 1
            self._forget(min(ended, key=lambda entry: entry.ended(self._lease)), "its records made room for others")

    def _tidy(self) -> None:
        now = self._now()
        for entry in list(self._entries.values()):
            if entry.forgotten(now, self._lease):
                self._forget(entry, "the frontier was silent for so long that it was forgotten")
        moment = self._clock.seconds()
        for holder in list(self._holders.values()):
            if not holder.named and moment - holder.started >= self._lease.naming:
                holder.named = True
                self._slices.run(self._records.sweep(holder))
        self._refresh()

    def _refresh(self) -> None:
        """Tell who came to life and whose life ended."""
        alive = {name: entry.record(True) for name, entry in self._entries.items() if self._is_alive(entry)}
        before, self._alive = self._alive, alive
        self._feed.publish(differences(before, alive))

    def _changed(self, frontier_id: str) -> None:
        """The same for one Frontier."""
        entry, before = self._entries.get(frontier_id), self._alive.pop(frontier_id, None)
        now = None
        if entry is not None and self._is_alive(entry):
            now = self._alive[frontier_id] = entry.record(True)
        old, new = ({frontier_id: record} if record is not None else {} for record in (before, now))
        self._feed.publish(differences(old, new))

    def _frontier_of(self, edge_id: int) -> FrontierRecord | None:
        record = self._records.edge(edge_id)
        if record is None:
            return None
        entry = self._entries[record.frontier_id]
        return entry.record(True) if entry.sb else None

    def _listed(self) -> list[FrontierRecord]:
        entries = sorted(self._entries.values(), key=lambda entry: entry.number)
        return [record for entry in entries if (record := self._shown(entry)) is not None]

    def _shown(self, entry: Entry | None) -> FrontierRecord | None:
        """What lists show of an entry; None where they leave it out."""
        if entry is None or not entry.listed(self._now(), self._lease):
            return None
        return entry.record(self._is_alive(entry))

    def _counts_of(self, entry: Entry | None) -> Counts:
        if entry is None or not self._is_alive(entry):
            return Counts(0, 0, 0)
        held = self._records.members(entry)
        return Counts(1, len(held.edges), len(held.services))
