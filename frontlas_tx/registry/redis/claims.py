"""Claims of Frontiers in Redis: who may speak for one, for how long, and the sessions of those that speak here."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from itertools import count as counter
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from frontier_tx.atlas.protocols import PROBE_SECONDS
from frontier_tx.runtime.deferreds import Waiters
from frontlas_tx.redis.errors import RedisError
from frontlas_tx.redis.interfaces import IRedis, Reply, Request, command
from frontlas_tx.registry.directory import Entry, Lease
from frontlas_tx.registry.errors import ClaimLostError, FrontierAlreadySetError, RegistryError, no_room
from frontlas_tx.registry.go_frontiers import ReferenceFrontiers
from frontlas_tx.registry.peers import PeerBudget, PeerTable
from frontlas_tx.registry.records import CONTENDERS, Claim, EdgeRecord
from frontlas_tx.registry.redis.index import RedisIndex
from frontlas_tx.registry.redis.keys import (
    CHANNEL,
    INDEX,
    alive_key,
    decode_entry,
    edges_of,
    encode_answer,
    encode_entry,
    encode_question,
    hash_key,
    services_of,
)
from frontlas_tx.registry.redis.peer_records import Lives
from frontlas_tx.registry.redis.queries import AT_ONCE, STALE, ask
from frontlas_tx.registry.redis.scripts import CLAIM, DROP_ALIVE, RELEASE, RENEW
from frontlas_tx.registry.redis.session import Session

log = Logger()

DEAD = 30.0
"""Seconds without a sign of life after which another Frontlas is dead."""
UNHEARD = 4.0
"""The same for one that was asked about a Frontier and did not answer; it tells that it lives every second."""
ANSWER_WITHIN = PROBE_SECONDS + 1.0
"""Seconds within which another Frontlas answers."""


class Life(Enum):
    """Whether the holder of an identity lives."""

    ALIVE = "alive"
    ENDED = "ended"
    UNHEARD = "its Frontlas did not answer"


class RedisClaims:
    """The claims of one Frontlas.

    ``sessions`` are those that hold, by Frontier; ``refused`` counts claims that were not granted, ``displaced``
    Frontiers that made room for others,
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
        budget: PeerBudget,
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
        self.budget = budget
        self._lease_time = lease_time
        self._serial = counter(1)
        self.sessions: dict[str, Session] = {}
        self.refused = 0
        self.displaced = 0
        self._asked: dict[str, Waiters[Life]] = {}
        self.closed_written = 0

    async def claim(
        self,
        frontier_id: str,
        sb: str,
        eb: str,
        boot: str,
        on_lost: Callable[[str], None] | None,
        probe: Callable[[], Deferred[bool]] | None = None,
        origin: str = "",
    ) -> Claim:
        """See ``IRegistry.claim``."""
        token = f"{self.instance}/{next(self._serial)}"
        await self._index.fresh(STALE)
        await self._reference_allows(frontier_id)
        code, text, former_text, gone_text = await self._claim_entry(frontier_id, sb, eb, boot, token, origin)
        if code == 2:
            raise no_room()
        if code == 0:
            self.refused += 1
            raise FrontierAlreadySetError
        entry = decode_entry(text)
        former = decode_entry(former_text) if former_text else None
        returning = former is not None and former.generation == entry.generation
        claim = Claim(frontier_id, token, sb, eb, boot, entry.born, entry.respelled, returning, on_lost, probe, origin)
        self.void(frontier_id, "another connection of this frontier took its place")
        table = PeerTable(self._max_peers, self.budget, origin)
        session = Session(self._redis, self._clock, self, claim, entry, self._lives, table, entry.renewed)
        self.sessions[frontier_id] = session
        if former is not None and not returning:
            self.background(session, lambda: session.repairs.clear(former))
        self._index.note(entry)
        if gone_text:
            await self._make_room(decode_entry(gone_text))
        await self._redis.batch([*self._life_signs(session), command("PUBLISH", CHANNEL, "F")])
        return claim

    async def _make_room(self, gone: Entry) -> None:
        """A Frontier was taken out of the full directory."""
        self._index.drop(gone.frontier_id)
        self.displaced += 1
        self.void(gone.frontier_id, "the registry is full, and another frontier needed the place of one without peers")
        keys = (hash_key(gone.frontier_id), alive_key(gone.frontier_id), edges_of(gone), services_of(gone))
        await self._redis.batch([command("DEL", key) for key in keys])

    async def _reference_allows(self, frontier_id: str) -> None:
        """A node that is connected to a Frontlas of the reference cannot be asked whether it lives: it does until its
        life sign ends, as for that Frontlas itself."""
        [alive] = await self._ask(command("GET", alive_key(frontier_id)))
        if alive and b"/" not in alive:
            self.refused += 1
            raise FrontierAlreadySetError

    async def _claim_entry(
        self, frontier_id: str, sb: str, eb: str, boot: str, token: str, origin: str
    ) -> tuple[int, bytes, bytes, bytes]:
        """What the claim script answers; a holder that is gone, silent, or shows no sign of life is not respected."""
        stale, dead, looked = "", DEAD, False
        while True:
            request = CLAIM(
                INDEX,
                self._lease_time(),
                frontier_id,
                sb,
                eb,
                boot,
                token,
                int(self._lease.alive * 1000),
                stale,
                int(dead * 1000),
                origin,
            )
            [reply] = await self._ask(request)
            if reply[0] != 0 or looked:
                made = [*reply[1:], b"", b"", b""]
                return reply[0], made[0], made[1], made[2]
            holder = decode_entry(reply[1])
            life = await self._life_of(holder, bool(sb) and (holder.sb, holder.eb) == (sb, eb))
            if life is Life.ALIVE:
                return 0, reply[1], b"", b""
            looked = True
            stale, dead = (holder.token, DEAD) if life is Life.ENDED else ("", UNHEARD)

    async def _life_of(self, holder: Entry, same: bool) -> Life:
        """Whether the holder of an identity lives; it is asked if its own addresses (``same``) ask for its place."""
        if not holder.token.startswith(f"{self.instance}/"):
            return await self._ask_its_frontlas(holder) if same else Life.ALIVE
        session = self.sessions.get(holder.frontier_id)
        if session is None or session.claim.token != holder.token:
            return Life.ENDED
        if self._clock.seconds() - session.spoke > self._lease.silence:
            return Life.ENDED
        return Life.ALIVE if not same or await session.claim.lives() else Life.ENDED

    async def _ask_its_frontlas(self, holder: Entry) -> Life:
        """Let the Frontlas that holds the link ask the Frontier for a sign of life, and answer over the channel."""
        waiters = self._asked.setdefault(holder.token, Waiters())
        if len(waiters) >= CONTENDERS:
            return Life.ALIVE
        waiting = waiters.wait()
        if len(waiters) == 1:
            question = encode_question(holder.frontier_id, holder.token)
            await self._redis.batch([command("PUBLISH", CHANNEL, question)])
        waiting.addTimeout(ANSWER_WITHIN, self._clock, lambda _result, _seconds: Life.UNHEARD)
        try:
            return await waiting
        finally:
            if not len(waiters):
                self._asked.pop(holder.token, None)

    def stop(self, error: RegistryError) -> None:
        """End all sessions, and whatever is asked."""
        for session in self.sessions.values():
            session.close(error)
        self.sessions.clear()
        asked, self._asked = self._asked, {}
        for waiters in asked.values():
            waiters.tell(error)

    def question(self, frontier_id: str, token: str) -> None:
        """Another Frontlas asks whether a Frontier lives whose link is here, or was."""
        if token.startswith(f"{self.instance}/"):
            ensureDeferred(self._answer(frontier_id, token)).addErrback(_cannot_answer)

    async def _answer(self, frontier_id: str, token: str) -> None:
        session = self.sessions.get(frontier_id)
        alive = False
        if session is not None and session.claim.token == token:
            alive = await session.claim.lives()
            if not alive and not session.closed:
                await self.release(session.claim, by_peer=False)
                session.claim.void("it gave no sign of life when another connection asked for its place")
        await self._redis.batch([command("PUBLISH", CHANNEL, encode_answer(token, alive))])

    def answer(self, token: str, alive: bool) -> None:
        """Another Frontlas says whether the holder of a claim lives."""
        waiters = self._asked.pop(token, None)
        if waiters is not None:
            waiters.tell(Life.ALIVE if alive else Life.ENDED)

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
        peers = session.held.table.size
        renewal = RENEW(INDEX, self._lease_time(), claim.frontier_id, claim.token, entry_text, peers)
        [reply] = await self._ask(renewal)
        if reply[0] == 2:
            self.void(claim.frontier_id, "the registry is full, and other frontiers have taken the place of this one")
            raise self._lost(claim)
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
        dead = int(DEAD * 1000)
        request = CLAIM(INDEX, self._lease_time(), *identity, claim.token, lease, stale, dead, claim.origin)
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
        peers = session.held.table.size
        del self.sessions[claim.frontier_id]
        session.close(self._lost(claim))
        self.closed_written += session.held.written
        key = hash_key(claim.frontier_id)
        [released, *_] = await self._ask(
            RELEASE(INDEX, self._lease_time(), claim.frontier_id, claim.token, int(by_peer), peers),
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


def _cannot_answer(failure: Any) -> None:
    # Redis is away, which is named elsewhere, or the Frontier left meanwhile.
    failure.trap(RegistryError)
