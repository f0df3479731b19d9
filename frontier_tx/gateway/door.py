"""Who may come in at a listener: how many at once, how many from one address, how many that did not say a word yet."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IAddress

#: Where no number is set, an address may hold so many times the places that are free: four fifths of all if it comes
#: alone, and there is always room for another one.
GREED = 4
#: Seconds after which a newcomer that has not introduced itself has to go, where all places for such are taken.
PATIENCE = 2.0


def origin(address: IAddress | None) -> str:
    """What counts as one address: an IPv4 address, the /64 network of an IPv6 one; empty for this machine.

    Whoever is on this machine may be a proxy in front of everybody.
    """
    host = str(getattr(address, "host", "")).removeprefix("::ffff:").partition("%")[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return ""
    if found.is_loopback:
        return ""
    return host if found.version == 4 else str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))


class Door:
    """Places of one listener.

    :param most: connections at once.
    :param per_address: from one address; 0 leaves it to what is free (``GREED``), from this machine without a bound.
    :param strangers: connections that have not introduced themselves.
    :param now: seconds of a clock that never steps back.
    """

    def __init__(self, most: int, *, per_address: int = 0, strangers: int = 20_000, now: Callable[[], float]) -> None:
        self.most = most
        self.per_address = per_address
        self.most_strangers = strangers
        self.held = 0
        self._now = now
        self._by_origin: dict[str, int] = {}
        self._strangers: OrderedDict[object, float] = OrderedDict()
        self._strangers_by_origin: dict[str, int] = {}
        self._origins: dict[object, str] = {}

    @property
    def strangers(self) -> int:
        """Connections that have not introduced themselves."""
        return len(self._strangers)

    def refusal(self, where: str) -> str:
        """Why a newcomer from ``where`` (``origin``) is turned away, with what to do about it; empty where not.

        One that has been silent for long may have to make room, see ``in_the_way``.
        """
        if self.held >= self.most:
            return (
                f"{self.most} connections, the limit is reached; newcomers are turned away, {{addr}} among them. "
                "Raise limits.connections if the host can carry more"
            )
        share = self._share(where, self.most - self.held)
        if share is not None and self._by_origin.get(where, 0) >= share:
            return (
                f"{share} connections from one address, its share is used up; more from {{addr}} are turned away. "
                "Set limits.connections_per_address if it is a proxy"
            )
        free = self.most_strangers - len(self._strangers)
        if where and self._strangers_by_origin.get(where, 0) >= GREED * max(free, 1):
            return "too many connections from {addr} have not introduced themselves; more of them are turned away"
        if free <= 0 and self.in_the_way() is None:
            return (
                f"{self.most_strangers} connections have not introduced themselves; newcomers are turned away, "
                "{addr} among them. Raise limits.handshakes if all of them are honest"
            )
        return ""

    def _share(self, where: str, free: int) -> int | None:
        if self.per_address:
            return self.per_address
        return GREED * free if where else None

    def in_the_way(self) -> object | None:
        """The stranger that has to go when a newcomer comes in, or None."""
        if len(self._strangers) < self.most_strangers:
            return None
        oldest = next(iter(self._strangers))
        return oldest if self._strangers[oldest] <= self._now() - PATIENCE else None

    def enter(self, who: object, where: str) -> None:
        """A connection has come in."""
        self.held += 1
        self._origins[who] = where
        self._by_origin[where] = self._by_origin.get(where, 0) + 1
        self._strangers[who] = self._now()
        self._strangers_by_origin[where] = self._strangers_by_origin.get(where, 0) + 1

    def introduced(self, who: object) -> None:
        """It has said who it is; harmless where that is known."""
        if self._strangers.pop(who, None) is not None:
            _count_down(self._strangers_by_origin, self._origins[who])

    def leave(self, who: object) -> None:
        """It is gone; harmless where that is known."""
        if who in self._origins:
            self.introduced(who)
            self.held -= 1
            _count_down(self._by_origin, self._origins.pop(who))


def _count_down(counts: dict[str, int], where: str) -> None:
    counts[where] -= 1
    if not counts[where]:
        del counts[where]
