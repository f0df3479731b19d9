"""What a Frontier has told of its peers: the one truth about them, from which the store is written, and repaired."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from sys import getsizeof

from frontlas_tx.registry.errors import InvalidReportError, RegistryError, RegistryFullError
from frontlas_tx.registry.records import MAX_PEER_ID, Report, ReportKind

PEER_BYTES = 148
"""What a peer takes beside its texts: itself, and its place in a table."""
SHARE = 8
"""How many times what is free the peers of one address may take."""
PART = 500
"""Peers that are looked at in one turn when a sync ends."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One live peer: where it connects from, when it came online (seconds), the name if it is a service, the meta if it
    is an edge."""

    addr: str
    since: int
    service: str = ""
    meta: str = ""

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        texts = self.service or self.meta
        return PEER_BYTES + getsizeof(self.addr) + (getsizeof(texts) if texts else 0)


class PeerBudget:
    """Bytes that all tables of one Frontlas may take together.

    One address (``origin``) takes as much as it likes while a ninth of the rest stays free for others.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.used = 0
        self._by_origin: dict[str, int] = {}

    def take(self, origin: str, size: int) -> bool:
        """Let peers from ``origin`` have ``size`` bytes more; False if there is no room for them."""
        free, own = self.limit - self.used - size, self._by_origin.get(origin, 0) + size
        if free < 0 or own > SHARE * free:
            return False
        self.used += size
        self._by_origin[origin] = own
        return True

    def give(self, origin: str, size: int) -> None:
        """So many bytes are not used any more."""
        self.used -= size
        left = self._by_origin.get(origin, 0) - size
        if left:
            self._by_origin[origin] = left
        else:
            self._by_origin.pop(origin, None)


class PeerTable:
    """The live peers of one claim, at most ``limit`` of either kind, within a budget of bytes that all tables share.

    ``sync_begin`` and ``sync_end`` bracket a naming of everything live; ``sync_end`` gives what was not
    named.
    """

    def __init__(self, limit: int = 1_000_000, budget: PeerBudget | None = None, origin: str = "") -> None:
        self.limit = limit
        self.budget = budget or PeerBudget()
        self.origin = origin
        self.bytes = 0
        self._closed = False
        self.edges: dict[int, Peer] = {}
        self.services: dict[int, Peer] = {}
        self._named: tuple[set[int], set[int]] | None = None

    @property
    def size(self) -> int:
        """Peers of both kinds."""
        return len(self.edges) + len(self.services)

    @property
    def syncing(self) -> bool:
        """Whether a sync is under way."""
        return self._named is not None

    def of(self, kind: ReportKind) -> dict[int, Peer]:
        """The table that a kind of report is about."""
        return self.edges if kind.of_edge else self.services

    def take(self, report: Report, now: int) -> Report | RegistryError | None:
        """Take in one report at ``now`` (seconds).

        Gives what is to be recorded, with address, name and time filled in from memory; None if the report is about a
        connection that was replaced since; or why it cannot be taken, which leaves everything as it was.
        """
        kind, peer_id, table = report.kind, report.peer_id, self.of(report.kind)
        if not 0 < peer_id <= MAX_PEER_ID:
            what = "edge" if kind.of_edge else "service"
            return InvalidReportError(f"{what} id {peer_id} is not valid: ids are 1 to 2^64-1")
        known = table.get(peer_id)
        if kind.ends:
            if known is not None and report.addr and known.addr and report.addr != known.addr:
                return None
            self._drop(table, peer_id)
            if self._named is not None:
                self._named[not kind.of_edge].discard(peer_id)
            return Report(kind, peer_id, report.addr)
        if known is None and len(table) >= self.limit:
            what = "edges" if kind.of_edge else "services"
            return RegistryFullError(
                f"this frontier has {self.limit} {what}, the most that one may have; add frontiers"
            )
        since = report.online_at or (known.since if known and not kind.begins else now)
        if known is None:
            peer = Peer(report.addr, since, report.service, report.meta)
        else:
            peer = Peer(report.addr or known.addr, since, report.service or known.service, report.meta or known.meta)
        growth = peer.size - (known.size if known is not None else 0)
        if growth > 0 and not self._closed and not self.budget.take(self.origin, growth):
            return RegistryFullError(
                f"this frontlas remembers {self.budget.limit} bytes of edges and services, the most that it may; "
                "add another one, or raise frontier_plane.peers_bytes"
            )
        if growth < 0:
            self._give(-growth)
        elif not self._closed:
            self.bytes += growth
        table[peer_id] = peer
        if self._named is not None:
            self._named[not kind.of_edge].add(peer_id)
        return Report(kind, peer_id, peer.addr, peer.service, report.online_at, peer.meta)

    def sync_begin(self) -> None:
        """From now on, remember what is named. It takes the place of a sync that is under way."""
        self._named = (set(), set())

    def sync_end(self) -> Generator[list[int], None, int]:
        """End the naming: edges and services that were not named, and are not reported meanwhile, leave the table.

        Gives the edges that leave in parts, so that others have their turns in between, and returns how many peers
        have left. A sync that begins meanwhile ends it.
        """
        left, named = 0, self._named
        if named is None:
            return 0
        for table, kept in ((self.services, named[1]), (self.edges, named[0])):
            ids = list(table)
            for start in range(0, len(ids), PART):
                gone = [n for n in ids[start : start + PART] if n not in kept and n in table]
                for peer_id in gone:
                    self._drop(table, peer_id)
                left += len(gone)
                yield gone if table is self.edges else []
                if self._named is not named:
                    return left
        self._named = None
        return left

    def close(self) -> None:
        """Give back what the peers have taken of the budget. They stay, for work on them that is under way."""
        self._give(self.bytes)
        self._closed = True

    def _drop(self, table: dict[int, Peer], peer_id: int) -> None:
        peer = table.pop(peer_id, None)
        if peer is not None:
            self._give(peer.size)

    def _give(self, size: int) -> None:
        if not self._closed:
            self.bytes -= size
            self.budget.give(self.origin, size)
