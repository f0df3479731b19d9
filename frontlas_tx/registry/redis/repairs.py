"""Making Redis say again what a claim's table says: after losses, and a little with each renewal of the lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import islice

from twisted.internet.interfaces import IReactorTime

from frontlas_tx.redis.errors import RedisError
from frontlas_tx.redis.interfaces import IRedis, command
from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.records import Report, ReportKind
from frontlas_tx.registry.redis.keys import edges_of, services_of
from frontlas_tx.registry.redis.peer_records import Held
from frontlas_tx.registry.slices import pause

CHUNK = 100
"""Peers that are looked at together."""
WALK = 8
"""The fewest edges that one renewal of the lease looks at."""

_END_OF = {True: ReportKind.EDGE_OFFLINE, False: ReportKind.SERVICE_OFFLINE}


class Repairs:
    """Repairs of one claim's records; one at a time, and each lets waiting reports pass between its steps.

    ``make_way`` writes what was reported meanwhile, ``waiting`` tells whether there is any.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        held: Held,
        make_way: Callable[[], Awaitable[None]],
        waiting: Callable[[], bool],
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._held = held
        self._make_way = make_way
        self._waiting = waiting
        self._walks: dict[bool, list[int]] = {True: [], False: []}

    async def reconcile(self, everything: bool, sweep: bool) -> int:
        """Make Redis say what the table says.

        ``sweep`` removes members that the table does not have, ``everything`` writes all records again
        instead of only those that are missing in the sets, and repeats the last removals.  Gives the number of
        removed peers.  Raises ``RegistryUnavailableError``.
        """
        held = self._held
        held.dirty = False
        removed = 0
        again = {key: Report(_END_OF[key[0]], key[1]) for key in held.removed} if everything else {}
        for chunk in _chunks(list((again | held.unfinished).values())):
            await held.write([report for report in chunk if report.peer_id not in held.table.of(report.kind)])
        held.unfinished = {
            key: report for key, report in held.unfinished.items() if report.peer_id not in held.table.of(report.kind)
        }
        edges = await self._members(edges_of(held.entry))
        services = await self._members(services_of(held.entry))
        if sweep:
            for kind, members, table in (
                (ReportKind.SERVICE_OFFLINE, services, held.table.services),
                (ReportKind.EDGE_OFFLINE, edges, held.table.edges),
            ):
                async for ids in self._slowly(list(members)):
                    gone = [Report(kind, peer_id) for peer_id in ids if peer_id not in table]
                    removed += len(gone)
                    await held.write(gone)
                    await self._make_way()
        for kind, members, table in (
            (ReportKind.SERVICE_HEARTBEAT, services, held.table.services),
            (ReportKind.EDGE_HEARTBEAT, edges, held.table.edges),
        ):
            async for ids in self._slowly(list(table)):
                wanted = [n for n in ids if n in table and (everything or n not in members)]
                await held.write([Report(kind, n, table[n].addr, table[n].service, table[n].since) for n in wanted])
                await self._make_way()
        if held.dirty:
            raise RegistryUnavailableError("redis failed while records of this frontier were repaired")
        return removed

    async def clear(self, former: Entry) -> None:
        """Remove what an earlier process of this Frontier left behind."""
        held = self._held
        edges = await self._members(edges_of(former))
        services = await self._members(services_of(former))
        for kind, members in ((ReportKind.SERVICE_OFFLINE, services), (ReportKind.EDGE_OFFLINE, edges)):
            async for ids in self._slowly(list(members)):
                gone = [Report(kind, peer_id) for peer_id in ids if peer_id not in held.table.of(kind)]
                await held.write(gone, before=held.claim.born + 1)
                await self._make_way()
        await self._redis.batch([command("DEL", edges_of(former)), command("DEL", services_of(former))])

    async def look_after(self, share: float) -> None:
        """What goes with a renewal: renew the lives of a ``share`` of the records, see whether anything is
        missing, and repair it if so."""
        held = self._held
        before = held.restored
        for edges in (True, False):
            for chunk in _chunks(self._step(edges, share)):
                await held.write(chunk)
        if held.named and not held.dirty:
            keys = (edges_of(held.entry), services_of(held.entry))
            replies = await self._redis.batch([command("SCARD", key) for key in keys])
            away = len(held.elsewhere & held.table.edges.keys())
            if any(isinstance(reply, RedisError) for reply in replies):
                held.dirty = True
            elif replies != [len(held.table.edges) - away, len(held.table.services)] and not self._waiting():
                await self.reconcile(everything=False, sweep=True)
        if held.restored > before or held.dirty:
            await self.reconcile(everything=True, sweep=held.named)

    def _step(self, edges: bool, share: float) -> list[Report]:
        """The next records of the walk, and the edges that another Frontier had when last seen."""
        held = self._held
        table = held.table.edges if edges else held.table.services
        kind = ReportKind.EDGE_HEARTBEAT if edges else ReportKind.SERVICE_HEARTBEAT
        if not self._walks[edges]:
            self._walks[edges] = list(table)
        walk = self._walks[edges]
        ids = {walk.pop() for _ in range(min(len(walk), max(WALK, int(len(table) * share) + 1)))}
        if edges:
            ids.update(islice(held.elsewhere, CHUNK))
            held.elsewhere &= table.keys()
        return [Report(kind, peer_id, table[peer_id].addr) for peer_id in ids if peer_id in table]

    async def _slowly(self, ids: Sequence[int]) -> AsyncIterator[Sequence[int]]:
        """The ids in parts, with a pause between two of them."""
        for start in range(0, len(ids), CHUNK):
            if start:
                await pause(self._clock)
            yield ids[start : start + CHUNK]

    async def _members(self, key: str) -> set[int]:
        held = self._held
        members: set[int] = set()
        cursor: bytes | int = 0
        while True:
            [reply] = await self._redis.batch([command("SSCAN", key, cursor, "COUNT", 1_000)])
            if isinstance(reply, RedisError):
                held.dirty = True
                raise RegistryUnavailableError(str(reply))
            cursor = reply[0]
            members.update(int(member) for member in reply[1])
            if int(cursor) == 0:
                return members


def _chunks(reports: Sequence[Report]) -> Iterable[Sequence[Report]]:
    return (reports[start : start + CHUNK] for start in range(0, len(reports), CHUNK))
