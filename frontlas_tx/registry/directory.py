"""The directory of Frontiers: one entry per identity, and the rules of its lease.

The same rules run in two places, here and in the scripts of the Redis implementation; times are milliseconds
of the store's clock so that several Frontlas with differing clocks agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import msgspec
from msgspec.structs import replace

from frontlas_tx.registry.records import Change, ChangeKind, FrontierRecord, Page

MAX_FRONTIERS = 4095
"""Cursors carry the number of a Frontier in twelve bits; numbers start at 1."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Lives in seconds: of a Frontier without renewal, of its place in the list after its end, of a silent
    holder's claim, and of the memory of a Frontier that is gone (its edge records live no longer than this
    either)."""

    alive: float = 30.0
    grace: float = 30.0
    silence: float = 40.0
    forget: float = 86_400.0
    naming: float = 60.0


#: The names of an entry's fields in the store.
FIELDS = {
    "frontier_id": "id", "number": "n", "renewed": "at", "generation": "gen", "respelled": "re", "hung_up": "up",
    "origin": "ip", "held": "has", "version": "ver", "started": "up_at",
}  # fmt: skip


class Entry(msgspec.Struct, frozen=True, rename=FIELDS):
    """One Frontier as the store holds it.

    ``number`` is small, unique and constant; ``token`` names the holder's connection, empty after a release.
    ``renewed`` and ``left`` are milliseconds (``left`` 0 while held).  ``born`` (seconds) and ``generation``
    change with the node's process: older peers do not count.  ``hung_up`` (0 or 1) says that the node's own side ended
    the last link.  ``origin`` is the address that its link comes from, ``held`` how many peers it had at the last
    renewal or at its end. ``version`` and ``started`` (seconds) are those of its process.
    """

    frontier_id: str
    number: int
    sb: str
    eb: str
    boot: str
    token: str
    renewed: int
    left: int = 0
    born: int = 0
    generation: int = 1
    respelled: int = 0
    hung_up: int = 0
    origin: str = ""
    held: int = 0
    version: str = ""
    started: int = 0

    def alive(self, now: int, lease: Lease) -> bool:
        """Whether the peers of this Frontier count as online."""
        return not self.left and now < self.renewed + lease.alive * 1000

    def listed(self, now: int, lease: Lease) -> bool:
        """Whether lists show it: while alive, and for the grace time afterwards, if it has an address at
        all."""
        end = self.left or self.renewed + lease.alive * 1000
        return bool(self.sb) and now < end + lease.grace * 1000

    def forgotten(self, now: int, lease: Lease) -> bool:
        """Whether nothing of it needs to be kept any longer."""
        end = self.left or self.renewed + lease.alive * 1000
        return now >= end + lease.forget * 1000

    def record(self, alive: bool) -> FrontierRecord:
        """What is told to those who ask."""
        seen = (self.left or self.renewed) // 1000
        about = (self.boot, bool(self.respelled), self.version, self.started, seen)
        return FrontierRecord(self.frontier_id, self.sb, self.eb, alive, *about)

    def released(self, now: int, by_peer: bool, held: int = 0) -> Entry:
        """The entry after its holder left with so many peers."""
        return replace(self, token="", left=now, hung_up=int(by_peer), held=held)

    def ended(self, lease: Lease) -> int:
        """When its life ended, or ends unless it is renewed (ms)."""
        return self.left or self.renewed + int(lease.alive * 1000)

    def is_same_process(self, boot: str) -> bool:
        """Whether the process that holds it comes back on another connection: nobody else knows its boot id."""
        return bool(boot) and boot == self.boot

    def is_process(self, boot: str) -> bool:
        """Whether this is still the process of the node that comes back now.

        A node that sends no boot id closes its links only by dying, so hanging up stands for a restart.
        """
        return boot == self.boot and not (self.hung_up and not boot)


def claimed(
    current: Entry | None,
    frontier_id: str,
    sb: str,
    eb: str,
    boot: str,
    token: str,
    now: int,
    number: int,
    origin: str = "",
    version: str = "",
    started: int = 0,
) -> Entry:
    """The entry after an accepted claim; ``number`` is used only for a new one."""
    if current is None:
        return Entry(frontier_id, number, sb, eb, boot, token, now, origin=origin, version=version, started=started)
    replaced = not current.is_process(boot)
    return replace(
        current,
        sb=sb,
        eb=eb,
        boot=boot,
        token=token,
        renewed=now,
        left=0,
        hung_up=0,
        origin=origin,
        version=version,
        started=started,
        born=now // 1000 if replaced else current.born,
        generation=current.generation + (1 if replaced else 0),
        respelled=current.respelled ^ replaced,
    )


def dispensable(entries: Iterable[Entry], now: int, lease: Lease, origin: str) -> Entry | None:
    """The Frontier that makes room for a new one from ``origin`` in a full directory, None if none does.

    Those that have ended go first, without peers before those with, the earliest end before later ones; then live
    ones without peers, of the origin that has the most Frontiers, unless it has fewer than the newcomer's.
    """
    kept = list(entries)
    ended = [entry for entry in kept if not entry.alive(now, lease)]
    if ended:
        return min(ended, key=lambda entry: (entry.held > 0, entry.ended(lease)))
    share = Counter(entry.origin for entry in kept)
    empty = [entry for entry in kept if not entry.held and share[entry.origin] >= share[origin]]
    return min(empty, key=lambda entry: (-share[entry.origin], entry.renewed), default=None)


class Numbers:
    """Which numbers of Frontiers are taken."""

    def __init__(self) -> None:
        self._highest = 0
        self._free: list[int] = []

    def take(self) -> int | None:
        """The smallest number not in use, None if all are."""
        if self._free:
            return heappop(self._free)
        if self._highest >= MAX_FRONTIERS:
            return None
        self._highest += 1
        return self._highest

    def give_back(self, number: int) -> None:
        """It is not in use any more."""
        heappush(self._free, number)


def encode_cursor(number: int, inner: int) -> int:
    """A cursor for the step that continues at ``inner`` within the Frontier with this number; fits 32 bits up
    to a million peers per Frontier."""
    return inner << 12 | number


def decode_cursor(cursor: int) -> tuple[int, int]:
    """Number and inner cursor; (0, 0) at the start of a walk."""
    return cursor & 0xFFF, cursor >> 12


PAGE_LIMIT = 1_000
DEFAULT_PAGE = 10


def page_size(count: int) -> int:
    """How many records a step aims at: the hint within bounds, 10 where it says nothing."""
    return min(count, PAGE_LIMIT) if count > 0 else DEFAULT_PAGE


def page_of(listed: Sequence[tuple[int, FrontierRecord]], cursor: int, count: int) -> Page[FrontierRecord]:
    """The step over numbered Frontiers that begins with number ``cursor``."""
    rest = [pair for pair in listed if pair[0] >= cursor]
    size = page_size(count)
    return Page(rest[size][0] if len(rest) > size else 0, [record for _number, record in rest[:size]])


def differences(before: Mapping[str, FrontierRecord], after: Mapping[str, FrontierRecord]) -> list[Change]:
    """The changes between two states of the live Frontiers: ends first, then beginnings and new addresses."""
    changes = [
        Change(ChangeKind.FRONTIER_DOWN, name, addr=old.advertised_sb_addr)
        for name, old in before.items()
        if name not in after
    ]
    changes += [
        Change(ChangeKind.FRONTIER_UP, name, addr=new.advertised_sb_addr)
        for name, new in after.items()
        if name not in before or before[name].listed_sb_addr != new.listed_sb_addr
    ]
    return changes
