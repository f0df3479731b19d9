"""Services that come after their edges: after a start of the gateway the edges are often back first.

An edge that came while no service handed out ids has an id of the gateway's. An edge that came while no service wanted
``edge_online`` was announced to nobody. When a service registers one of these functions, edges of the first kind are
closed, so that they connect again and get their id, and edges of the second kind are announced.
"""

from collections.abc import Callable, Iterator, Sized
from math import ceil

from frontier_tx.errors import ForceClosed, NoChoice, OperationTimeout, ReceiverCongested, ServiceOnline
from frontier_tx.switch.control import ControlFunctions
from frontier_tx.switch.legs import Announced, Leg
from frontier_tx.switch.routing import EDGE_ONLINE, GET_EDGE_ID

#: A service registers its functions one after the other; so many seconds after the first all are expected to be there.
SETTLE_SECONDS = 1.0
#: Goodbyes are spread over so many seconds, and over more where there would be too many in one.
SPREAD_SECONDS = 5.0
MOST_PER_SECOND = 1000
STEP = 0.05
#: How many edges are looked at in one step, and bytes of metas announced.
SLICE = 1000
SLICE_BYTES = 131_072
#: How many may be under way: announced and not answered, or back and not in yet.
UNDER_WAY = 128

#: Errors of the gateway itself: no service has answered.
_UNASKED = frozenset((ForceClosed.text, ReceiverCongested.text, NoChoice.text))


class Latecomers:
    """Goes through the edges when services that want to know them have come.

    :param coming: the edges that are on their way in.
    :param renews_ids: whether an edge with an id of the gateway's is asked to come again when a service that hands them
        out is there.
    :param on_renewed: told how many were asked to come again.
    """

    def __init__(
        self, control: ControlFunctions, coming: Sized, renews_ids: bool, on_renewed: Callable[[int], None]
    ) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        #: Edges that were announced late, and asked to come again, so far.
        self.announced = 0
        self.renewed = 0
        self._control = control
        self._timers = control.exchange.timers
        self._coming = coming
        self._renews_ids = renews_ids
        self._on_renewed = on_renewed
        self._left: Iterator[Leg] | None = None
        self._again = False
        self._asked = 0
        self._goodbyes = 0
        self._renewed_before = 0

    def noticed(self) -> None:
        """A service registered a control function, or there is an edge that nobody knows of."""
        if self._left is not None:
            self._again = True
        elif not self.tick:
            self._schedule(SETTLE_SECONDS)

    def _schedule(self, seconds: float) -> None:
        self._timers.schedule(self, self._timers.now() + seconds)

    def fire(self, now: float) -> None:
        """Take the next ones."""
        renew = self._renews_ids and bool(self._control.candidates(GET_EDGE_ID))
        announce = bool(self._control.candidates(EDGE_ONLINE))
        if self._left is None and (renew or announce):
            self._begin()
        if self._left is None or not (renew or announce) or self._take(self._left, renew, announce):
            self._end()
        else:
            self._schedule(STEP)

    def _begin(self) -> None:
        edges = list(self._control.exchange.repository.edges.values())
        self._left = iter(edges)
        self._goodbyes = max(1, ceil(min(MOST_PER_SECOND * STEP, len(edges) * STEP / SPREAD_SECONDS)))
        self._renewed_before = self.renewed

    def _end(self) -> None:
        self._left = None
        if self.renewed > self._renewed_before:
            self._on_renewed(self.renewed - self._renewed_before)
            self._renewed_before = self.renewed
        if self._again:
            self._again = False
            self._schedule(SETTLE_SECONDS)

    def _take(self, left: Iterator[Leg], renew: bool, announce: bool) -> bool:
        """Return whether all are done."""
        goodbyes, size = self._goodbyes, 0
        for _ in range(SLICE):
            if not goodbyes or size > SLICE_BYTES or self._asked + len(self._coming) >= UNDER_WAY:
                return False
            leg = next(left, None)
            if leg is None:
                return True
            if not leg.online or leg.half_closed:
                continue
            if renew and leg.allocated:
                goodbyes -= 1
                self.renewed += 1
                leg.transport.close(ServiceOnline.text)
            elif announce and leg.announced is Announced.NOTHING:
                size += len(leg.meta)
                self._announce(leg)
        return False

    def _announce(self, leg: Leg) -> None:
        def answered(value: bytes, error: str) -> None:
            self._asked -= 1
            if leg.announced is not Announced.ASKED:
                return
            if error in _UNASKED:
                leg.announced = Announced.NOTHING
                self.noticed()
            elif error and error != OperationTimeout.text:
                leg.announced = Announced.NOTHING
                leg.transport.close(error)
            elif leg.online:
                self.announced += 1
                leg.announced = Announced.ONLINE
            else:
                self._control.tell_offline(leg)

        self._asked += 1
        self._control.ask_online(leg, self._control.seconds, answered)
