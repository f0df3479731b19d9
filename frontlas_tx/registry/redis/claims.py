"""Claims of Frontiers in Redis: who may speak for one, for how long, and the holders of those that speak here."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count as counter

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from frontier_tx.redis.errors import RedisError
from frontier_tx.redis.interfaces import IRedis, Reply, Request, command
from frontier_tx.runtime.deferreds import deferred
from frontlas_tx.config import Expiration
from frontlas_tx.registry.directory import Entry, Lease
from frontlas_tx.registry.errors import ClaimLostError, FrontierAlreadySetError, RegistryError, no_room
from frontlas_tx.registry.peers import PeerBudget, PeerTable
from frontlas_tx.registry.records import Claim
from frontlas_tx.registry.redis.go_frontiers import GoFrontiers
from frontlas_tx.registry.redis.holder import Holder
from frontlas_tx.registry.redis.index import AT_ONCE, STALE, RedisIndex, ask
from frontlas_tx.registry.redis.keys import (
    CHANNEL,
    INDEX,
    alive_key,
    decode_entry,
    edges_of,
    encode,
    hash_key,
    services_of,
)
from frontlas_tx.registry.redis.peer_records import PeerRecords
from frontlas_tx.registry.redis.scripts import CLAIM, DROP_ALIVE, RELEASE, RENEW
from frontlas_tx.registry.redis.signs import DEAD, UNHEARD, Life, SignsOfLife


class RedisClaims:
    """The claims of one Frontlas.

    ``holders`` are those that hold, by Frontier; ``refused`` counts claims that were not granted, ``displaced``
    Frontiers that made room for others, ``closed_written`` the writes of holders that are over.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        instance: str,
        index: RedisIndex,
        go: GoFrontiers,
        holders: dict[str, Holder],
        lease: Lease,
        life: Expiration,
        max_peers: int,
        budget: PeerBudget,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._instance = instance
        self._index = index
        self._go = go
        self._lease = lease
        self._life = life
        self._max_peers = max_peers
        self._serial = counter(1)
        self.budget = budget
        self.holders = holders
        self.signs = SignsOfLife(redis, clock, instance)
        self.refused = 0
        self.displaced = 0
        self.closed_written = 0

    @deferred
    async def claim(
        self,
        frontier_id: str,
        advertised_sb_addr: str,
        advertised_eb_addr: str,
        boot_id: str = "",
        on_lost: Callable[[str], None] | None = None,
        probe: Callable[[], Deferred[bool]] | None = None,
        origin: str = "",
        version: str = "",
        started: int = 0,
    ) -> Claim:
        """See ``IRegistry.claim``."""
        sb, eb, boot = advertised_sb_addr, advertised_eb_addr, boot_id
        token = f"{self._instance}/{next(self._serial)}"
        await self._index.fresh(STALE)
        await self._go_allows(frontier_id)
        about = (origin, version, started)
        code, text, former_text, gone_text = await self._claim_entry(frontier_id, sb, eb, boot, token, about)
        if code == 2:
            raise no_room()
        if code == 0:
            self.refused += 1
            raise FrontierAlreadySetError
        entry = decode_entry(text)
        former = decode_entry(former_text) if former_text else None
        returning = former is not None and former.generation == entry.generation
        process = (entry.born, bool(entry.respelled), returning)
        claim = Claim(frontier_id, token, sb, eb, boot, *process, on_lost, probe, *about)
        self.void(frontier_id, "another connection of this frontier took its place")
        table = PeerTable(self._max_peers, self.budget, origin)
        records = PeerRecords(
            self._redis, self._clock, self._index, self._go, claim, entry, self._life, table, self.moved_away
        )
        holder = Holder(self._redis, self._clock, self._index, records, entry.renewed)
        self.holders[frontier_id] = holder
        if former is not None and not returning:
            holder.background(lambda: holder.repairs.clear(former))
        self._index.note(entry)
        if gone_text:
            await self._make_room(decode_entry(gone_text))
        await self._redis.batch([*self._life_signs(holder), command("PUBLISH", CHANNEL, "F")])
        return claim

    async def _make_room(self, gone: Entry) -> None:
        """A Frontier was taken out of the full directory."""
        self._index.drop(gone.frontier_id)
        self.displaced += 1
        self.void(gone.frontier_id, "the registry is full, and another frontier needed the place of one without peers")
        keys = (hash_key(gone.frontier_id), alive_key(gone.frontier_id), edges_of(gone), services_of(gone))
        await self._redis.batch([command("DEL", key) for key in keys])

    async def _go_allows(self, frontier_id: str) -> None:
        """A node that is connected to a Go Frontlas cannot be asked whether it lives: it does until its life sign ends,
        as for that Frontlas itself."""
        [alive] = await ask(self._redis, command("GET", alive_key(frontier_id)))
        if alive and b"/" not in alive:
            self.refused += 1
            raise FrontierAlreadySetError

    async def _claim_entry(
        self, frontier_id: str, sb: str, eb: str, boot: str, token: str, about: tuple[str, str, int]
    ) -> tuple[int, bytes, bytes, bytes]:
        """What the claim script answers; a holder that is gone, silent, or shows no sign of life is not respected."""
        stale, dead, looked = "", DEAD, False
        while True:
            request = CLAIM(
                INDEX,
                self._index.lease_time(),
                frontier_id,
                sb,
                eb,
                boot,
                token,
                int(self._lease.alive * 1000),
                stale,
                int(dead * 1000),
                *about,
            )
            [reply] = await ask(self._redis, request)
            if reply[0] != 0 or looked:
                made = [*reply[1:], b"", b"", b""]
                return reply[0], made[0], made[1], made[2]
            holder = decode_entry(reply[1])
            life = await self._life_of(holder, bool(sb) and (holder.sb, holder.eb) == (sb, eb))
            if life is Life.ALIVE:
                return 0, reply[1], b"", b""
            looked = True
            stale, dead = (holder.token, DEAD) if life is Life.ENDED else ("", UNHEARD)

    async def _life_of(self, entry: Entry, same: bool) -> Life:
        """Whether the holder of an identity lives; it is asked if its own addresses (``same``) ask for its place."""
        if not entry.token.startswith(f"{self._instance}/"):
            return await self.signs.ask_its_frontlas(entry) if same else Life.ALIVE
        holder = self.holders.get(entry.frontier_id)
        if holder is None or holder.claim.token != entry.token:
            return Life.ENDED
        if self._clock.seconds() - holder.spoke > self._lease.silence:
            return Life.ENDED
        return Life.ALIVE if not same or await holder.claim.lives() else Life.ENDED

    def question(self, frontier_id: str, token: str) -> None:
        """Another Frontlas asks whether a Frontier lives whose link is here, or was."""
        if token.startswith(f"{self._instance}/"):
            ensureDeferred(self._answer(frontier_id, token)).addErrback(_cannot_answer)

    async def _answer(self, frontier_id: str, token: str) -> None:
        holder = self.holders.get(frontier_id)
        alive = False
        if holder is not None and holder.claim.token == token:
            alive = await holder.claim.lives()
            if not alive and not holder.closed:
                await self.release(holder.claim, by_peer=False)
                holder.claim.void("it gave no sign of life when another connection asked for its place")
        await self.signs.answer(token, alive)

    def stop(self, error: RegistryError) -> None:
        """End all holders, and whatever is asked."""
        for holder in self.holders.values():
            holder.close(error)
        self.holders.clear()
        self.signs.stop(error)

    @deferred
    async def renew(self, claim: Claim) -> None:
        """See ``IRegistry.renew``."""
        holder = self.holder(claim)
        holder.spoke = self._clock.seconds()
        await self.renew_lease(holder)
        if holder.busy:
            return
        life = min(self._life.edge_life, self._life.service_meta)
        elapsed = holder.spoke - holder.looked_after
        holder.looked_after = holder.spoke
        holder.background(lambda: holder.repairs.look_after(elapsed * 3 / life))

    async def renew_lease(self, holder: Holder) -> None:
        """Extend the lease, whoever asks for it."""
        claim = holder.claim
        entry_text = encode(holder.records.entry)
        peers = holder.table.size
        renewal = RENEW(INDEX, self._index.lease_time(), claim.frontier_id, claim.token, entry_text, peers)
        [reply] = await ask(self._redis, renewal)
        if reply[0] == 2:
            self.void(claim.frontier_id, "the registry is full, and other frontiers have taken the place of this one")
            raise claim.lost_error()
        entry = decode_entry(reply[1])
        if reply[0] == 0 and entry.renewed < holder.claimed_at:
            # A failover brought an older state back, in which somebody else held the identity.
            reply = await self._claim_again(holder, entry.token)
            entry = decode_entry(reply[1])
        if holder.closed:
            raise claim.lost_error()
        if reply[0] == 0:
            self._index.note(entry)
            self.void(claim.frontier_id, "another connection of this frontier took its place")
            raise claim.lost_error()
        holder.records.entry = entry
        self._index.note(entry)
        await self._redis.batch(self._life_signs(holder))

    async def _claim_again(self, holder: Holder, stale: str) -> Reply:
        claim, lease = holder.claim, int(self._lease.alive * 1000)
        identity = (claim.frontier_id, claim.advertised_sb_addr, claim.advertised_eb_addr, claim.boot_id)
        dead, about = int(DEAD * 1000), (claim.origin, claim.version, claim.started)
        request = CLAIM(INDEX, self._index.lease_time(), *identity, claim.token, lease, stale, dead, *about)
        [reply] = await ask(self._redis, request)
        holder.records.lost = True
        return reply

    def _life_signs(self, holder: Holder) -> list[Request]:
        """What a Go Frontlas reads, and lives of the sets."""
        entry, claim = holder.records.entry, holder.claim
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
                *holder.counted(),
            ),
            command("EXPIRE", edges_of(entry), keep),
            command("EXPIRE", services_of(entry), keep),
        ]

    async def write_counts(self) -> None:
        """Write the numbers of those Frontiers whose edges or services have changed since that was done last, one
        command each, however many have changed."""
        changed = [holder for holder in self.holders.values() if holder.recounted]
        for start in range(0, len(changed), AT_ONCE):
            part = changed[start : start + AT_ONCE]
            requests = [
                command("HSET", hash_key(holder.claim.frontier_id), *holder.counted())
                for holder in part
                if not holder.closed
            ]
            for reply in await self._redis.batch(requests):
                if isinstance(reply, RedisError):
                    for holder in changed:
                        holder.recount()
                    return

    @deferred
    async def release(self, claim: Claim, by_peer: bool = False) -> None:
        """See ``IRegistry.release``."""
        holder = self.holders.get(claim.frontier_id)
        if holder is None or holder.claim is not claim:
            return
        peers = holder.table.size
        del self.holders[claim.frontier_id]
        holder.close(claim.lost_error())
        self.closed_written += holder.records.written
        key = hash_key(claim.frontier_id)
        [released, *_] = await ask(
            self._redis,
            RELEASE(INDEX, self._index.lease_time(), claim.frontier_id, claim.token, int(by_peer), peers),
            DROP_ALIVE(alive_key(claim.frontier_id), claim.token),
            command("HSET", key, "edge_count", 0, "service_count", 0),
            command("PUBLISH", CHANNEL, "F"),
        )
        if released[0] == 1:
            self._index.note(decode_entry(released[1]))

    def moved_away(self, edge_id: int, frontier_id: str, since: int) -> bool:
        """A Frontier (empty: one that is not known) has lost an edge to another one; False if it is not connected
        here."""
        if not frontier_id:
            for each in self.holders.values():
                each.look_at(edge_id)
        holder = self.holders.get(frontier_id)
        if holder is not None:
            holder.moved_away(edge_id, since)
        return holder is not None

    # Inside

    def holder(self, claim: Claim) -> Holder:
        """Who holds a claim; raises ``ClaimLostError``."""
        holder = self.holders.get(claim.frontier_id)
        if holder is None or holder.claim is not claim:
            raise claim.lost_error()
        return holder

    def void(self, frontier_id: str, reason: str) -> None:
        """End what is here of a Frontier that is somebody else's now."""
        holder = self.holders.pop(frontier_id, None)
        if holder is not None:
            holder.claim.void(reason)
            holder.close(ClaimLostError(reason))
            self.closed_written += holder.records.written


def _cannot_answer(failure: Failure) -> None:
    # Redis is away, which is named elsewhere, or the Frontier left meanwhile.
    failure.trap(RegistryError)  # type: ignore[no-untyped-call]
