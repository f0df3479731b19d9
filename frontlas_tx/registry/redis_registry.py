"""The registry in Redis: any number of Frontlas over one Redis, each able to be killed at any time.

What is kept here and nowhere else is only what this instance's own links have told it (``Session.table``);
from that Redis is repaired when it loses data.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import count as counter
from secrets import token_hex
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from frontlas_tx.redis.interfaces import IRedis, Reply, Request, command
from frontlas_tx.registry.directory import Entry, Lease
from frontlas_tx.registry.errors import (
    ClaimLostError,
    FrontierAlreadySetError,
    RegistryError,
    RegistryFullError,
    RegistryUnavailableError,
)
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.interfaces import IRegistry, ISubscription
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
from frontlas_tx.registry.redis_held import Lives
from frontlas_tx.registry.redis_index import RedisIndex
from frontlas_tx.registry.redis_keys import (
    CHANNEL,
    INDEX,
    alive_key,
    decode_changes,
    decode_entry,
    edges_of,
    encode_entry,
    hash_key,
    health_key,
    services_of,
)
from frontlas_tx.registry.redis_queries import STALE, RedisQueries, ask
from frontlas_tx.registry.redis_scripts import CLAIM, DROP_ALIVE, FORGET, RELEASE, RENEW
from frontlas_tx.registry.redis_session import Session
from frontlas_tx.registry.reference import ReferenceFrontiers

log = Logger()

T = TypeVar("T")

POLL_EVERY = 1.0
"""Seconds between two looks at the index."""
DEAD = 30.0
"""Seconds without a sign of life after which another Frontlas is dead."""
FORGET_AT_ONCE = 10
"""Entries of Frontiers long gone that one poll removes."""


@implementer(IRegistry)
class RedisRegistry:
    """See ``IRegistry``.

    ``clock`` drives timers and gives Unix seconds.  ``max_peers`` bounds the edges that one Frontier may
    have. ``share_with_reference`` also lists Frontiers that only a Frontlas of the reference knows (one or
    several Redis scans per minute; not in a cluster, where that cannot run).  ``lease_time`` gives the
    milliseconds that count for leases instead of the Redis server's clock.
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
        share_with_reference: bool = False,
        feed: ChangeFeed | None = None,
        lease_time: Callable[[], int] | None = None,
        instance: str = "",
    ) -> None:
        self._clock = clock
        self._redis = redis
        self._lease = lease or Lease()
        self._lives = lives or Lives()
        self._max_peers = max_peers
        self._feed = feed or ChangeFeed()
        self._lease_time = lease_time or (lambda: 0)
        self.instance = instance or token_hex(6)
        self._index = RedisIndex(
            redis, clock, self.instance, self._lease, self._feed, self._lease_time, self._disturbed
        )
        self._reference = ReferenceFrontiers(redis, clock, share_with_reference)
        self._sessions: dict[str, Session] = {}
        self._serial = counter(1)
        self._poll = LoopingCall(self._tick)
        self._poll.clock = clock
        self._started: Deferred[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._gaps = 0
        self._stopped = False
        self._repairs = DeferredSemaphore(4)
        self._repairing = 0
        self._queries = RedisQueries(redis, self._index, self._reference, self.told, self.denies)
        self._counts = dict.fromkeys(("reports", "claims_refused", "repairs"), 0)
        self._closed_written = 0
        self._named_refusal = False
        self.ready = False
        self.why_not_ready = "the registry has not been started"
        self._ready_watchers: list[Callable[[bool, str], None]] = []
        redis.watch(self._redis_changed, self._disturbed)

    # Life

    def start(self) -> Deferred[None]:
        if self._started is None:
            self._started = Deferred()
            self._redis.start()
            self._unsubscribe = self._redis.subscribe(CHANNEL, self._message, self._gap)
            self._poll.start(POLL_EVERY).addErrback(lambda f: log.failure("looking after the registry", f))
        waiter: Deferred[None] = Deferred()
        if self._started.called:
            waiter.callback(None)
        else:
            self._started.chainDeferred(waiter)
        return waiter

    def stop(self) -> Deferred[None]:
        if self._poll.running:
            self._poll.stop()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for session in self._sessions.values():
            session.close(RegistryUnavailableError("the registry was stopped"))
        self._sessions.clear()
        self._feed.close()
        self._set_ready(False, "the registry was stopped")
        self._stopped = True
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
    ) -> Deferred[Claim]:
        token = f"{self.instance}/{next(self._serial)}"
        return ensureDeferred(
            self._claim(frontier_id, advertised_sb_addr, advertised_eb_addr, boot_id, token, on_lost)
        )

    def renew(self, claim: Claim) -> Deferred[None]:
        return ensureDeferred(self._renew(claim))

    def release(self, claim: Claim, by_peer: bool = False) -> Deferred[None]:
        return ensureDeferred(self._release(claim, by_peer))

    async def _claim(
        self,
        frontier_id: str,
        sb: str,
        eb: str,
        boot: str,
        token: str,
        on_lost: Callable[[str], None] | None,
    ) -> Claim:
        await self._index.fresh(STALE)
        await self._reference_allows(frontier_id, sb, eb)
        code, text, former_text = await self._claim_entry(frontier_id, sb, eb, boot, token)
        if code == 2:
            raise RegistryFullError("the registry knows 4095 frontiers, the most it can; remove some")
        if code == 0:
            self._counts["claims_refused"] += 1
            raise FrontierAlreadySetError
        entry = decode_entry(text)
        former = decode_entry(former_text) if former_text else None
        returning = former is not None and former.generation == entry.generation
        claim = Claim(frontier_id, token, sb, eb, boot, entry.born, entry.respelled, returning, on_lost)
        self._void(frontier_id, "another connection of this frontier took its place")
        session = Session(self._redis, self._clock, self, claim, entry, self._lives, self._max_peers, entry.renewed)
        self._sessions[frontier_id] = session
        if former is not None and not returning:
            self._background(session, lambda: session.repairs.clear(former))
        self._index.note(entry)
        await self._redis.batch([*self._life_signs(session), command("PUBLISH", CHANNEL, "F")])
        return claim

    async def _reference_allows(self, frontier_id: str, sb: str, eb: str) -> None:
        """A node that is connected to a Frontlas of the reference is taken over only by itself."""
        key = hash_key(frontier_id)
        alive, addresses = await self._ask(
            command("GET", alive_key(frontier_id)), command("HMGET", key, "advertised_sb_addr", "advertised_eb_addr")
        )
        if alive and b"/" not in alive and (not sb or addresses != [sb.encode(), eb.encode()]):
            self._counts["claims_refused"] += 1
            raise FrontierAlreadySetError

    async def _claim_entry(
        self, frontier_id: str, sb: str, eb: str, boot: str, token: str
    ) -> tuple[int, bytes, bytes]:
        """What the claim script answers; a holder on this instance that is gone or silent is not
        respected."""
        stale = ""
        while True:
            [reply] = await self._ask(
                CLAIM(
                    INDEX,
                    self._lease_time(),
                    frontier_id,
                    sb,
                    eb,
                    boot,
                    token,
                    int(self._lease.alive * 1000),
                    stale,
                    int(DEAD * 1000),
                )
            )
            if reply[0] != 0 or stale:
                return reply[0], *reply[1:], *[b""] * (3 - len(reply))
            holder = decode_entry(reply[1]).token
            session = self._sessions.get(frontier_id)
            ours = holder.startswith(f"{self.instance}/")
            current = session is not None and session.claim.token == holder
            silent = session is None or self._clock.seconds() - session.spoke > self._lease.silence
            if not ours or (current and not silent):
                return 0, reply[1], b""
            stale = holder

    async def _renew(self, claim: Claim) -> None:
        session = self._session(claim)
        session.spoke = self._clock.seconds()
        await self._renew_session(session)
        if session.busy:
            return
        life = min(self._lives.edge, self._lives.service)
        elapsed = session.spoke - session.looked_after
        session.looked_after = session.spoke
        self._background(session, lambda: session.repairs.look_after(elapsed * 3 / life))

    async def _renew_session(self, session: Session) -> None:
        claim = session.claim
        entry_text = encode_entry(session.held.entry)
        renewal = RENEW(INDEX, self._lease_time(), claim.frontier_id, claim.token, entry_text)
        [reply] = await self._ask(renewal)
        entry = decode_entry(reply[1])
        if reply[0] == 0 and entry.renewed < session.claimed_at:
            # A failover brought an older state back, in which somebody else held the identity.
            reply = await self._claim_again(session, entry.token)
            entry = decode_entry(reply[1])
        if session.closed:
            raise self._lost(claim)
        if reply[0] == 0:
            self._index.note(entry)
            self._void(claim.frontier_id, "another connection of this frontier took its place")
            raise self._lost(claim)
        session.held.entry = entry
        self._index.note(entry)
        await self._redis.batch(self._life_signs(session))

    async def _claim_again(self, session: Session, stale: str) -> Reply:
        claim, lease = session.claim, int(self._lease.alive * 1000)
        identity = (claim.frontier_id, claim.advertised_sb_addr, claim.advertised_eb_addr, claim.boot_id)
        request = CLAIM(INDEX, self._lease_time(), *identity, claim.token, lease, stale, int(DEAD * 1000))
        [reply] = await self._ask(request)
        session.held.dirty = True
        return reply

    def _life_signs(self, session: Session) -> list[Request]:
        """What the reference reads, and lives of the sets."""
        entry, claim = session.held.entry, session.claim
        keep = int(self._lease.forget + self._lease.alive + self._lease.grace)
        return [
            command("SET", alive_key(claim.frontier_id), claim.token, "EX", int(self._lease.alive)),
            command(
                "HSET",
                hash_key(claim.frontier_id),
                "advertised_sb_addr",
                entry.record(True).listed_sb_addr,
                "advertised_eb_addr",
                claim.advertised_eb_addr,
                "edge_count",
                len(session.held.table.edges),
                "service_count",
                len(session.held.table.services),
            ),
            command("EXPIRE", edges_of(entry), keep),
            command("EXPIRE", services_of(entry), keep),
        ]

    async def _release(self, claim: Claim, by_peer: bool) -> None:
        session = self._sessions.get(claim.frontier_id)
        if session is None or session.claim is not claim:
            return
        del self._sessions[claim.frontier_id]
        session.close(self._lost(claim))
        self._closed_written += session.held.written
        key = hash_key(claim.frontier_id)
        [released, *_] = await self._ask(
            RELEASE(INDEX, self._lease_time(), claim.frontier_id, claim.token, int(by_peer)),
            DROP_ALIVE(alive_key(claim.frontier_id), claim.token),
            command("HSET", key, "edge_count", 0, "service_count", 0),
            command("PUBLISH", CHANNEL, "F"),
        )
        if released[0] == 1:
            self._index.note(decode_entry(released[1]))

    # Peers

    def report(self, claim: Claim, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        async def run() -> list[RegistryError | None]:
            self._counts["reports"] += len(reports)
            return await self._session(claim).report(reports)

        return ensureDeferred(run())

    def sync_begin(self, claim: Claim) -> None:
        session = self._sessions.get(claim.frontier_id)
        if session is not None and session.claim is claim:
            session.held.named = False
            session.syncing = True
            session.held.table.sync_begin()

    def sync_end(self, claim: Claim) -> Deferred[int]:
        async def run() -> int:
            session = self._session(claim)
            session.held.table.sync_end()
            session.held.named = True
            session.syncing = False
            return int(await session.run(lambda: session.repairs.reconcile(everything=False, sweep=True)))

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

    def watch(self, kinds: Iterable[ChangeKind] | None = None) -> ISubscription:
        return self._feed.subscribe(kinds)

    def check_health(self) -> Deferred[None]:
        async def run() -> None:
            if not self._redis.ready and self._redis.error is not None:
                raise RegistryUnavailableError(str(self._redis.error))
            key, value = health_key(self.instance), token_hex(4)
            wrote, read = await self._ask(command("SET", key, value, "EX", 60), command("GET", key))
            if wrote != "OK" or read != value.encode():
                raise RegistryUnavailableError(f"redis {self._redis.name} does not return what was written")

        return ensureDeferred(run())

    def metrics(self) -> dict[str, float]:
        sessions = self._sessions.values()
        return {
            "frontiers": float(len(self._index.live())),
            "claims": float(len(sessions)),
            "own_edges": float(sum(len(session.held.table.edges) for session in sessions)),
            "own_services": float(sum(len(session.held.table.services) for session in sessions)),
            "reports_waiting": float(sum(session.waiting for session in sessions)),
            "writes_total": float(self._closed_written + sum(session.held.written for session in sessions)),
            "lookups_total": float(self._queries.lookups),
            "polls_total": float(self._index.polls),
            "subscriptions_total": float(self._gaps),
            "watchers": float(self._feed.watchers),
            "changes_total": float(self._feed.published),
            "changes_dropped_total": float(self._feed.dropped),
            **{f"{name}_total": float(number) for name, number in self._counts.items()},
            **self._redis.metrics(),
        }

    @property
    def idle(self) -> bool:
        """Whether nothing that was reported or is being repaired is still under way."""
        return all(session.idle for session in self._sessions.values()) and not self._repairing

    # What sessions ask

    def seconds(self) -> int:
        return self._index.now // 1000

    def entry(self, frontier_id: str) -> Entry | None:
        return self._index.get(frontier_id)

    def holder(self, frontier_id: str) -> Entry | None:
        entry = self._index.get(frontier_id)
        return entry if entry is not None and self._index.alive(entry) else None

    async def held_elsewhere(self, frontier_id: str) -> bool:
        if self._index.get(frontier_id) is not None:
            return False
        return await self._reference.alive(frontier_id) is not None

    def moved_away(self, edge_id: int, frontier_id: str) -> None:
        session = self._sessions.get(frontier_id)
        if session is not None and edge_id in session.held.table.edges:
            session.held.elsewhere.add(edge_id)

    def denies(self, edge: EdgeRecord) -> bool:
        """Whether one of our own Frontiers, which the record names, says that it has no such edge."""
        session = self._sessions.get(edge.frontier_id)
        return session is not None and session.denies(edge.edge_id)

    def told(self, edge_id: int) -> EdgeRecord | None:
        """An edge without a record that one of our own Frontiers has reported: Redis lost it, or has yet to
        get it."""
        for session in self._sessions.values():
            peer = session.held.table.edges.get(edge_id)
            if peer is not None and edge_id not in session.held.elsewhere:
                return EdgeRecord(edge_id, session.claim.frontier_id, peer.addr, max(peer.since, session.claim.born))
        return None

    # Inside

    async def _ask(self, *requests: Request) -> list[Reply]:
        return await ask(self._redis, *requests)

    def _session(self, claim: Claim) -> Session:
        session = self._sessions.get(claim.frontier_id)
        if session is None or session.claim is not claim:
            raise self._lost(claim)
        return session

    def _lost(self, claim: Claim) -> ClaimLostError:
        return ClaimLostError(claim.lost or f"frontier {claim.frontier_id!r} was released by this connection")

    def _void(self, frontier_id: str, reason: str) -> None:
        session = self._sessions.pop(frontier_id, None)
        if session is not None:
            session.claim.void(reason)
            session.close(ClaimLostError(reason))
            self._closed_written += session.held.written

    def _background(self, session: Session, job: Callable[[], Any]) -> None:
        """Let a session do something when it has time; what fails because of Redis is done again later."""

        def failed(failure: Any) -> None:
            if failure.check(RegistryError) is None:
                log.failure("repairing records", failure)
            session.held.dirty = True

        session.run(job).addErrback(failed)

    def _name(self, session: Session) -> None:
        """The time to name peers by heartbeats is over."""
        session.held.named = True
        self._background(session, lambda: session.repairs.reconcile(everything=False, sweep=True))

    # Upkeep

    def _tick(self) -> Deferred[None]:
        return ensureDeferred(self.upkeep())

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
        if self._started is not None and not self._started.called:
            self._started.callback(None)
        for session in list(self._sessions.values()):
            entry = self._index.entries.get(session.claim.frontier_id)
            if entry is not None and entry.token != session.claim.token and entry.renewed >= session.claimed_at:
                self._void(session.claim.frontier_id, "another connection of this frontier took its place")
        moment = self._clock.seconds()
        for session in self._sessions.values():
            if not session.held.named and not session.syncing and moment - session.started >= self._lease.naming:
                self._name(session)
        for entry in self._index.forgotten()[:FORGET_AT_ONCE]:
            if entry.frontier_id not in self._sessions:
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
        elif self._started is not None:
            self._reassert(everything=False)

    def _disturbed(self) -> None:
        """A server was replaced or restarted, or data is gone: everything that is known here is written
        again."""
        for session in self._sessions.values():
            session.held.dirty = True
        self._reassert(everything=True)

    def _reassert(self, everything: bool) -> None:
        for session in list(self._sessions.values()):
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
                await self._renew_session(session)
                if everything or session.held.dirty:
                    await session.run(lambda: session.repairs.reconcile(everything=True, sweep=session.held.named))
            except RegistryError:
                session.held.dirty = True

        return ensureDeferred(run())

    def _repaired(self, _result: object) -> None:
        self._repairing -= 1

    def _message(self, message: bytes) -> None:
        if message == b"F":
            ensureDeferred(self._index.fresh(0.0)).addErrback(lambda failure: None)
        elif self._feed.watchers:
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


def _first(work: Coroutine[Deferred[Any], Any, list[T]]) -> Deferred[T]:
    """The only element of what the work gives."""
    return ensureDeferred(work).addCallback(lambda found: found[0])
