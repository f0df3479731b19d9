"""Bounds the connections of a port, their number and their rate, by address; a full one closes idle ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.addresses import Account, Address, Addresses, Budget
from frontier_tx.rpc.turns import BUDGET, Lane, Turns
from frontier_tx.runtime.lograte import LogRate, LogRates

Complain = Callable[[str, str], None]
"""Called with the address, or ``host:port``, of a peer and with what is wrong, to be logged with a bound."""

LINES = 20
"""Lines about closed connections in each period."""
PERIOD = 60.0
"""Seconds."""
TOLD_EVERY = 60.0
"""Seconds between two lines about one address that is turned away."""
RESTING = 1.0
"""Seconds of rest after which a connection may be closed to make room."""
_LOOKS = 32


FLOODS = 4000.0, 500.0
"""Frames that move no data: how many all connections of one address may send at once, and per second."""


class ClosedLog:
    """Logs connections that are closed for what they sent; beyond ``LINES`` in a ``PERIOD`` they are only counted.

    ``port`` is what the port is called, ``now`` gives seconds.
    """

    def __init__(self, log: Logger, port: str, now: Callable[[], float]) -> None:
        self.total = 0
        self._log = log
        self._port = port
        self._rate = LogRate(LINES, PERIOD, now)

    def note(self, peer: str, why: str) -> None:
        """A connection from ``peer`` is closed."""
        self.total += 1
        if (before := self._rate.due()) is not None:
            said = "{port}: the connection from {peer} is closed: {why}{before}"
            self._log.warn(said, port=self._port, peer=peer, why=why, before=before)


class Guest(Protocol):
    """A connection, as the door sees it."""

    @property
    def resting_since(self) -> float | None:
        """Since when it has been idle, in seconds; None while it is busy."""

    def retire(self) -> None:
        """Close it, to make room."""


class Door:
    """One port's connections. ``refused`` counts those turned away, ``retired`` those that had to make room."""

    def __init__(
        self,
        clock: IReactorTime,
        limits: ControlPlaneLimits,
        budget: Budget | None = None,
        complain: Complain = lambda peer, why: None,
        floods: tuple[float, float] = FLOODS,
        turn: float = BUDGET,
    ) -> None:
        self.limits = limits
        self.budget = Budget() if budget is None else budget
        self.turns = Turns(clock.seconds, clock.callLater, turn)
        self.refused = 0
        self.retired = 0
        self.closed = False
        self.inside: dict[Guest, Address] = {}
        self._now = clock.seconds
        self._complain = complain
        self._lines = LogRates(1, TOLD_EVERY, clock.seconds)
        self._guests: dict[Address, dict[Guest, None]] = {}
        self.addresses = Addresses(clock.seconds, limits.arrivals, limits.arrivals_per_second, *floods)

    def enter(self, guest: Guest, host: str) -> bool:
        """Whether a new connection from ``host`` may stay; it then has to ``leave``."""
        limits, address = self.limits, self.addresses.of(host)
        if self.closed:
            self.refused += 1
            return False
        if address.arrivals.take(1.0, self._now()) < 1.0:
            self.addresses.remember(address)
            return self._turn_away(address, f"more than {limits.arrivals_per_second:g} connections per second")
        if address.connections >= limits.connections_per_address and not self._make_room(address):
            return self._turn_away(address, f"{address.connections} connections are open already")
        if len(self.inside) >= limits.connections:
            most = max(self._guests, key=lambda each: each.connections)
            if most.connections <= address.connections or not self._make_room(most):
                self.addresses.remember(address)
                return self._turn_away(address, f"{len(self.inside)} connections are open in all")
        self.addresses.joined(address)
        self.inside[guest] = address
        self._guests.setdefault(address, {})[guest] = None
        return True

    def leave(self, guest: Guest) -> None:
        """A connection is over."""
        address = self.inside.pop(guest, None)
        if address is None:
            return
        guests = self._guests[address]
        guests.pop(guest, None)
        if not guests:
            del self._guests[address]
        self.addresses.left(address)

    def account(self, guest: Guest, burst: float) -> Account:
        """The account of a connection that was let in."""
        return Account(self.budget, self.inside[guest], self._now, burst)

    def lane(self, guest: Guest) -> Lane:
        """Where the work of a connection inside waits for its turn."""
        return self.turns.lane(self.inside[guest].name)

    def _make_room(self, address: Address) -> bool:
        guests, now = self._guests[address], self._now()
        for guest in list(islice(guests, _LOOKS)):
            since = guest.resting_since
            if since is not None and now - since >= RESTING:
                self.retired += 1
                self.leave(guest)
                guest.retire()
                return True
            # The next search begins with others.
            guests[guest] = guests.pop(guest)
        return False

    def _turn_away(self, address: Address, why: str) -> bool:
        self.refused += 1
        if (before := self._lines.due(address.name)) is not None:
            self._complain(address.name, f"turned away, {why}{before}")
        return False
