"""Closing a peer's connection for an operator, who is told when it is over."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from frontier_tx.runtime.deferreds import Waiters
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.presence import Presence

GRACE = 5.0
"""Seconds that a peer has for its goodbye; then its connection is cut."""


class Kicks:
    """Connections that are being closed. It goes on when nobody waits for it any more."""

    def __init__(self, presence: Presence, clock: IReactorTime, grace: float = GRACE) -> None:
        self._presence = presence
        self._clock = clock
        self._grace = grace
        self._under_way: dict[Leg, Waiters[None]] = {}

    def kick(self, leg: Leg) -> Deferred[None]:
        """Close the connection of a leg that is online, in order. Fires when it has ended and its record is away."""
        waiters = self._under_way.get(leg)
        if waiters is not None:
            return waiters.wait()
        waiters = self._under_way[leg] = Waiters()
        waiter = waiters.wait()
        cut = self._clock.callLater(self._grace, lambda: leg.transport.abort("kicked, and it did not say goodbye"))
        self._presence.when_gone(leg, self._gone(leg, cut))
        leg.transport.close()
        return waiter

    def _gone(self, leg: Leg, cut: IDelayedCall) -> Callable[[], None]:
        def told() -> None:
            if cut.active():
                cut.cancel()
            self._under_way.pop(leg).tell(None)

        return told
