"""What one claim has in Redis: its peers' records, and what the answers to writing them make necessary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from twisted.internet.interfaces import IReactorTime

from frontier_tx.redis.errors import RedisError
from frontier_tx.redis.interfaces import IRedis, Reply, Request, command
from frontlas_tx.config import Expiration
from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.errors import RegistryError, RegistryUnavailableError
from frontlas_tx.registry.peers import Peer, PeerTable
from frontlas_tx.registry.records import Change, ChangeKind, Claim, EdgeRecord, Report, ReportKind
from frontlas_tx.registry.redis.go_frontiers import GoFrontiers
from frontlas_tx.registry.redis.index import RedisIndex
from frontlas_tx.registry.redis.keys import (
    CHANNEL,
    Move,
    decode_edge,
    decode_service,
    edge_key,
    edges_of,
    encode,
    encode_changes,
    encode_edge,
    encode_service,
    service_key,
    services_of,
)
from frontlas_tx.registry.redis.scripts import EDGE_DROP, EDGE_SWAP, EDGE_WRITE, SERVICE_DROP, SERVICE_WRITE

AGAIN = 200_000
"""Peers of one Frontier that are remembered because writing them failed; with more of them all are written again."""
REMOVED = 20_000
"""Removals of one Frontier that are remembered, and for how many seconds: a server that takes over may not have
heard of the last ones."""
REMOVED_FOR = 600.0

Key = tuple[bool, int]
"""Whether a peer is an edge, and its id."""


@dataclass(slots=True, eq=False)
class _FollowUp:
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
            made.append(command("PUBLISH", CHANNEL, b"M" + encode(self.moves)))
        return made


class PeerRecords:
    """The records of one claim's peers in Redis, and how they are made to say what ``table`` says.

    ``table`` is what the Frontier has told, ``moved_away`` its edges that another Frontier has by now,
    ``again`` the peers whose records have to be written again because Redis failed, ``removed`` when the last removals
    were made. ``lost`` says that Redis may lack anything, and ``restored`` counts what it turned out to lack.

    :param moved: is told of an edge, the Frontier it has left, and since when; it says whether that Frontier is here.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        index: RedisIndex,
        go: GoFrontiers,
        claim: Claim,
        entry: Entry,
        life: Expiration,
        table: PeerTable,
        moved: Callable[[int, str, int], bool],
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._index = index
        self._go = go
        self._life = life
        self._moved = moved
        self.claim = claim
        self.entry = entry
        self.table = table
        self.moved_away: set[int] = set()
        self.again: dict[Key, ReportKind] = {}
        self.removed: dict[Key, float] = {}
        self.lost = False
        self.written = 0
        self.restored = 0

    @property
    def edges(self) -> int:
        """Edges that are recorded at this Frontier."""
        return max(0, len(self.table.edges) - len(self.moved_away & self.table.edges.keys()))

    def failed(self, report: Report) -> None:
        """What was reported is not in Redis: write it later."""
        if len(self.again) < AGAIN:
            self.again[report.kind.of_edge, report.peer_id] = report.kind
        else:
            self.lost = True

    def repetition(self, key: Key, kind: ReportKind | None = None) -> Report:
        """What the table says of a peer now; one that came takes its record from who has seen it before (``kind``)."""
        of_edge, peer_id = key
        peer = (self.table.edges if of_edge else self.table.services).get(peer_id)
        if peer is None:
            return Report(ReportKind.EDGE_OFFLINE if of_edge else ReportKind.SERVICE_OFFLINE, peer_id)
        if kind is None or not kind.begins:
            kind = ReportKind.EDGE_HEARTBEAT if of_edge else ReportKind.SERVICE_HEARTBEAT
        return Report(kind, peer_id, peer.addr, peer.service, peer.since, peer.meta)

    async def write(self, reports: Sequence[Report], before: int = 0) -> list[RegistryError | None]:
        """Write reports on different peers; ``before`` limits removals to records older than that follow_up."""
        if not reports:
            return []
        self.written += len(reports)
        replies = await self._redis.batch([self._request(report, before) for report in reports])
        follow_up = _FollowUp()
        problems: list[RegistryError | None] = []
        conflicts: list[tuple[Report, bytes]] = []
        for report, reply in zip(reports, replies, strict=True):
            if isinstance(reply, RedisError):
                problems.append(RegistryUnavailableError(str(reply)))
                self.failed(report)
                continue
            problems.append(None)
            key = (report.kind.of_edge, report.peer_id)
            uncertain = self.again.pop(key, None)
            self.removed.pop(key, None)
            if report.kind.ends:
                self._remember_removal(key)
            if report.kind.of_edge:
                self._edge_written(report, reply, follow_up, conflicts)
                if uncertain is not None and uncertain.begins and not report.kind.ends and reply[0] == 1:
                    # It was written after all, and nobody knows who had the edge before.
                    follow_up.moves.append(("", report.peer_id, max(report.online_at, self.claim.born)))
            else:
                self._service_written(report, reply, follow_up)
        for report, text in conflicts:
            await self._resolve(report, text, follow_up)
        for reply in await self._redis.batch(follow_up.requests()):
            if isinstance(reply, RedisError):
                for report in reports:
                    self.failed(report)
        return problems

    def _remember_removal(self, key: Key) -> None:
        moment = self._clock.seconds()
        self.removed[key] = moment
        for oldest in list(islice(self.removed, 2)):
            if len(self.removed) > REMOVED or self.removed[oldest] < moment - REMOVED_FOR:
                del self.removed[oldest]

    def _request(self, report: Report, before: int) -> Request:
        name, born, edge = self.claim.frontier_id, self.claim.born, report.kind.of_edge
        key = edge_key(report.peer_id) if edge else service_key(report.peer_id)
        if report.kind.ends:
            return (EDGE_DROP if edge else SERVICE_DROP)(key, name, report.addr, before)
        # A peer that went offline after this report was taken in is written and then removed.
        peer = self.table.of(report.kind).get(report.peer_id) or Peer(
            report.addr, report.online_at or self._index.now // 1000, report.service, report.meta
        )
        since, mode = max(peer.since, born), "beat" if report.kind.beats else "sync" if report.online_at else "online"
        if edge:
            record = encode_edge(name, peer.addr, since, peer.meta)
            return EDGE_WRITE(key, record, self._life.edge_life, name, mode, born, peer.addr)
        record = encode_service(peer.service, name, peer.addr, since)
        return SERVICE_WRITE(key, name, record, self._life.service_meta, mode, born)

    def _edge_written(
        self, report: Report, reply: Reply, follow_up: _FollowUp, conflicts: list[tuple[Report, bytes]]
    ) -> None:
        edge_id, mine = report.peer_id, edges_of(self.entry)
        if report.kind is ReportKind.EDGE_OFFLINE:
            if reply == 0:
                return
            follow_up.remove.setdefault(mine, []).append(edge_id)
            self.moved_away.discard(edge_id)
            gone = decode_edge(edge_id, reply)
            if gone is not None:
                follow_up.changes.append(Change(ChangeKind.EDGE_OFFLINE, gone.frontier_id, edge_id, gone.addr))
            return
        code = reply[0]
        self.restored += code == 0 and report.kind.beats and edge_id not in self.moved_away
        if code == 3:
            conflicts.append((report, reply[1]))
            return
        self.moved_away.discard(edge_id)
        follow_up.add.setdefault(mine, []).append(edge_id)
        if code != 1:
            self._online(edge_id, follow_up)
        if code == 2:
            self._taken(edge_id, reply[1], follow_up)

    def _online(self, edge_id: int, follow_up: _FollowUp) -> None:
        peer, name = self.table.edges.get(edge_id), self.claim.frontier_id
        if peer is not None:
            since = max(peer.since, self.claim.born)
            follow_up.changes.append(Change(ChangeKind.EDGE_ONLINE, name, edge_id, peer.addr, "", since))

    def _taken(self, edge_id: int, text: bytes, follow_up: _FollowUp) -> None:
        """The edge was recorded at another Frontier: it is no member there any more."""
        old = decode_edge(edge_id, text)
        if old is None or old.frontier_id == self.claim.frontier_id:
            return
        other = self._index.get(old.frontier_id)
        if other is not None:
            follow_up.remove.setdefault(edges_of(other), []).append(edge_id)
            peer = self.table.edges.get(edge_id)
            since = max(peer.since if peer else 0, self.claim.born)
            if not self._moved(edge_id, old.frontier_id, since):
                follow_up.moves.append((old.frontier_id, edge_id, since))

    async def _resolve(self, report: Report, text: bytes, follow_up: _FollowUp) -> None:
        """A repetition met the record of another Frontier: whoever saw the edge last keeps it, if it is
        alive."""
        edge_id, mine = report.peer_id, edges_of(self.entry)
        old = decode_edge(edge_id, text)
        if old is not None and (report.kind.beats or old.update_time >= report.online_at) and await self._holds(old):
            reply = 0
        else:
            key, record, life, *_ = self._request(report, 0).args
            [reply] = await self._redis.batch([EDGE_SWAP(key, text, record, life)])
        if reply != 1:
            if edge_id in self.table.edges:
                self.moved_away.add(edge_id)
                follow_up.remove.setdefault(mine, []).append(edge_id)
            return
        self.moved_away.discard(edge_id)
        follow_up.add.setdefault(mine, []).append(edge_id)
        self._online(edge_id, follow_up)
        self._taken(edge_id, text, follow_up)

    async def _holds(self, edge: EdgeRecord) -> bool:
        """Whether the Frontier that a record names is alive, and the record one of its present process."""
        entry = self._index.get(edge.frontier_id)
        if entry is None:
            return await self._go.alive(edge.frontier_id) is not None
        return self._index.alive(entry) and edge.update_time >= entry.born

    def _service_written(self, report: Report, reply: Reply, follow_up: _FollowUp) -> None:
        service_id, mine = report.peer_id, services_of(self.entry)
        if report.kind is ReportKind.SERVICE_OFFLINE:
            if reply == 0:
                return
            follow_up.remove.setdefault(mine, []).append(service_id)
            gone = decode_service(service_id, reply)
            if gone is not None:
                follow_up.changes.append(
                    Change(ChangeKind.SERVICE_OFFLINE, self.claim.frontier_id, service_id, gone.addr, gone.service)
                )
            return
        follow_up.add.setdefault(mine, []).append(service_id)
        self.restored += reply[0] == 0 and report.kind.beats
        peer = self.table.services.get(service_id)
        if reply[0] != 1 and peer is not None:
            follow_up.changes.append(
                Change(
                    ChangeKind.SERVICE_ONLINE,
                    self.claim.frontier_id,
                    service_id,
                    peer.addr,
                    peer.service,
                    max(peer.since, self.claim.born),
                )
            )
