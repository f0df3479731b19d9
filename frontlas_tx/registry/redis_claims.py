"""Claims of Frontiers in Redis: who may speak for one, for how long, and the sessions of those that speak here."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count as counter
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from frontlas_tx.redis.errors import RedisError
from frontlas_tx.redis.interfaces import IRedis, Reply, Request, command
from frontlas_tx.registry.directory import Entry, Lease
from frontlas_tx.registry.errors import ClaimLostError, FrontierAlreadySetError, RegistryError, RegistryFullError
from frontlas_tx.registry.records import Claim, EdgeRecord
from frontlas_tx.registry.redis_held import Lives
from frontlas_tx.registry.redis_index import RedisIndex
from frontlas_tx.registry.redis_keys import (
    CHANNEL,
    INDEX,
    alive_key,
    decode_entry,
    edges_of,
    encode_entry,
    hash_key,
    services_of,
)
from frontlas_tx.registry.redis_queries import AT_ONCE, STALE, ask
from frontlas_tx.registry.redis_scripts import CLAIM, DROP_ALIVE, RELEASE, RENEW
from frontlas_tx.registry.redis_session import Session
from frontlas_tx.registry.reference import ReferenceFrontiers

log = Logger()

DEAD = 30.0
"""Seconds without a sign of life after which another Frontlas is dead."""


class RedisClaims:
    """The claims of one Frontlas.

    ``sessions`` are those that hold, by Frontier; ``refused`` counts claims that were not granted,
    ``closed_written`` the writes of sessions that are over.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        instance: str,
        index: RedisIndex,
        reference: ReferenceFrontiers,
        lease: Lease,
        lives: Lives,
        max_peers: int,
        lease_time: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._clock = clock
        self.instance = instance
        self._index = index
        self._reference = reference
        self._lease = lease
        self._lives = lives
        self._max_peers = max_peers
        self._lease_time = lease_time
        self._serial = counter(1)
        self.sessions: dict[str, Session] = {}
        self.refused = 0
        self.closed_written = 0

    async def claim(
        self,
        frontier_id: str,
        sb: str,
        eb: str,
        boot: str,
        on_lost: Callable[[str], None] | None,
    ) -> Claim:
        """See ``IRegistry.claim``."""
        token = f"{self.instance}/{next(self._serial)}"
        await self._index.fresh(STALE)
        await self._reference_allows(frontier_id, sb, eb)
        code, text, former_text = await self._claim_entry(frontier_id, sb, eb, boot, token)
        if code == 2:
            raise RegistryFullError("the registry knows 4095 frontiers, the most it can; remove some")
        if code == 0:
            self.refused += 1
            raise FrontierAlreadySetError
        entry = decode_entry(text)
        former = decode_entry(former_text) if former_text else None
        returning = former is not None and former.generation == entry.generation
        claim = Claim(frontier_id, token, sb, eb, boot, entry.born, entry.respelled, returning, on_lost)
        self.void(frontier_id, "another connection of this frontier took its place")
        session = Session(self._redis, self._clock, self, claim, entry, self._lives, self._max_peers, entry.renewed)
        self.sessions[frontier_id] = session
        if former is not None and not returning:
            self.background(session, lambda: session.repairs.clear(former))
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
            self.refused += 1
            raise FrontierAlreadySetError

    async def _claim_entry(self, frontier_id: str, sb: str, eb: str, boot: str, token: str) -> tuple[int, bytes, bytes]:
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
            session = self.sessions.get(frontier_id)
            ours = holder.startswith(f"{self.instance}/")
            current = session is not None and session.claim.token == holder
            silent = session is None or self._clock.seconds() - session.spoke > self._lease.silence
            if not ours or (current and not silent):
                return 0, reply[1], b""
            stale = holder

    async def renew(self, claim: Claim) -> None:
        """See ``IRegistry.renew``."""
        session = self.session(claim)
        session.spoke = self._clock.seconds()
        await self.renew_session(session)
        if session.busy:
            return
        life = min(self._lives.edge, self._lives.service)
        elapsed = session.spoke - session.looked_after
        session.looked_after = session.spoke
        self.background(session, lambda: session.repairs.look_after(elapsed * 3 / life))

    async def renew_session(self, session: Session) -> None:
        """Extend the lease of a session, whoever asks for it."""
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
            self.void(claim.frontier_id, "another connection of this frontier took its place")
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
                *session.counted(),
            ),
            command("EXPIRE", edges_of(entry), keep),
            command("EXPIRE", services_of(entry), keep),
        ]

    async def write_counts(self) -> None:
        """Write the numbers of those Frontiers whose edges or services have changed since that was done last, one
        command each, however many have changed."""
        changed = [session for session in self.sessions.values() if session.recounted]
        for start in range(0, len(changed), AT_ONCE):
            part = changed[start : start + AT_ONCE]
            requests = [
                command("HSET", hash_key(session.claim.frontier_id), *session.counted())
                for session in part
                if not session.closed
            ]
            for reply in await self._redis.batch(requests):
                if isinstance(reply, RedisError):
                    for session in changed:
                        session.recount()
                    return

    async def release(self, claim: Claim, by_peer: bool) -> None:
        """See ``IRegistry.release``."""
        session = self.sessions.get(claim.frontier_id)
        if session is None or session.claim is not claim:
            return
        del self.sessions[claim.frontier_id]
        session.close(self._lost(claim))
        self.closed_written += session.held.written
        key = hash_key(claim.frontier_id)
        [released, *_] = await self._ask(
            RELEASE(INDEX, self._lease_time(), claim.frontier_id, claim.token, int(by_peer)),
            DROP_ALIVE(alive_key(claim.frontier_id), claim.token),
            command("HSET", key, "edge_count", 0, "service_count", 0),
            command("PUBLISH", CHANNEL, "F"),
        )
        if released[0] == 1:
            self._index.note(decode_entry(released[1]))

    # What sessions ask, and queries

    @property
    def epoch(self) -> str:
        return self._index.epoch

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

    def moved_away(self, edge_id: int, frontier_id: str, since: int) -> bool:
        session = self.sessions.get(frontier_id)
        if session is None:
            return False
        peer = session.held.table.edges.get(edge_id)
        if peer is not None and peer.since <= since:
            session.held.elsewhere.add(edge_id)
        return True

    def denies(self, edge: EdgeRecord) -> bool:
        """Whether one of our own Frontiers, which the record names, says that it has no such edge."""
        session = self.sessions.get(edge.frontier_id)
        return session is not None and session.denies(edge.edge_id)

    def told(self, edge_id: int) -> EdgeRecord | None:
        """An edge without a record that one of our own Frontiers has reported: Redis lost it, or has yet to
        get it."""
        for session in self.sessions.values():
            peer = session.held.table.edges.get(edge_id)
            if peer is not None and edge_id not in session.held.elsewhere:
                return EdgeRecord(edge_id, session.claim.frontier_id, peer.addr, max(peer.since, session.claim.born))
        return None

    # Inside

    async def _ask(self, *requests: Request) -> list[Reply]:
        return await ask(self._redis, *requests)

    def session(self, claim: Claim) -> Session:
        """The session of a claim; raises ``ClaimLostError``."""
        session = self.sessions.get(claim.frontier_id)
        if session is None or session.claim is not claim:
            raise self._lost(claim)
        return session

    def _lost(self, claim: Claim) -> ClaimLostError:
        return ClaimLostError(claim.lost or f"frontier {claim.frontier_id!r} was released by this connection")

    def void(self, frontier_id: str, reason: str) -> None:
        """End what is here of a Frontier that is somebody else's now."""
        session = self.sessions.pop(frontier_id, None)
        if session is not None:
            session.claim.void(reason)
            session.close(ClaimLostError(reason))
            self.closed_written += session.held.written

    def background(self, session: Session, job: Callable[[], Any]) -> None:
        """Let a session do something when it has time; what fails because of Redis is done again later."""

        def failed(failure: Any) -> None:
            if failure.check(RegistryError) is None:
                log.failure("repairing records", failure)
            session.held.dirty = True

        session.run(job).addErrback(failed)

    def name(self, session: Session) -> None:
        """The time to name peers by heartbeats is over."""
        session.held.named = True
        self.background(session, lambda: session.reconcile(everything=False))
