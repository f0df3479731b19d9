"""Makes Redis say again what a claim's table says: after losses, and a little with each renewal of the lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import islice
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from frontier_tx.redis.interfaces import IRedis, command
from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.records import Report, ReportKind
from frontlas_tx.registry.redis.index import RedisIndex, ask
from frontlas_tx.registry.redis.keys import INDEX, edges_of, services_of
from frontlas_tx.registry.redis.peer_records import Key, PeerRecords
from frontlas_tx.registry.slices import pause

CHUNK = 100
"""Peers that are looked at together."""
WALK = 8
"""The fewest peers of a kind that one renewal of the lease looks at."""

T = TypeVar("T")


class Repairs:
    """Repairs of one claim's records; one at a time, and each lets waiting reports pass between its steps.

    Each fails with ``RegistryUnavailableError``, and is begun anew with the next renewal then. ``named`` says that the
    table has all that is live, so that whatever else Redis has of this Frontier is removed.

    :param make_way: writes what was reported meanwhile; ``waiting`` tells whether there is any.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        index: RedisIndex,
        records: PeerRecords,
        make_way: Callable[[], Awaitable[None]],
        waiting: Callable[[], bool],
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._index = index
        self._records = records
        self._make_way = make_way
        self._waiting = waiting
        self._walks: dict[bool, list[int]] = {True: [], False: []}
        self.named = False

    async def write_everything(self) -> None:
        """Write all records again, make the last removals again, and remove what the table does not have."""
        records, table = self._records, self._records.table
        records.lost = False
        try:
            async for keys in self._slowly(list(records.removed)):
                await records.write([records.repetition(key) for key in keys])
            for of_edge, peers in ((False, table.services), (True, table.edges)):
                async for ids in self._slowly(list(peers)):
                    await records.write([records.repetition((of_edge, n)) for n in ids if n in peers])
            await self.finish()
        except RegistryUnavailableError:
            records.lost = True
            raise

    async def finish(self) -> int:
        """Write what could not be written before; where the table is complete, remove what it does not have and note
        that Redis has all of it. Gives the number of removed peers."""
        records, epoch, removed = self._records, self._index.epoch, 0
        async for keys in self._slowly(list(records.again.items())):
            await records.write([records.repetition(*each) for each in keys])
        if self.named:
            removed = await self.sweep(records.entry)
        if records.again or records.lost:
            raise RegistryUnavailableError("redis failed while records of this frontier were repaired")
        if self.named and epoch:
            await ask(self._redis, command("HSET", INDEX, f"t:{records.claim.frontier_id}", epoch))
        return removed

    async def sweep(self, entry: Entry, before: int = 0) -> int:
        """Remove members of a process's sets that the table does not have, with their records if these are older than
        ``before`` (seconds; 0: any)."""
        records, removed = self._records, 0
        for kind, key, table in (
            (ReportKind.SERVICE_OFFLINE, services_of(entry), records.table.services),
            (ReportKind.EDGE_OFFLINE, edges_of(entry), records.table.edges),
        ):
            cursor: bytes = b"0"
            while True:
                [(cursor, members)] = await ask(self._redis, command("SSCAN", key, cursor, "COUNT", CHUNK))
                gone = [Report(kind, n) for n in map(int, members) if n not in table]
                await records.write(gone, before)
                removed += len(gone)
                await self._make_way()
                if cursor == b"0":
                    break
                await pause(self._clock)
        return removed

    async def clear(self, former: Entry) -> None:
        """Remove what an earlier process of this Frontier left behind."""
        await self.sweep(former, before=self._records.claim.born + 1)
        await ask(self._redis, command("DEL", edges_of(former)), command("DEL", services_of(former)))

    async def look_after(self, share: float) -> None:
        """What goes with a renewal: renew the lives of a ``share`` of the records, see whether anything is
        missing, and repair it if so."""
        records, before = self._records, self._records.restored
        if records.again and not records.lost:
            await self.finish()
        for of_edge in (True, False):
            async for keys in self._slowly(self._step(of_edge, share)):
                await records.write([records.repetition(key) for key in keys])
        complete = True
        if self.named:
            await self._make_way()
            sets = (edges_of(records.entry), services_of(records.entry))
            sizes = await ask(self._redis, *[command("SCARD", key) for key in sets])
            complete = self._waiting() or sizes == [records.edges, len(records.table.services)]
        if records.lost or records.restored > before or not complete:
            await self.write_everything()

    def _step(self, of_edge: bool, share: float) -> list[Key]:
        """The next records of the walk, and the edges that another Frontier had when last seen."""
        records = self._records
        table = records.table.edges if of_edge else records.table.services
        walk = self._walks[of_edge] = self._walks[of_edge] or list(table)
        ids = {walk.pop() for _ in range(min(len(walk), max(WALK, int(len(table) * share) + 1)))}
        if of_edge:
            ids.update(islice(records.moved_away, CHUNK))
            records.moved_away &= table.keys()
        return [(of_edge, peer_id) for peer_id in ids if peer_id in table]

    async def _slowly(self, items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
        """The items in parts; between two of them others have their turns, and what was reported is written."""
        for start in range(0, len(items), CHUNK):
            if start:
                await self._make_way()
                await pause(self._clock)
            yield items[start : start + CHUNK]
