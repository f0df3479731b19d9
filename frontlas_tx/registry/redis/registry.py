"""The registry in Redis: any number of Frontlas over one Redis, each able to be killed at any time.

What is kept here and nowhere else is only what this instance's own links have told it (``Session.table``);
from that Redis is repaired when it loses data.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from secrets import token_hex
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from frontier_tx.runtime.deferreds import Waiters
from frontlas_tx.redis.errors import RedisTimeoutError
from frontlas_tx.redis.interfaces import IRedis, Reply, Request, command
from frontlas_tx.registry.directory import Entry, Lease
from frontlas_tx.registry.errors import (
    RegistryError,
    RegistryUnavailableError,
)
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.go_frontiers import ReferenceFrontiers
from frontlas_tx.registry.interfaces import IRegistry, ISubscription
from frontlas_tx.registry.peers import PeerBudget
from frontlas_tx.registry.records import (
    ChangeKind,
    Claim,
    Counts,
    EdgeRecord,
    FrontierRecord,
    Page,
    Report,
    ServiceRecord,
)
from frontlas_tx.registry.redis.claims import RedisClaims
from frontlas_tx.registry.redis.index import RedisIndex
from frontlas_tx.registry.redis.keys import (
    CHANNEL,
    INDEX,
    decode_answer,
    decode_changes,
    decode_moves,
    decode_question,
    edges_of,
    hash_key,
    health_key,
    services_of,
)
from frontlas_tx.registry.redis.peer_records import Lives
from frontlas_tx.registry.redis.queries import RedisQueries, ask
from frontlas_tx.registry.redis.scripts import FORGET
from frontlas_tx.registry.redis.session import Session
from frontlas_tx.registry.slices import pause

log = Logger()

T = TypeVar("T")

POLL_EVERY = 1.0
"""Seconds between two looks at the index."""
HEALTHY_WITHIN = 1.5
"""Seconds within which Redis is to answer a question after its health: whoever asks for ours waits 2 s."""
FORGET_AT_ONCE = 10
"""Entries of Frontiers long gone that one poll removes."""


@implementer(IRegistry)
class RedisRegistry:
    """See ``IRegistry``.

    ``clock`` drives timers and gives Unix seconds.  ``max_peers`` bounds the edges that one Frontier may
    have, ``peers_bytes`` what is remembered of all that report here. ``share_with_reference`` also lists Frontiers that
    only a Frontlas of the reference knows (one or several Redis scans per minute; not in a cluster, where that cannot
    run).  ``lease_time`` gives the milliseconds that count for leases instead of the Redis server's clock.
    """

    durable = True

    def __init__(
        self,
        clock: IReactorTime,
        redis: IRedis,
        *,
        lease: Lease | None = None,
        lives: Lives | None = None,
        max_peers: int = 1_000_000,
        peers_bytes: int = 1 << 30,
        share_with_reference: bool = False,
        feed: ChangeFeed | None = None,
        lease_time: Callable[[], int] | None = None,
        instance: str = "",
    ) -> None:
        self._clock = clock
        self._redis = redis
        self._lease = lease or Lease()
        self._feed = feed or ChangeFeed()
        self._lease_time = lease_time or (lambda: 0)
        self.instance = instance or token_hex(6)
        self._index = RedisIndex(
            redis, clock, self.instance, self._lease, self._feed, self._lease_time, self._disturbed
        )
        self._reference = ReferenceFrontiers(redis, clock, share_with_reference)
        self._claims = RedisClaims(
            redis,
            clock,
            self.instance,
            self._index,
            self._reference,
            self._lease,
            lives or Lives(),
            max_peers,
            PeerBudget(peers_bytes),
            self._lease_time,
        )
        self._poll = LoopingCall(self._tick)
        self._poll.clock = clock
        self._started = False
        self._reached = False
        self._starters: Waiters[None] = Waiters()
        self._unsubscribe: Callable[[], None] | None = None
        self._gaps = 0
        self._stopped = False
        self._repairs = DeferredSemaphore(4)
        self._repairing = 0
        self._queries = RedisQueries(redis, clock, self._index, self._reference, self._claims.told, self._claims.denies)
        self._counts = dict.fromkeys(("reports", "repairs"), 0)
        self._named_refusal = False
        self.ready = False
        self.why_not_ready = "the registry has not been started"
        self._ready_watchers: list[Callable[[bool, str], None]] = []
        redis.watch(self._redis_changed, self._disturbed)

    # Life

    def start(self) -> Deferred[None]:
        if self._stopped:
            return fail(_stopped())
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
        self._claims.stop(_stopped())
        self._feed.close()
        self._set_ready(False, str(_stopped()))
        self._stopped = True
        self._starters.tell(_stopped())
        return self._redis.stop()

    def watch_ready(self, callback: Callable[[bool, str], None]) -> Callable[[], None]:
        self._ready_watchers.append(callback)
        return lambda: self._ready_watchers.remove(callback) if callback in self._ready_watchers else None

    # Frontiers

    def claim(
        self,
        frontier_id: str,
        advertised_sb_addr: str,
        advertised_eb_addr: str,
        boot_id: str = "",
        on_lost: Callable[[str], None] | None = None,
        probe: Callable[[], Deferred[bool]] | None = None,
        origin: str = "",
    ) -> Deferred[Claim]:
        addresses = (advertised_sb_addr, advertised_eb_addr)
        return ensureDeferred(self._claims.claim(frontier_id, *addresses, boot_id, on_lost, probe, origin))

    def renew(self, claim: Claim) -> Deferred[None]:
        return ensureDeferred(self._claims.renew(claim))

    def release(self, claim: Claim, by_peer: bool = False) -> Deferred[None]:
        return ensureDeferred(self._claims.release(claim, by_peer))

    # Peers

    def report(self, claim: Claim, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        async def run() -> list[RegistryError | None]:
            self._counts["reports"] += len(reports)
            return await self._claims.session(claim).report(reports)

        return ensureDeferred(run())

    def sync_begin(self, claim: Claim) -> None:
        session = self._claims.sessions.get(claim.frontier_id)
        if session is not None and session.claim is claim:
            session.held.named = False
            session.syncing = True
            session.held.table.sync_begin()

    def sync_end(self, claim: Claim) -> Deferred[int]:
        async def run() -> int:
            session = self._claims.session(claim)
            for gone in session.held.table.sync_end():
                session.held.elsewhere.difference_update(gone)
                await pause(self._clock)
            if session.held.table.syncing:
                # Another naming began meanwhile; that one will tell.
                return 0
            session.held.named = True
            session.syncing = False
            return int(await session.run(lambda: session.reconcile(everything=False)))

        return ensureDeferred(run())

    # Queries

    def frontier_of_edge(self, edge_id: int) -> Deferred[FrontierRecord | None]:
        return _first(self._queries.frontiers_of([edge_id]))

    def frontiers_of_edges(self, edge_ids: Sequence[int]) -> Deferred[list[FrontierRecord | None]]:
        return ensureDeferred(self._queries.frontiers_of(edge_ids))

    def edge(self, edge_id: int) -> Deferred[EdgeRecord | None]:
        return _first(self._queries.edges([edge_id]))

    def edges(self, edge_ids: Sequence[int]) -> Deferred[list[EdgeRecord | None]]:
        return ensureDeferred(self._queries.edges(edge_ids))

    def edges_page(self, cursor: int, count: int) -> Deferred[Page[EdgeRecord]]:
        return ensureDeferred(self._queries.edges_page(cursor, count))

    def frontiers(self) -> Deferred[list[FrontierRecord]]:
        return ensureDeferred(self._queries.frontiers())

    def frontiers_by_ids(self, frontier_ids: Sequence[str]) -> Deferred[list[FrontierRecord | None]]:
        return ensureDeferred(self._queries.frontiers_by_ids(frontier_ids))

    def frontiers_page(self, cursor: int, count: int) -> Deferred[Page[FrontierRecord]]:
        return ensureDeferred(self._queries.frontiers_page(cursor, count))

    def service(self, service_id: int) -> Deferred[ServiceRecord | None]:
        return _first(self._queries.services([service_id]))

    def services(self, service_ids: Sequence[int]) -> Deferred[list[ServiceRecord | None]]:
        return ensureDeferred(self._queries.services(service_ids))

    def services_page(self, cursor: int, count: int) -> Deferred[Page[ServiceRecord]]:
        return ensureDeferred(self._queries.services_page(cursor, count))

    def counts(self) -> Deferred[Counts]:
        return ensureDeferred(self._queries.counts())

    def counts_of(self, frontier_id: str) -> Deferred[Counts]:
        return ensureDeferred(self._queries.counts(frontier_id))

    def seconds(self) -> int:
        return self._claims.seconds()

    def watch(self, kinds: Iterable[ChangeKind] | None = None) -> ISubscription:
        return self._feed.subscribe(kinds)

    def check_health(self) -> Deferred[None]:
        async def run() -> None:
            if not self._redis.ready and self._redis.error is not None:
                raise RegistryUnavailableError(str(self._redis.error))
            key, value = health_key(self.instance), token_hex(4)
            asking = ensureDeferred(self._ask(command("SET", key, value, "EX", 60), command("GET", key)))
            wrote, read = await asking.addTimeout(HEALTHY_WITHIN, self._clock, self._too_slow)
            if wrote != "OK" or read != value.encode():
                raise RegistryUnavailableError(f"redis {self._redis.name} does not return what was written")
            if not self.ready:
                raise RegistryUnavailableError(self.why_not_ready)

        return ensureDeferred(run())

    def _too_slow(self, _result: Any, seconds: float) -> Any:
        raise RegistryUnavailableError(str(RedisTimeoutError(self._redis.name, seconds)))

    def metrics(self) -> dict[str, float]:
        sessions = self._claims.sessions.values()
        return {
            "frontiers": float(len(self._index.live())),
            "claims": float(len(sessions)),
            "own_edges": float(sum(len(session.held.table.edges) for session in sessions)),
            "own_services": float(sum(len(session.held.table.services) for session in sessions)),
            "own_bytes": float(self._claims.budget.used),
            "reports_waiting": float(sum(session.waiting for session in sessions)),
            "writes_total": float(self._claims.closed_written + sum(session.held.written for session in sessions)),
            "lookups_total": float(self._queries.lookups),
            "polls_total": float(self._index.polls),
            "subscriptions_total": float(self._gaps),
            "watchers": float(self._feed.watchers),
            "changes_total": float(self._feed.published),
            "changes_dropped_total": float(self._feed.dropped),
            "claims_refused_total": float(self._claims.refused),
            "frontiers_displaced_total": float(self._claims.displaced),
            **{f"{name}_total": float(number) for name, number in self._counts.items()},
            **self._redis.metrics(),
        }

    @property
    def idle(self) -> bool:
        """Whether nothing that was reported or is being repaired is still under way."""
        return all(session.idle for session in self._claims.sessions.values()) and not self._repairing

    # Inside

    async def _ask(self, *requests: Request) -> list[Reply]:
        return await ask(self._redis, *requests)

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
            if self._redis.ready and not self._named_refusal:
                self._named_refusal = True
                log.error("{error}; what is reported meanwhile is written when it works again", error=error)
            self._set_ready(False, str(error))
            return
        self._named_refusal = False
        self._set_ready(True, "")
        self._reached = True
        self._starters.tell(None)
        for session in list(self._claims.sessions.values()):
            entry = self._index.entries.get(session.claim.frontier_id)
            if entry is not None and entry.token != session.claim.token and entry.renewed >= session.claimed_at:
                self._claims.void(session.claim.frontier_id, "another connection of this frontier took its place")
        moment = self._clock.seconds()
        for session in self._claims.sessions.values():
            if not session.held.named and not session.syncing and moment - session.started >= self._lease.naming:
                self._claims.name(session)
        await self._claims.write_counts()
        for entry in self._index.forgotten()[:FORGET_AT_ONCE]:
            if entry.frontier_id not in self._claims.sessions:
                await self._forget(entry)
        await self._reference.look()

    async def _forget(self, entry: Entry) -> None:
        try:
            [gone] = await self._ask(FORGET(INDEX, entry.frontier_id, entry.renewed, entry.left))
            if gone:
                self._index.drop(entry.frontier_id)
                keys = (hash_key(entry.frontier_id), edges_of(entry), services_of(entry))
                await self._ask(*[command("DEL", key) for key in keys])
        except RegistryUnavailableError:
            return

    def _redis_changed(self, ready: bool) -> None:
        if not ready:
            error = self._redis.error
            self._set_ready(False, str(error) if error is not None else "redis does not answer")
        elif self._started:
            self._reassert(everything=False)

    def _disturbed(self) -> None:
        """A server was replaced or restarted, or data is gone: everything that is known here is written
        again."""
        for session in self._claims.sessions.values():
            session.held.dirty = True
        self._reassert(everything=True)

    def _reassert(self, everything: bool) -> None:
        for session in list(self._claims.sessions.values()):
            if self._clock.seconds() - session.spoke <= self._lease.silence:
                self._repairing += 1
                self._repairs.run(self._repair, session, everything).addBoth(self._repaired)
        if self._poll.running:
            ensureDeferred(self.upkeep())

    def _repair(self, session: Session, everything: bool) -> Deferred[None]:
        async def run() -> None:
            if session.closed:
                return
            self._counts["repairs"] += 1
            try:
                await self._claims.renew_session(session)
                if everything or session.held.dirty:
                    await session.run(lambda: session.reconcile(everything=True))
            except RegistryError:
                session.held.dirty = True

        return ensureDeferred(run())

    def _repaired(self, _result: object) -> None:
        self._repairing -= 1

    def _message(self, message: bytes) -> None:
        match message[:1]:
            case b"F":
                ensureDeferred(self._index.fresh(0.0)).addErrback(lambda failure: None)
            case b"M":
                for frontier_id, edge_id, since in decode_moves(message):
                    self._claims.moved_away(edge_id, frontier_id, since)
            case b"Q":
                question = decode_question(message)
                if question is not None:
                    self._claims.question(*question)
            case b"A":
                answer = decode_answer(message)
                if answer is not None:
                    self._claims.answer(*answer)
            case _ if self._feed.watchers:
                self._feed.publish(decode_changes(message))

    def _gap(self) -> None:
        self._gaps += 1
        if self._gaps > 1:
            self._feed.lagged()

    def _set_ready(self, ready: bool, why: str) -> None:
        if self._stopped:
            return
        changed = ready != self.ready or (not ready and why != self.why_not_ready)
        self.ready, self.why_not_ready = ready, why
        if changed:
            for callback in list(self._ready_watchers):
                callback(ready, why)


def _stopped() -> RegistryUnavailableError:
    return RegistryUnavailableError("the registry was stopped")


def _first(work: Coroutine[Deferred[Any], Any, list[T]]) -> Deferred[T]:
    """The only element of what the work gives."""
    return ensureDeferred(work).addCallback(lambda found: found[0])
