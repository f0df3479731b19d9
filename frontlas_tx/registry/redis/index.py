"""The directory of Frontiers as this Frontlas knows it: read every second, kept through trouble of Redis."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from frontier_tx.redis.errors import RedisError
from frontier_tx.redis.interfaces import IRedis, Reply, Request
from frontier_tx.runtime.deferreds import Waiters
from frontlas_tx.registry.directory import Entry, Lease, differences
from frontlas_tx.registry.errors import INCOMPLETE_TEXT, RegistryUnavailableError
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.records import FrontierRecord
from frontlas_tx.registry.redis.keys import INDEX, decode_entries
from frontlas_tx.registry.redis.scripts import POLL

STALE = 3.0
"""Seconds after which the index must be read again before it is used."""
AT_ONCE = 200
"""Commands of one question that are under way together, so that a long list holds up nobody."""
KEEP = 60.0
"""Seconds for which Frontiers of a Redis that came back empty are still shown, while they are written
again."""
FORGIVE = 25.0
"""Seconds after trouble in which no lease ends that could not be renewed: a heartbeat interval and some
room."""
GAP = 3_000
"""Milliseconds without a sign of life of any Frontlas after which leases were not renewed for want of one."""


async def ask(redis: IRedis, *requests: Request) -> list[Reply]:
    """Replies; raises ``RegistryUnavailableError`` with the first error among them."""
    replies: list[Reply] = []
    for start in range(0, len(requests), AT_ONCE):
        replies += await redis.batch(requests[start : start + AT_ONCE])
        for reply in replies[start:]:
            if isinstance(reply, RedisError):
                raise RegistryUnavailableError(str(reply)) from reply
    return replies


class RedisIndex:
    """Entries of all Frontiers with the server's time.

    ``lost`` is called when Redis turns out to have lost its data.  ``lease_time`` gives the milliseconds that
    count for leases, 0 for the server's own clock.
    """

    def __init__(
        self,
        redis: IRedis,
        clock: IReactorTime,
        instance: str,
        lease: Lease,
        feed: ChangeFeed,
        lease_time: Callable[[], int],
        lost: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._instance = instance
        self._lease = lease
        self._feed = feed
        self.lease_time = lease_time
        self._lost = lost
        self._entries: dict[str, Entry] = {}
        self._forgiven: dict[str, Entry] = {}
        self._forgive_until = 0.0
        self._in_trouble = False
        self._gap = (0, 0)
        self.epoch = ""
        self._losses = 0
        self._untold: set[str] = set()
        self._offset = 0.0
        self._known_at = float("-inf")
        self._known_poll = 0
        self._reading: Deferred[None] | None = None
        self._readers: Waiters[None] = Waiters()
        self._alive: dict[str, FrontierRecord] = {}
        self.polls = 0

    @property
    def entries(self) -> dict[str, Entry]:
        """All entries by Frontier, those kept through a loss of data included."""
        if self._forgiving:
            return {**self._forgiven, **self._entries}
        return self._entries

    @property
    def now(self) -> int:
        """The store's time in milliseconds, as well as known here."""
        return self.lease_time() or int(self._clock.seconds() * 1000 + self._offset)

    @property
    def incomplete(self) -> str:
        """Why an edge without a record may be online all the same, empty if it is not."""
        if not self._untold or not self._forgiving:
            return ""
        return f"{INCOMPLETE_TEXT}; {len(self._untold)} frontiers have yet to report their edges again"

    @property
    def completeness(self) -> tuple[int, int]:
        """Something that changes whenever ``incomplete`` may."""
        return self._losses, len(self._untold)

    @property
    def _forgiving(self) -> bool:
        return bool(self._forgiven) and self._clock.seconds() < self._forgive_until

    def get(self, frontier_id: str) -> Entry | None:
        """The entry of a Frontier."""
        entry = self._entries.get(frontier_id)
        if entry is None and self._forgiving:
            return self._forgiven.get(frontier_id)
        return entry

    def alive(self, entry: Entry) -> bool:
        """Whether its lease runs, or could not be renewed through no fault of its own."""
        now = self.now
        if entry.alive(now, self._lease):
            return True
        if entry.left:
            return False
        began, ended = self._gap
        if now < ended + FORGIVE * 1000 and entry.alive(began, self._lease):
            return True
        # One that was renewed since lives by its lease again.
        forgiven = self._forgiven.get(entry.frontier_id)
        return self._forgiving and forgiven is not None and entry.renewed <= forgiven.renewed

    def live(self) -> list[Entry]:
        """Entries of live Frontiers by number."""
        return sorted((e for e in self.entries.values() if self.alive(e)), key=lambda entry: entry.number)

    def listed(self) -> list[tuple[int, FrontierRecord]]:
        """The Frontiers to be shown with their numbers, in that order."""
        entries = sorted(self.entries.values(), key=lambda entry: entry.number)
        return [(entry.number, record) for entry in entries if (record := self.shown(entry)) is not None]

    def shown(self, entry: Entry) -> FrontierRecord | None:
        """What lists show of an entry; None where they leave it out."""
        alive = self.alive(entry)
        return entry.record(alive) if (alive and entry.sb) or entry.listed(self.now, self._lease) else None

    def forgotten(self) -> list[Entry]:
        """Entries that nobody needs any more."""
        return [entry for entry in self._entries.values() if entry.forgotten(self.now, self._lease)]

    def note(self, entry: Entry) -> None:
        """Take in an entry that was just written."""
        self._entries[entry.frontier_id] = entry
        name = entry.frontier_id
        old = {name: self._alive.pop(name)} if name in self._alive else {}
        new = {name: entry.record(True)} if self.alive(entry) else {}
        self._alive |= new
        self._feed.publish(differences(old, new))

    def drop(self, frontier_id: str) -> None:
        """Leave out an entry that was just removed."""
        self._entries.pop(frontier_id, None)

    async def fresh(self, age: float) -> None:
        """Read again unless what is known was asked for less than ``age`` seconds ago (0: after this call).

        Raises ``RegistryUnavailableError``.
        """
        wanted, before = self._clock.seconds() - age, self.polls
        while not (self._known_at >= wanted if age else self._known_poll > before):
            waiting = self._readers.wait()
            if self._reading is None:
                # Not the business of whoever asks first: it may give up, and others wait for the same.
                self._reading = Deferred.fromCoroutine(self._read())
                self._reading.addBoth(self._have_read)
            await waiting

    def _have_read(self, outcome: Failure | None) -> None:
        self._reading = None
        self._readers.tell(outcome)

    async def _read(self) -> None:
        request = POLL(INDEX, self.lease_time(), self._instance, token_hex(8), GAP)
        self.polls += 1
        poll, asked = self.polls, self._clock.seconds()
        [reply] = await self._redis.batch([request])
        if isinstance(reply, RedisError):
            self._trouble()
            raise RegistryUnavailableError(str(reply)) from reply
        try:
            now, epoch, text, gap, told = reply
            entries = {entry.frontier_id: entry for entry in decode_entries(text)}
        except (msgspec.DecodeError, ValueError, TypeError) as error:
            raise RegistryUnavailableError(
                f"redis {self._redis.name}: the directory {INDEX} cannot be read ({error}): take out what is not ours"
            ) from None
        self._offset = now - self._clock.seconds() * 1000
        self._known_poll, self._known_at = poll, asked
        began, _, ended = gap.decode().partition(" ")
        self._gap = (int(began or 0), int(ended or 0))
        lost = bool(self.epoch) and epoch.decode() != self.epoch
        self.epoch = epoch.decode()
        if lost:
            self._losses += 1
            living = self._living()
            self._untold = set(living)
            ending = [entry for entry in self.entries.values() if entry.listed(now, self._lease)]
            self._forgiven = {entry.frontier_id: replace(entry, left=entry.left or now) for entry in ending}
            self._forgiven |= living
            self._forgive_until = self._clock.seconds() + KEEP
        elif self._in_trouble:
            self._forgive_until = self._clock.seconds() + FORGIVE
        self._untold.difference_update(name.decode() for name in told)
        self._in_trouble = False
        self._entries = entries
        self._changed()
        if lost:
            self._lost()

    def _trouble(self) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            self._forgiven = self._living()
        self._forgive_until = self._clock.seconds() + FORGIVE

    def _living(self) -> dict[str, Entry]:
        return {entry.frontier_id: entry for entry in self.live()}

    def _changed(self) -> None:
        alive = {entry.frontier_id: entry.record(True) for entry in self.live()}
        before, self._alive = self._alive, alive
        self._feed.publish(differences(before, alive))
