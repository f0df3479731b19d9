"""Frontiers that only a Go Frontlas knows, while a site moves over and both kinds share one Redis.

Such a Frontier has a hash and a life sign but no entry in the index.  One that holds an edge is looked up by
name; to list all of them the keyspace has to be scanned, in small steps and only if that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IReactorTime

from frontier_tx.redis.errors import RedisError
from frontier_tx.redis.interfaces import IRedis, command
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.records import Counts, FrontierRecord
from frontlas_tx.registry.redis.keys import alive_key, hash_key

FRESH = 1.0
"""Seconds for which a Frontier that was looked up counts as known."""
KNOWN = 4_096
"""How many are remembered."""
STEP = 1_000
"""Keys per step of the scan."""
STEPS = 20
"""Steps per look (a second)."""


_FIELDS = ("advertised_sb_addr", "advertised_eb_addr", "edge_count", "service_count")


class GoFrontiers:
    """See the module.  ``scan`` allows :meth:`look` to search for Frontiers that nobody asked for."""

    def __init__(self, redis: IRedis, clock: IReactorTime, scan: bool) -> None:
        self._redis = redis
        self._clock = clock
        self._scan = scan
        self._known: dict[str, tuple[float, FrontierRecord | None]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._cursor = b"0"

    async def alive(self, frontier_id: str) -> FrontierRecord | None:
        """The Frontier if its life sign is there.  Raises ``RegistryUnavailableError``."""
        known = self._known.get(frontier_id)
        if known is not None and self._clock.seconds() - known[0] <= FRESH:
            return known[1]
        alive, fields = await self._redis.batch(
            [
                command("GET", alive_key(frontier_id)),
                command("HMGET", hash_key(frontier_id), *_FIELDS),
            ]
        )
        for reply in (alive, fields):
            if isinstance(reply, RedisError):
                raise RegistryUnavailableError(str(reply)) from reply
        sb, eb, *sizes = ((field or b"").decode("utf-8", "replace") for field in fields)
        record = FrontierRecord(frontier_id, sb, eb) if alive else None
        if len(self._known) >= KNOWN:
            self._known.clear()
            self._sizes.clear()
        self._known[frontier_id] = (self._clock.seconds(), record)
        # The numbers of a Go Frontlas may be wrong by a few, and so below zero.
        edges, services = (int(size) if size.isdigit() else 0 for size in sizes)
        self._sizes[frontier_id] = (edges, services)
        return record

    async def listed(self, frontier_id: str) -> FrontierRecord | None:
        """The same, if it is fit to be shown."""
        record = await self.alive(frontier_id)
        return record if record is not None and record.advertised_sb_addr else None

    def found(self) -> list[FrontierRecord]:
        """Those that scans have found and that live, by name."""
        if not self._scan:
            return []
        records = (record for _seen, record in self._known.values())
        return sorted(
            (record for record in records if record is not None and record.advertised_sb_addr),
            key=lambda record: record.frontier_id,
        )

    def counts(self, names: Iterable[str]) -> Counts:
        """Their numbers, as the Go Frontlas keeps them."""
        sizes = [self._sizes.get(name, (0, 0)) for name in names]
        return Counts(len(sizes), sum(edges for edges, _ in sizes), sum(services for _, services in sizes))

    async def look(self) -> None:
        """Search a bounded part of the keyspace and see whether the known ones still live."""
        if not self._scan:
            return
        prefix = hash_key("")
        names = {name for name, (_seen, record) in self._known.items() if record is not None}
        for _ in range(STEPS):
            [reply] = await self._redis.batch([command("SCAN", self._cursor, "MATCH", f"{prefix}*", "COUNT", STEP)])
            if isinstance(reply, RedisError):
                return
            self._cursor = reply[0]
            names.update(key.decode("utf-8", "replace")[len(prefix) :] for key in reply[1])
            if self._cursor == b"0":
                break
        for name in names:
            try:
                await self.alive(name)
            except RegistryUnavailableError:
                return
