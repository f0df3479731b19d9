"""The registry in Redis: any number of Frontlas over one Redis, each able to be killed at any time.

What is kept here and nowhere else is only what this instance's own links have told it (``Holder.table``);
from that Redis is repaired when it loses data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from frontier_tx.redis.errors import RedisTimeoutError
from frontier_tx.redis.interfaces import IRedis, command
from frontier_tx.runtime.deferreds import Waiters, deferred
from frontier_tx.runtime.lograte import Troubles
from frontlas_tx.config import Expiration
from frontlas_tx.registry.base import RegistryBase, stopped
from frontlas_tx.registry.directory import Entry, Lease
from frontlas_tx.registry.errors import ClaimLostError, RegistryError, RegistryUnavailableError
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.interfaces import IRegistry
from frontlas_tx.registry.peers import PeerBudget
from frontlas_tx.registry.records import Claim, Report
from frontlas_tx.registry.redis.claims import RedisClaims
from frontlas_tx.registry.redis.go_frontiers import GoFrontiers
from frontlas_tx.registry.redis.holder import Holder
from frontlas_tx.registry.redis.index import RedisIndex, ask
from frontlas_tx.registry.redis.keys import (
    CHANNEL,
    INDEX,
    decode_message,
    edges_of,
    hash_key,
    health_key,
    services_of,
)
from frontlas_tx.registry.redis.queries import RedisQueries
from frontlas_tx.registry.redis.scripts import FORGET

log = Logger()

POLL_EVERY = 1.0
"""Seconds between two looks at the index."""
HEALTHY_WITHIN = 1.5
"""Seconds within which Redis is to answer a question after its health: whoever asks for ours waits 2 s."""
FORGET_AT_ONCE = 10
"""Entries of Frontiers long gone that one poll removes."""


@implementer(IRegistry)
class RedisRegistry(RegistryBase, RedisQueries):
    """See ``IRegistry``.

    ``clock`` drives timers and gives Unix seconds.  ``max_peers`` bounds the edges that one Frontier may
    have, ``peers_bytes`` what is remembered of all that report here. ``shared_with_go`` also lists Frontiers that
    only a Go Frontlas knows (one or several Redis scans per minute; not in a cluster, where that cannot
    run).  ``lease_time`` gives the milliseconds that count for leases instead of the Redis server's clock.
    """

    durable = True

    def __init__(
        self,
        clock: IReactorTime,
        redis: IRedis,
        *,
        lease: Lease | None = None,
        life: Expiration | None = None,
        max_peers: int = 1_000_000,
        peers_bytes: int = 1 << 30,
        shared_with_go: bool = False,
        feed: ChangeFeed | None = None,
        lease_time: Callable[[], int] | None = None,
        instance: str = "",
    ) -> None:
        RegistryBase.__init__(self, lease, feed)
        self.instance = instance or token_hex(6)
        index = RedisIndex(
            redis, clock, self.instance, self._lease, self._feed, lease_time or (lambda: 0), self._disturbed
        )
        go, holders = GoFrontiers(redis, clock, shared_with_go), dict[str, Holder]()
        RedisQueries.__init__(self, redis, clock, index, go, holders)
        claims = self._claims = RedisClaims(
            redis,
            clock,
            self.instance,
            index,
            go,
            holders,
            self._lease,
            life or Expiration(),
            max_peers,
            PeerBudget(peers_bytes),
        )
        self.claim, self.renew, self.release = claims.claim, claims.renew, claims.release
        self._poll = LoopingCall(self._tick)
        self._poll.clock = clock
        self._started = False
        self._reached = False
        self._starters: Waiters[None] = Waiters()
        self._unsubscribe: Callable[[], None] | None = None
        self._gaps = 0
        self._repairs = DeferredSemaphore(4)
        self._repairing = 0
        self._counts = dict.fromkeys(("reports", "repairs"), 0)
        self._refusals = Troubles()
        self.store_times = redis.times
        redis.watch(self._redis_changed, self._disturbed)

    # Life

    def start(self) -> Deferred[None]:
        if self._stopped:
            return fail(stopped())
        if not self._started:
            self._started = True
            self._redis.start()
            self._unsubscribe = self._redis.subscribe(CHANNEL, self._message, self._gap)
            self._poll.start(POLL_EVERY).addErrback(lambda f: log.failure("looking after the registry", f))
        return succeed(None) if self._reached else self._starters.wait()

    def stop(self) -> Deferred[None]:
        if self._poll.running:
            self._poll.stop()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._claims.stop(stopped())
        self._end()
        self._starters.tell(stopped())
        return self._redis.stop()

    # Peers

    def report(self, claim: Claim, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        self._counts["reports"] += len(reports)
        try:
            return self._claims.holder(claim).report(reports)
        except ClaimLostError as error:
            return fail(error)

    def sync_begin(self, claim: Claim) -> None:
        holder = self._holders.get(claim.frontier_id)
        if holder is not None and holder.claim is claim:
            holder.sync_begin()

    @deferred
    async def sync_end(self, claim: Claim) -> int:
        return await self._claims.holder(claim).sync_end()

    # The rest of the contract

    def seconds(self) -> int:
        return self._index.now // 1000

    @deferred
    async def check_health(self) -> None:
        if not self._redis.ready and self._redis.error is not None:
            raise RegistryUnavailableError(str(self._redis.error))
        key, value = health_key(self.instance), token_hex(4)
        asking = ensureDeferred(ask(self._redis, command("SET", key, value, "EX", 60), command("GET", key)))
        wrote, read = await asking.addTimeout(HEALTHY_WITHIN, self._clock, self._too_slow)
        if wrote != "OK" or read != value.encode():
            raise RegistryUnavailableError(f"redis {self._redis.name} does not return what was written")
        if not self.ready:
            raise RegistryUnavailableError(self.why_not_ready)

    def _too_slow(self, _result: Any, seconds: float) -> Any:
        raise RegistryUnavailableError(str(RedisTimeoutError(self._redis.name, seconds)))

    def metrics(self) -> dict[str, float]:
        holders = self._holders.values()
        return {
            "frontiers": float(len(self._index.live())),
            "claims": float(len(holders)),
            "own_edges": float(sum(len(holder.table.edges) for holder in holders)),
            "own_services": float(sum(len(holder.table.services) for holder in holders)),
            "own_bytes": float(self._claims.budget.used),
            "reports_waiting": float(sum(holder.waiting for holder in holders)),
            "writes_total": float(self._claims.closed_written + sum(holder.records.written for holder in holders)),
            "lookups_total": float(self.lookups),
            "polls_total": float(self._index.polls),
            "subscriptions_total": float(self._gaps),
            **self._feed_metrics(),
            "claims_refused_total": float(self._claims.refused),
            "frontiers_displaced_total": float(self._claims.displaced),
            **{f"{name}_total": float(number) for name, number in self._counts.items()},
            **self._redis.metrics(),
        }

    @property
    def idle(self) -> bool:
        """Whether nothing that was reported or is being repaired is still under way."""
        return all(holder.idle for holder in self._holders.values()) and not self._repairing

    # Upkeep

    def _tick(self) -> Deferred[None]:
        # Whatever it is, the next look must come.
        return ensureDeferred(self.upkeep()).addErrback(lambda f: log.failure("looking after the registry", f))

    async def upkeep(self) -> None:
        """What is done every second: read the index and act on what it says."""
        try:
            await self._index.fresh(0.0)
        except RegistryUnavailableError as error:
            # A Redis that does not answer is named by its client; here are those that answer with a refusal.
            if self._redis.ready and self._refusals.is_new("redis"):
                log.error("{error}; what is reported meanwhile is written when it works again", error=error)
            self._set_ready(False, str(error))
            return
        self._refusals.over()
        self._set_ready(True, "")
        self._reached = True
        self._starters.tell(None)
        moment = self._clock.seconds()
        for holder in list(self._holders.values()):
            entry = self._index.entries.get(holder.claim.frontier_id)
            if entry is not None and entry.token != holder.claim.token and entry.renewed >= holder.claimed_at:
                self._claims.void(holder.claim.frontier_id, "another connection of this frontier took its place")
            elif not holder.complete and moment - holder.started >= self._lease.naming:
                holder.repairs.named = True
                holder.background(holder.repairs.finish)
        await self._claims.write_counts()
        for entry in self._index.forgotten()[:FORGET_AT_ONCE]:
            if entry.frontier_id not in self._holders:
                await self._forget(entry)
        await self._go.look()

    async def _forget(self, entry: Entry) -> None:
        try:
            [gone] = await ask(self._redis, FORGET(INDEX, entry.frontier_id, entry.renewed, entry.left))
            if gone:
                self._index.drop(entry.frontier_id)
                keys = (hash_key(entry.frontier_id), edges_of(entry), services_of(entry))
                await ask(self._redis, *[command("DEL", key) for key in keys])
        except RegistryUnavailableError:
            return

    def _redis_changed(self, ready: bool) -> None:
        if not ready:
            error = self._redis.error
            self._set_ready(False, str(error) if error is not None else "redis does not answer")
        elif self._started:
            self._renew_all()

    def _disturbed(self) -> None:
        """A server was replaced or restarted, or data is gone: everything that is known here is written
        again."""
        for holder in self._holders.values():
            holder.records.lost = True
        self._renew_all()

    def _renew_all(self) -> None:
        """Renew the claims of those that speak, and write what Redis may lack."""
        for holder in list(self._holders.values()):
            if self._clock.seconds() - holder.spoke <= self._lease.silence:
                self._repairing += 1
                self._repairs.run(self._repair, holder).addBoth(self._repaired)
        if self._poll.running:
            ensureDeferred(self.upkeep())

    @deferred
    async def _repair(self, holder: Holder) -> None:
        if holder.closed:
            return
        self._counts["repairs"] += 1
        try:
            await self._claims.renew_lease(holder)
            await holder.repair()
        except RegistryError:
            # It is tried again with the next renewal.
            return

    def _repaired(self, _result: object) -> None:
        self._repairing -= 1

    def _message(self, message: bytes) -> None:
        if message.startswith(b"E") and not self._feed.watchers:
            return
        match decode_message(message):
            case b"F", _:
                ensureDeferred(self._index.fresh(0.0)).addErrback(lambda failure: None)
            case b"M", moves:
                for frontier_id, edge_id, since in moves:
                    self._claims.moved_away(edge_id, frontier_id, since)
            case b"Q", question:
                self._claims.question(*question)
            case b"A", answer:
                self._claims.signs.answered(*answer)
            case b"E", changes:
                self._feed.publish(changes)

    def _gap(self) -> None:
        self._gaps += 1
        if self._gaps > 1:
            self._feed.lagged()
