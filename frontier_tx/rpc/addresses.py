"""What the connections of one address share, so that opening more of them gains nothing.  Pure.

IPv6 addresses count by their first 64 bits, as a host has all of the rest to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from frontier_tx.rpc.status import RpcError, Status

KEPT = 10_000
"""Addresses without connections that are remembered for what they used up."""
FLOOR = 20.0
"""Frames that move no data which a new connection may always send, even if its address has used up its share."""
FLOOR_RATE = 10.0
"""The same per second."""
_UNSENT = 32 * 1024 * 1024
_UNSENT_WHEN_FULL = 64 * 1024


def address_key(host: str) -> str:
    """What connections from ``host`` are counted under."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(IPv6Address(int(address) >> 64 << 64)) + "/64"


@dataclass(slots=True)
class Budget:
    """What one server holds over all its connections: bytes of incomplete requests (``held``), of which it takes no
    more than ``limit``, and bytes of answers that are not read (``unsent``)."""

    limit: int = 64 * 1024 * 1024
    unsent_limit: int = 256 * 1024 * 1024
    held: int = 0
    unsent: int = 0


class Bucket:
    """A token bucket: refilled at ``rate`` per second, up to ``burst``."""

    __slots__ = ("_at", "_left", "burst", "rate")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self.burst = burst
        self.rate = rate
        self._left = burst
        self._at = now

    def take(self, wanted: float, now: float) -> float:
        """Take as much of ``wanted`` as there is, and give the amount."""
        self._fill(now)
        taken = max(0.0, min(wanted, self._left))
        self._left -= taken
        return taken

    def give(self, amount: float) -> None:
        """Put back what was not needed."""
        self._left = min(self.burst, self._left + amount)

    def full(self, now: float) -> bool:
        """Whether it is full again."""
        self._fill(now)
        return self._left >= self.burst

    def _fill(self, now: float) -> None:
        self._left = min(self.burst, self._left + max(0.0, now - self._at) * self.rate)
        self._at = now


class Address:
    """One address: its open connections, the bytes that wait on them, and its buckets."""

    __slots__ = ("arrivals", "connections", "floods", "held", "name", "unsent")

    def __init__(self, name: str, arrivals: Bucket, floods: Bucket) -> None:
        self.name = name
        self.arrivals = arrivals
        self.floods = floods
        self.connections = 0
        self.held = 0
        self.unsent = 0


class Addresses:
    """All addresses that are connected, and those whose buckets are not full again.

    ``now`` gives seconds; an address may open ``arrivals`` connections at once and ``arrival_rate`` per second, and all
    its connections together may send ``floods`` frames that move nothing at once, and ``flood_rate`` per second.
    """

    def __init__(
        self, now: Callable[[], float], arrivals: float, arrival_rate: float, floods: float, flood_rate: float
    ) -> None:
        self.now = now
        self._arrivals = arrivals, arrival_rate
        self._floods = floods, flood_rate
        self._known: dict[str, Address] = {}
        self._empty: dict[str, Address] = {}

    def of(self, host: str) -> Address:
        """The entry for ``host``."""
        key = address_key(host)
        known = self._known.get(key) or self._empty.get(key)
        if known is None:
            now = self.now()
            known = Address(key, Bucket(*self._arrivals, now), Bucket(*self._floods, now))
        return known

    def joined(self, address: Address) -> None:
        """A connection of this address was opened."""
        address.connections += 1
        self._empty.pop(address.name, None)
        self._known[address.name] = address

    def left(self, address: Address) -> None:
        """A connection of this address was closed."""
        address.connections -= 1
        if address.connections:
            return
        del self._known[address.name]
        self.remember(address)

    def remember(self, address: Address) -> None:
        """Keep the buckets of an address without connections until they are full again."""
        if address.connections:
            return
        self._empty.pop(address.name, None)
        self._empty[address.name] = address
        now = self.now()
        # Two out for one in, the oldest first: those that are full again, or that there are too many of.
        for _ in range(2):
            oldest = next(iter(self._empty.values()))
            whole = oldest.arrivals.full(now) and oldest.floods.full(now)
            if not whole and len(self._empty) <= KEPT:
                break
            del self._empty[oldest.name]
            if not self._empty:
                break

    def __len__(self) -> int:
        return len(self._known) + len(self._empty)


class Account:
    """What one connection may use: of its address, and of the memory of its server."""

    __slots__ = ("address", "budget", "credit", "unsent", "_at", "_burst", "_now")

    def __init__(self, budget: Budget, address: Address, now: Callable[[], float], burst: float) -> None:
        self.budget = budget
        self.address = address
        self.unsent = 0
        self._now = now
        self._burst = burst
        self._at = now()
        self.credit = min(burst, FLOOR)
        self.credit += address.floods.take(burst - self.credit, self._at)

    def clogged(self, size: int = 0) -> bool:
        """Whether so much waits to be read that there is no memory for an answer of ``size`` bytes.

        Whoever reads gets small answers at all times. Large ones are for those whose address has left less than a
        quarter of the memory unread, and while there is any.
        """
        if self.unsent > _UNSENT:
            return True
        if self.unsent + size <= _UNSENT_WHEN_FULL:
            return False
        limit = self.budget.unsent_limit
        return self.budget.unsent + size > limit or self.address.unsent + size > limit // 4

    def held(self, change: int) -> None:
        """Count ``change`` more bytes, or fewer, that wait to be read by the peer."""
        self.unsent += change
        self.address.unsent += change
        self.budget.unsent += change

    def hold(self, change: int) -> None:
        """Count ``change`` more bytes, or fewer, that are held of incomplete requests.

        One address may hold half of what there is. Raises ``RpcError`` when it is too much.
        """
        budget, address = self.budget, self.address
        if change > 0 and (budget.held + change > budget.limit or address.held + change > budget.limit // 2):
            raise RpcError(Status.RESOURCE_EXHAUSTED, "the server holds too much request data; try again later")
        budget.held += change
        address.held += change

    def spend(self, weight: float) -> bool:
        """Count frames that move no data; false when there were too many."""
        now = self._now()
        elapsed, self._at = now - self._at, now
        room = self._burst - self.credit
        own = min(room, elapsed * FLOOR_RATE)
        wanted = min(room - own, elapsed * self.address.floods.rate)
        self.credit += own + self.address.floods.take(wanted, now) - weight
        return self.credit >= 0

    def earn(self, credit: float) -> None:
        """Data was moved: that earns credit for frames that move none."""
        self.credit = min(self.credit + credit, self._burst)

    def close(self) -> None:
        """End the account; unused credit goes back to the address."""
        self.held(-self.unsent)
        self.address.floods.give(max(0.0, self.credit - FLOOR))
        self.credit = 0.0
