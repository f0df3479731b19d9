"""What one claim has in Redis: its peers' records, and what the answers to writing them make necessary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from frontlas_tx.redis.errors import RedisError
from frontlas_tx.redis.interfaces import IRedis, Reply, Request, command
from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.errors import RegistryError, RegistryUnavailableError
from frontlas_tx.registry.peers import Peer, PeerTable
from frontlas_tx.registry.records import Change, ChangeKind, Claim, Report, ReportKind
from frontlas_tx.registry.redis.keys import (
    CHANNEL,
    Move,
    decode_edge,
    decode_service,
    edge_key,
    edges_of,
    encode_changes,
    encode_edge,
    encode_moves,
    encode_service,
    service_key,
    services_of,
)
from frontlas_tx.registry.redis.scripts import EDGE_DROP, EDGE_SWAP, EDGE_WRITE, SERVICE_DROP, SERVICE_WRITE

UNFINISHED = 200_000
"""Removals of one Frontier that failed and are remembered to be made later."""
REMOVED = 20_000
"""Removals of one Frontier that are remembered, and for how many seconds: a server that takes over may not have
heard of the last ones."""
REMOVED_FOR = 600.0


@dataclass(frozen=True, slots=True)
class Lives:
    """Lives of records in seconds."""

    edge: int = 86_400
    service: int = 86_400


class IHeldHost(Protocol):
    """What is needed of the registry around it."""

    @property
    def epoch(self) -> str:
        """Names the time since Redis last lost its data; empty while that is not known."""

    def seconds(self) -> int:
        """The store's time."""

    def entry(self, frontier_id: str) -> Entry | None:
        """The entry of another Frontier."""

    def holder(self, frontier_id: str) -> Entry | None:
        """The same if it is alive, else None."""

    async def held_elsewhere(self, frontier_id: str) -> bool:
        """Whether a Frontier that is not in the index is alive (with a Frontlas of the reference)."""

    def moved_away(self, edge_id: int, frontier_id: str, since: int) -> bool:
        """An edge was taken from that Frontier at ``since``; False if another Frontlas has to be told."""


@dataclass(slots=True, eq=False)
class _Second:
    """What the answers to a batch make necessary: members to add and to remove by set, changes to
    tell, and edges that another Frontlas has to be told of because they left its Frontiers."""

    add: dict[str, list[int]] = field(default_factory=dict)
    remove: dict[str, list[int]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    def requests(self) -> list[Request]:
        """The commands of the second round trip."""
        made = [command("SREM", key, *members) for key, members in self.remove.items()]
        made += [command("SADD", key, *members) for key, members in self.add.items()]
        if self.changes:
            made.append(command("PUBLISH", CHANNEL, encode_changes(self.changes)))
        if self.moves:
            made.append(command("PUBLISH", CHANNEL, encode_moves(self.moves)))
        return made


class Held:
    """The records of one claim's peers.

    ``table`` is what the Frontier has told, ``elsewhere`` are its edges whose records name another one,
    ``unfinished`` removals that failed, ``removed`` when the last ones were made.  ``dirty`` says that Redis may
    lack something and a repair has to come, ``named`` that the table has all that is live.
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
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._host = host
        self._lives = lives
        self.claim = claim
        self.entry = entry
        self.table = table
        self.elsewhere: set[int] = set()
        self.unfinished: dict[tuple[bool, int], Report] = {}
        self.removed: dict[tuple[bool, int], float] = {}
        self.dirty = False
        self.named = False
        self.written = 0
        self.restored = 0
        self.batches = 0

    def failed(self, report: Report) -> None:
        """What was reported is not in Redis: repair it later.  What has gone is in no table, so it is noted
        here."""
        self.dirty = True
        key = (report.kind.of_edge, report.peer_id)
        if not ends(report):
            self.unfinished.pop(key, None)
        elif len(self.unfinished) < UNFINISHED:
            self.unfinished[key] = report

    async def write(self, reports: Sequence[Report], before: int = 0) -> list[RegistryError | None]:
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
                self.failed(report)
                continue
            problems.append(None)
            key = (report.kind.of_edge, report.peer_id)
            self.unfinished.pop(key, None)
            self.removed.pop(key, None)
            if ends(report):
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
        if ends(report):
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
        return known or Peer(report.addr, report.online_at or self._host.seconds(), report.service)

    def _edge_written(
        self, report: Report, reply: Reply, second: _Second, conflicts: list[tuple[Report, bytes]]
    ) -> None:
        edge_id, mine = report.peer_id, edges_of(self.entry)
        if report.kind is ReportKind.EDGE_OFFLINE:
            if reply == 0:
                return
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
            peer = self.table.edges.get(edge_id)
            since = max(peer.since if peer else 0, self.claim.born)
            if not self._host.moved_away(edge_id, old.frontier_id, since):
                second.moves.append((old.frontier_id, edge_id, since))

    def _is_elsewhere(self, edge_id: int) -> None:
        if edge_id in self.table.edges:
            self.elsewhere.add(edge_id)

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
                self._is_elsewhere(edge_id)
                return
        peer = self._peer(report)
        record = encode_edge(self.claim.frontier_id, peer.addr, max(peer.since, self.claim.born))
        [reply] = await self._redis.batch([EDGE_SWAP(edge_key(edge_id), text, record, self._lives.edge)])
        if reply != 1:
            self._is_elsewhere(edge_id)
            return
        self.elsewhere.discard(edge_id)
        second.add.setdefault(edges_of(self.entry), []).append(edge_id)
        self._online(edge_id, second)
        self._taken(edge_id, text, second)

    def _service_written(self, report: Report, reply: Reply, second: _Second) -> None:
        service_id, mine = report.peer_id, services_of(self.entry)
        if report.kind is ReportKind.SERVICE_OFFLINE:
            if reply == 0:
                return
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


def ends(report: Report) -> bool:
    """Whether a peer is gone."""
    return report.kind in (ReportKind.EDGE_OFFLINE, ReportKind.SERVICE_OFFLINE)


def _mode(report: Report) -> str:
    if report.kind in (ReportKind.EDGE_HEARTBEAT, ReportKind.SERVICE_HEARTBEAT):
        return "beat"
    return "sync" if report.online_at else "online"
