"""What is asked of the registry in Redis, answered with as few round trips as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime

from frontier_tx.atlas.messages import FRONTIER_ID_BYTES
from frontier_tx.redis.interfaces import IRedis, Reply, Request, command
from frontier_tx.runtime.deferreds import deferred
from frontlas_tx.registry.directory import (
    MAX_FRONTIERS,
    Entry,
    decode_cursor,
    encode_cursor,
    page_of,
    page_size,
)
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.records import Counts, EdgeRecord, FrontierRecord, Page, ServiceRecord
from frontlas_tx.registry.redis.go_frontiers import GoFrontiers
from frontlas_tx.registry.redis.holder import Holder
from frontlas_tx.registry.redis.index import STALE, RedisIndex, ask
from frontlas_tx.registry.redis.keys import (
    INDEX,
    decode_edge,
    decode_service,
    edge_key,
    edges_of,
    service_key,
    services_of,
)
from frontlas_tx.registry.slices import pause

DOUBT = 0.1
"""Seconds after which it is read again before an edge that has a record is called offline."""
PAUSE_AFTER = 200
"""Records of one answer that are read at a time."""
PAGE_TOGETHER = 256
"""Frontiers that are looked at together while a page is filled."""


class RedisQueries:
    """The questions of ``IRegistry``: a base of the registry in Redis.

    What Frontiers have told whose links are here (``holders``) counts more than a record that names them, and does
    without one.
    """

    def __init__(
        self, redis: IRedis, clock: IReactorTime, index: RedisIndex, go: GoFrontiers, holders: dict[str, Holder]
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._index = index
        self._go = go
        self._holders = holders
        self.lookups = 0

    @deferred
    async def frontiers_by_ids(self, frontier_ids: Sequence[str]) -> list[FrontierRecord | None]:
        await self._index.fresh(STALE)
        entries = [self._index.get(name) for name in frontier_ids]
        own = [self._index.shown(entry) if entry is not None else None for entry in entries]
        if all(entries):
            return own
        listed = {record.frontier_id: record for record in self._others()}
        unknown = [name for name in frontier_ids if name not in listed and self._index.get(name) is None]
        # Whoever may be known has a name within these bounds; others are not worth a question.
        likely = [name for name in unknown if len(name) <= FRONTIER_ID_BYTES]
        others = {name: await self._go.listed(name) for name in dict.fromkeys(likely)}
        return [record or listed.get(name) or others.get(name) for record, name in zip(own, frontier_ids, strict=True)]

    @deferred
    async def frontiers_page(self, cursor: int, count: int) -> Page[FrontierRecord]:
        return page_of(await self._numbered(), cursor, count)

    @deferred
    async def edges_page(self, cursor: int, count: int, frontier_id: str = "") -> Page[EdgeRecord]:
        found, rest = await self._step(cursor, count, frontier_id, edges_of)
        edges = await self.edges([edge_id for edge_id, _entry in found])
        pairs = zip(edges, found, strict=True)
        return Page(rest, [edge for edge, (_, entry) in pairs if edge and edge.frontier_id == entry.frontier_id])

    @deferred
    async def services_page(self, cursor: int, count: int, frontier_id: str = "") -> Page[ServiceRecord]:
        found, rest = await self._step(cursor, count, frontier_id, services_of)
        asked = [command("HGET", service_key(service_id), entry.frontier_id) for service_id, entry in found]
        records = [
            (decode_service(service_id, text), entry)
            for (service_id, entry), text in zip(found, await ask(self._redis, *asked), strict=True)
        ]
        return Page(rest, [record for record, entry in records if record and record.update_time >= entry.born])

    @deferred
    async def counts(self) -> Counts:
        return await self._counts_of(None)

    @deferred
    async def counts_of(self, frontier_id: str) -> Counts:
        return await self._counts_of(frontier_id)

    async def _counts_of(self, frontier_id: str | None) -> Counts:
        await self._index.fresh(STALE)
        own = await self._count([e for e in self._index.live() if frontier_id in (None, e.frontier_id)])
        names = [record.frontier_id for record in self._others() if frontier_id in (None, record.frontier_id)]
        others = self._go.counts(names)
        return Counts(own.frontiers + others.frontiers, own.edges + others.edges, own.services + others.services)

    @deferred
    async def frontiers(self) -> list[FrontierRecord]:
        return [record for _number, record in await self._numbered()]

    async def _numbered(self) -> list[tuple[int, FrontierRecord]]:
        await self._index.fresh(STALE)
        return [*self._index.listed(), *enumerate(self._others(), MAX_FRONTIERS + 1)]

    def _others(self) -> list[FrontierRecord]:
        """Frontiers that only a Go Frontlas knows."""
        known = self._index.entries
        return [record for record in self._go.found() if record.frontier_id not in known]

    @deferred
    async def edges(self, edge_ids: Sequence[int]) -> list[EdgeRecord | None]:
        return [edge for edge, _frontier in await self._look_up(edge_ids)]

    @deferred
    async def frontier_of_edge(self, edge_id: int) -> FrontierRecord | None:
        return _listed((await self._look_up([edge_id]))[0][1])

    @deferred
    async def frontiers_of_edges(self, edge_ids: Sequence[int]) -> list[FrontierRecord | None]:
        return [_listed(frontier) for _edge, frontier in await self._look_up(edge_ids)]

    @deferred
    async def edge(self, edge_id: int) -> EdgeRecord | None:
        return (await self._look_up([edge_id]))[0][0]

    async def _look_up(self, edge_ids: Sequence[int]) -> list[tuple[EdgeRecord, FrontierRecord] | tuple[None, None]]:
        """Edges that are online, with their Frontiers: one round trip, a second one only before an edge is called
        offline."""
        self.lookups += len(edge_ids)
        completeness = self._index.completeness
        edges = await self._records(edge_ids)
        if None in edges:
            edges = await self._doubted(edge_ids, edges, completeness)
        found: list[tuple[EdgeRecord, FrontierRecord] | tuple[None, None]] = []
        doubted = False
        for index, edge in enumerate(edges, 1):
            frontier = None
            if not index % PAUSE_AFTER:
                await pause(self._clock)
            if edge is not None and not doubted and self._frontier_of(edge) is None:
                doubted = True
                await self._index.fresh(DOUBT)
            if edge is not None:
                frontier = self._frontier_of(edge)
                if frontier is None and self._index.get(edge.frontier_id) is None:
                    frontier = await self._go.alive(edge.frontier_id)
            found.append((edge, frontier) if edge is not None and frontier is not None else (None, None))
        return found

    async def _doubted(
        self, edge_ids: Sequence[int], edges: list[EdgeRecord | None], completeness: tuple[int, int]
    ) -> list[EdgeRecord | None]:
        """Look again if Redis may have lost the records that are missing."""
        index = self._index
        [epoch] = await ask(self._redis, command("HGET", INDEX, "epoch"))
        if epoch != index.epoch.encode():
            await index.fresh(0.0)
        elif index.incomplete:
            await index.fresh(DOUBT)
        if index.completeness != completeness:
            edges = await self._records(edge_ids)
        if None in edges and index.incomplete:
            raise RegistryUnavailableError(index.incomplete)
        return edges

    async def _records(self, edge_ids: Sequence[int]) -> list[EdgeRecord | None]:
        reading = ensureDeferred(self._index.fresh(STALE))
        texts = await self._ask_at_once([command("GET", edge_key(edge_id)) for edge_id in edge_ids], reading)
        edges: list[EdgeRecord | None] = []
        for edge_id, text in zip(edge_ids, texts, strict=True):
            edges.append(self._known(edge_id, text))
            if not len(edges) % PAUSE_AFTER:
                await pause(self._clock)
        return edges

    def _known(self, edge_id: int, text: bytes | None) -> EdgeRecord | None:
        """What a record says, unless a Frontier whose link is here has told otherwise: Redis lost the record, has yet
        to get it, or came back with old data."""
        edge = decode_edge(edge_id, text)
        holder = self._holders.get(edge.frontier_id) if edge is not None else None
        if edge is not None and (holder is None or not holder.disowns(edge_id)):
            return edge
        told = (holder.edge(edge_id) for holder in self._holders.values())
        return next(filter(None, told), None)

    async def _ask_at_once(self, requests: Sequence[Request], reading: Deferred[None]) -> list[Reply]:
        """Ask while the index is being read."""
        try:
            replies = await ask(self._redis, *requests)
        except Exception:
            # Redis failed, or whoever asked gave up: nobody waits for the index either.
            reading.addErrback(lambda _: None)
            reading.cancel()
            raise
        await reading
        return replies

    def _frontier_of(self, edge: EdgeRecord) -> FrontierRecord | None:
        entry = self._index.get(edge.frontier_id)
        if entry is None or edge.update_time < entry.born or not self._index.alive(entry):
            return None
        return entry.record(True)

    @deferred
    async def service(self, service_id: int) -> ServiceRecord | None:
        return (await self.services([service_id]))[0]

    @deferred
    async def services(self, service_ids: Sequence[int]) -> list[ServiceRecord | None]:
        await self._index.fresh(STALE)
        hashes = await ask(self._redis, *[command("HVALS", service_key(service_id)) for service_id in service_ids])
        found: list[ServiceRecord | None] = []
        for service_id, texts in zip(service_ids, hashes, strict=True):
            if found and not len(found) % PAUSE_AFTER:
                await pause(self._clock)
            records = [decode_service(service_id, text) for text in texts or ()]
            live = [record for record in records if record is not None and self._is_live(record)]
            found.append(max(live, key=lambda record: (record.update_time, record.frontier_id), default=None))
        return found

    def _is_live(self, record: ServiceRecord) -> bool:
        entry = self._index.get(record.frontier_id)
        return entry is not None and self._index.alive(entry) and record.update_time >= entry.born

    async def _count(self, entries: Sequence[Entry]) -> Counts:
        sizes = await ask(
            self._redis,
            *[command("SCARD", edges_of(entry)) for entry in entries],
            *[command("SCARD", services_of(entry)) for entry in entries],
        )
        return Counts(len(entries), sum(sizes[: len(entries)]), sum(sizes[len(entries) :]))

    async def _step(
        self, cursor: int, count: int, frontier_id: str, key: Callable[[Entry], str]
    ) -> tuple[list[tuple[int, Entry]], int]:
        """One step over the members of all live Frontiers, or of one: about ``count`` ids with their Frontiers, and
        the next cursor.

        Frontiers that hold little are asked together, so that a page across many costs few round trips.
        """
        await self._index.fresh(STALE)
        number, inner = decode_cursor(cursor)
        of_one = frontier_id and self._index.get(frontier_id)
        living = self._index.live() if not frontier_id else [of_one] if of_one and self._index.alive(of_one) else []
        entries = [entry for entry in living if entry.number >= number]
        size = page_size(count)
        found: list[tuple[int, Entry]] = []
        if entries and entries[0].number != number:
            inner = 0
        while entries and len(found) < size:
            room = size - len(found)
            asked = entries[:1] if inner or not found else await self._enough(entries[:PAGE_TOGETHER], key, room)
            steps = await ask(self._redis, *[command("SSCAN", key(e), inner, "COUNT", room) for e in asked])
            inner = 0
            for entry, (rest, members) in zip(asked, steps, strict=True):
                while entries[0] is not entry:
                    entries.pop(0)
                found += [(int(member), entry) for member in members]
                inner = int(rest)
                if inner:
                    break
                entries.pop(0)
            if not asked:
                entries = entries[PAGE_TOGETHER:]
        return found, encode_cursor(entries[0].number, inner) if entries else 0

    async def _enough(self, entries: Sequence[Entry], key: Callable[[Entry], str], room: int) -> list[Entry]:
        """The first of these Frontiers that hold ``room`` members together, without those that hold none."""
        sizes = await ask(self._redis, *[command("SCARD", key(entry)) for entry in entries])
        chosen: list[Entry] = []
        for entry, size in zip(entries, sizes, strict=True):
            if room <= 0:
                break
            if size:
                chosen.append(entry)
                room -= size
        return chosen


def _listed(frontier: FrontierRecord | None) -> FrontierRecord | None:
    """Nobody can be sent to a Frontier without an address."""
    return frontier if frontier is not None and frontier.advertised_sb_addr else None
