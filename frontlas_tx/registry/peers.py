"""What one claim has told about its Frontier's peers: the memory from which a store that lost data is
healed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from frontlas_tx.registry.errors import InvalidReportError, RegistryError, RegistryFullError
from frontlas_tx.registry.records import MAX_PEER_ID, Report, ReportKind


@dataclass(frozen=True, slots=True)
class Peer:
    """One live peer: where it connects from, when it came online (seconds), and the name if it is a
    service."""

    addr: str
    since: int
    service: str = ""


class PeerTable:
    """The live peers of one claim, at most ``limit`` of either kind.

    ``sync_begin`` and ``sync_end`` bracket a naming of everything live; ``sync_end`` gives what was not
    named.
    """

    def __init__(self, limit: int = 1_000_000) -> None:
        self.limit = limit
        self.edges: dict[int, Peer] = {}
        self.services: dict[int, Peer] = {}
        self._unnamed: tuple[set[int], set[int]] | None = None

    @property
    def size(self) -> int:
        """Peers of both kinds."""
        return len(self.edges) + len(self.services)

    @property
    def syncing(self) -> bool:
        """Whether a sync is under way."""
        return self._unnamed is not None

    def of(self, kind: ReportKind) -> dict[int, Peer]:
        """The table that a kind of report is about."""
        return self.edges if kind.of_edge else self.services

    def check(self, report: Report) -> RegistryError | None:
        """Why this report cannot be taken, None if it can."""
        if not 0 < report.peer_id <= MAX_PEER_ID:
            what = "edge" if report.kind.of_edge else "service"
            return InvalidReportError(f"{what} id {report.peer_id} is not valid: ids are 1 to 2^64-1")
        table = self.of(report.kind)
        if len(table) >= self.limit and report.peer_id not in table and not _ends(report.kind):
            what = "edges" if report.kind.of_edge else "services"
            return RegistryFullError(
                f"this frontier has {self.limit} {what}, the most that one may have; add frontiers"
            )
        return None

    def apply(self, report: Report, now: int) -> Report | None:
        """Take in one checked report at ``now`` (seconds).

        Gives what is to be recorded, with address, name and time filled in from memory, or None if the report
        is about a connection that was replaced since.
        """
        table = self.of(report.kind)
        known = table.get(report.peer_id)
        if _ends(report.kind):
            if known is not None and report.addr and known.addr and report.addr != known.addr:
                return None
            table.pop(report.peer_id, None)
            self._named(report)
            return Report(report.kind, report.peer_id, report.addr)
        since = report.online_at or (known.since if known and not _begins(report.kind) else now)
        peer = Peer(
            report.addr or (known.addr if known else ""),
            since,
            report.service or (known.service if known else ""),
        )
        table[report.peer_id] = peer
        self._named(report)
        return Report(report.kind, report.peer_id, peer.addr, peer.service, report.online_at)

    def sync_begin(self) -> None:
        """From now on, remember what is not named."""
        self._unnamed = (set(self.edges), set(self.services))

    def sync_end(self) -> tuple[set[int], set[int]]:
        """End the naming: edges and services that were not named leave the table and are given back."""
        edges, services = self._unnamed or (set(), set())
        self._unnamed = None
        for edge_id in edges:
            self.edges.pop(edge_id, None)
        for service_id in services:
            self.services.pop(service_id, None)
        return edges, services

    def reports(self) -> Iterator[Report]:
        """Everything live, as repetitions (services first, there are few and callers need them)."""
        for service_id, peer in list(self.services.items()):
            yield Report(ReportKind.SERVICE_HEARTBEAT, service_id, peer.addr, peer.service, peer.since)
        for edge_id, peer in list(self.edges.items()):
            yield Report(ReportKind.EDGE_HEARTBEAT, edge_id, peer.addr, "", peer.since)

    def _named(self, report: Report) -> None:
        if self._unnamed is not None:
            self._unnamed[0 if report.kind.of_edge else 1].discard(report.peer_id)


def _ends(kind: ReportKind) -> bool:
    return kind in (ReportKind.EDGE_OFFLINE, ReportKind.SERVICE_OFFLINE)


def _begins(kind: ReportKind) -> bool:
    return kind in (ReportKind.EDGE_ONLINE, ReportKind.SERVICE_ONLINE)
