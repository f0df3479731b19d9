"""The records of the embedded registry: who holds which edge and which service, and what a claim's word changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from frontlas_tx.registry.directory import Entry, decode_cursor, encode_cursor
from frontlas_tx.registry.errors import RegistryError, RegistryFullError
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.peers import PART, Peer, PeerTable
from frontlas_tx.registry.records import Change, ChangeKind, Claim, EdgeRecord, Report, ReportKind, ServiceRecord
from frontlas_tx.registry.slices import Job, Slices
from frontlas_tx.registry.walkable import WalkableIds


@dataclass(slots=True, eq=False)
class Holder:
    """A claim with what it told, since when, and when it last spoke (seconds).

    ``moved_away`` are its edges that another Frontier has by now, ``named`` says that it names all that is live.
    """

    claim: Claim
    table: PeerTable
    started: float
    spoke: float
    moved_away: set[int] = field(default_factory=set)
    named: bool = False


@dataclass(slots=True, eq=False)
class Members:
    """The recorded peers of one process of one Frontier."""

    edges: WalkableIds = field(default_factory=WalkableIds)
    services: WalkableIds = field(default_factory=WalkableIds)

    @property
    def size(self) -> int:
        """Peers of both kinds."""
        return len(self.edges) + len(self.services)


NOBODY = Members()


class MemoryRecords:
    """The records of all Frontiers.

    ``entries`` and ``holders`` are those of the registry, by Frontier; ``alive`` says whether an entry's lease runs,
    ``spare`` forgets what has ended because there is no room left.
    """

    def __init__(
        self,
        entries: dict[str, Entry],
        holders: dict[str, Holder],
        alive: Callable[[Entry], bool],
        feed: ChangeFeed,
        slices: Slices,
        max_edges: int,
        max_services: int,
        spare: Callable[[], None],
    ) -> None:
        self._entries = entries
        self._holders = holders
        self._alive = alive
        self._feed = feed
        self._slices = slices
        self._max_edges = max_edges
        self._max_services = max_services
        self._spare = spare
        self.edges: dict[int, EdgeRecord] = {}
        self.services: dict[int, dict[str, ServiceRecord]] = {}
        self.service_total = 0
        self._members: dict[tuple[str, int], Members] = {}

    def _is_alive(self, frontier_id: str) -> bool:
        entry = self._entries.get(frontier_id)
        return entry is not None and self._alive(entry)

    def members(self, entry: Entry) -> Members:
        """The recorded peers of the present process of a Frontier."""
        return self._members.get((entry.frontier_id, entry.generation), NOBODY)

    def _members_of(self, frontier_id: str) -> Members:
        return self._members.setdefault((frontier_id, self._entries[frontier_id].generation), Members())

    def room(self, report: Report) -> RegistryError | None:
        """Why no peer more can be recorded, None if one can."""
        if report.kind.ends:
            return None
        of_edge, most = report.kind.of_edge, self._max_edges if report.kind.of_edge else self._max_services
        if report.peer_id in (self.edges if of_edge else self.services) or self._size(of_edge) < most:
            return None
        self._spare()
        if self._size(of_edge) < most:
            return None
        what = "edges" if of_edge else "services"
        return RegistryFullError(f"the embedded registry holds {most} {what}, its bound; use Redis or raise it")

    def _size(self, of_edge: bool) -> int:
        return len(self.edges) if of_edge else self.service_total

    def record(self, holder: Holder, report: Report) -> None:
        """Record what a holder's table has taken."""
        peer = holder.table.of(report.kind).get(report.peer_id)
        if report.kind.of_edge:
            self._record_edge(holder, report, peer)
        else:
            self._record_service(holder, report, peer)

    def _record_edge(self, holder: Holder, report: Report, peer: Peer | None) -> None:
        name, edge_id = holder.claim.frontier_id, report.peer_id
        stored = self.edges.get(edge_id)
        if stored is not None and not self._is_current(stored):
            stored = None
        holder.moved_away.discard(edge_id)
        if peer is None:
            if (
                stored is not None
                and stored.frontier_id == name
                and (not report.addr or stored.addr in ("", report.addr))
            ):
                del self.edges[edge_id]
                self._members_of(name).edges.discard(edge_id)
                self._feed.publish([Change(ChangeKind.EDGE_OFFLINE, name, edge_id, stored.addr)])
            return
        fresh = report.kind is ReportKind.EDGE_ONLINE
        if stored is not None:
            repeated = not fresh or (report.online_at and stored.addr == peer.addr)
            if stored.frontier_id == name and repeated:
                return
            newer = not fresh or (report.online_at and stored.update_time >= report.online_at)
            if newer and stored.frontier_id != name and self._is_alive(stored.frontier_id):
                holder.moved_away.add(edge_id)
                return
            if stored.frontier_id != name:
                other = self._holders.get(stored.frontier_id)
                if other is not None and edge_id in other.table.edges:
                    other.moved_away.add(edge_id)
                self._members_of(stored.frontier_id).edges.discard(edge_id)
        record = EdgeRecord(edge_id, name, peer.addr, max(peer.since, holder.claim.born), peer.meta)
        self.edges[edge_id] = record
        self._members_of(name).edges.add(edge_id)
        self._feed.publish([Change(ChangeKind.EDGE_ONLINE, name, edge_id, peer.addr, "", record.update_time)])

    def _record_service(self, holder: Holder, report: Report, peer: Peer | None) -> None:
        name, service_id = holder.claim.frontier_id, report.peer_id
        stored = known = self.services.get(service_id, {}).get(name)
        if stored is not None and not self._is_current(stored):
            stored = None
        if peer is None:
            if stored is not None and (not report.addr or stored.addr in ("", report.addr)):
                self._remove_service(stored)
                self._feed.publish([Change(ChangeKind.SERVICE_OFFLINE, name, service_id, stored.addr, stored.service)])
            return
        if stored is not None and report.kind is not ReportKind.SERVICE_ONLINE:
            return
        if known is None:
            self.service_total += 1
        record = ServiceRecord(service_id, peer.service, name, peer.addr, max(peer.since, holder.claim.born))
        self.services.setdefault(service_id, {})[name] = record
        self._members_of(name).services.add(service_id)
        self._feed.publish(
            [Change(ChangeKind.SERVICE_ONLINE, name, service_id, peer.addr, peer.service, record.update_time)]
        )

    def _remove_service(self, record: ServiceRecord) -> None:
        records = self.services[record.service_id]
        del records[record.frontier_id]
        if not records:
            del self.services[record.service_id]
        self.service_total -= 1
        if record.frontier_id in self._entries:
            self._members_of(record.frontier_id).services.discard(record.service_id)

    def sync(self, holder: Holder) -> Job:
        """What was not named leaves the table, and then the records."""
        for gone in holder.table.sync_end():
            holder.moved_away.difference_update(gone)
            yield PART // 10 + len(gone)
        return (yield from self.sweep(holder))

    def look_for_moved(self, holder: Holder) -> Job:
        """Take back what another Frontier had and has no more."""
        for edge_id in list(holder.moved_away):
            peer = holder.table.edges.get(edge_id)
            if self._holds(holder) and edge_id in holder.moved_away and peer is not None:
                self._record_edge(holder, Report(ReportKind.EDGE_HEARTBEAT, edge_id, peer.addr), peer)
            yield 1
        holder.moved_away &= holder.table.edges.keys()
        return 0

    def sweep(self, holder: Holder) -> Job:
        """Remove records of peers that the holder's table does not have."""
        removed, held = 0, self._members_of(holder.claim.frontier_id)
        for ids, table, kind, record in (
            (held.services, holder.table.services, ReportKind.SERVICE_OFFLINE, self._record_service),
            (held.edges, holder.table.edges, ReportKind.EDGE_OFFLINE, self._record_edge),
        ):
            for part in ids.parts():
                for peer_id in part:
                    if not self._holds(holder):
                        return removed
                    if peer_id not in table:
                        record(holder, Report(kind, peer_id), None)
                        removed += 1
                        yield 1
                yield len(part) // 10
        return removed

    def _holds(self, holder: Holder) -> bool:
        return self._holders.get(holder.claim.frontier_id) is holder

    def drop(self, frontier_id: str, generation: int) -> None:
        """Remove the records of a process that is no more; they do not count from this moment on."""
        held = self._members.pop((frontier_id, generation), None)
        if held is not None and held.size:
            self._slices.run(self._clear(frontier_id, held))

    def _clear(self, frontier_id: str, held: Members) -> Job:
        for service_id in held.services:
            service = self.services.get(service_id, {}).get(frontier_id)
            if service is not None and not self._is_current(service):
                self._remove_service(service)
                self._tell(ChangeKind.SERVICE_OFFLINE, service)
            yield 1
        for edge_id in held.edges:
            edge = self.edges.get(edge_id)
            if edge is not None and edge.frontier_id == frontier_id and not self._is_current(edge):
                del self.edges[edge_id]
                self._tell(ChangeKind.EDGE_OFFLINE, edge)
            yield 1
        return held.size

    def _is_current(self, record: EdgeRecord | ServiceRecord) -> bool:
        """Whether a record is one of the present process of its Frontier."""
        entry = self._entries.get(record.frontier_id)
        if entry is None:
            return False
        held = self.members(entry)
        return record.edge_id in held.edges if isinstance(record, EdgeRecord) else record.service_id in held.services

    def _is_live(self, record: EdgeRecord | ServiceRecord) -> bool:
        return self._is_alive(record.frontier_id) and self._is_current(record)

    def _tell(self, kind: ChangeKind, record: EdgeRecord | ServiceRecord) -> None:
        if isinstance(record, EdgeRecord):
            change = Change(kind, record.frontier_id, record.edge_id, record.addr)
        else:
            change = Change(kind, record.frontier_id, record.service_id, record.addr, record.service)
        self._feed.publish([change])

    def edge(self, edge_id: int) -> EdgeRecord | None:
        """The edge if it is online."""
        record = self.edges.get(edge_id)
        return record if record is not None and self._is_live(record) else None

    def service(self, service_id: int) -> ServiceRecord | None:
        """The newest record of the service on a live Frontier."""
        records = filter(self._is_live, self.services.get(service_id, {}).values())
        return max(records, key=lambda record: (record.update_time, record.frontier_id), default=None)

    def walk(
        self, cursor: int, part: Callable[[Members], WalkableIds], count: int, frontier_id: str
    ) -> tuple[list[tuple[int, str]], int]:
        """About ``count`` identities with their Frontiers from ``cursor`` on, of one Frontier if it is named,
        and where the next step begins."""
        number, inner = decode_cursor(cursor)
        entries = sorted(
            (
                entry
                for entry in self._entries.values()
                if entry.number >= number and frontier_id in ("", entry.frontier_id) and self._alive(entry)
            ),
            key=lambda entry: entry.number,
        )
        found: list[tuple[int, str]] = []
        for entry in entries:
            if len(found) >= count:
                return found, encode_cursor(entry.number, 0)
            start = inner if entry.number == number else 0
            ids, rest = part(self.members(entry)).step(start, count - len(found))
            found += [(peer_id, entry.frontier_id) for peer_id in ids]
            if rest:
                return found, encode_cursor(entry.number, rest)
        return found, 0
