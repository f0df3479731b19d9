"""The way of one edge from its Conn to its ConnAck (docs/gateway.md, "Presence")."""

from collections.abc import Callable

from frontier_tx.errors import IllegalEdgeID, NoID, OperationTimeout, Replaced, ServiceNotOnline
from frontier_tx.switch.control import ControlFunctions
from frontier_tx.switch.legs import Announced, Leg, Pending
from frontier_tx.switch.routing import EDGE_ONLINE, GET_EDGE_ID
from frontier_tx.wire.events import ConnReceived
from frontier_tx.wire.fixed import DEADLINE_EXCEEDED
from frontier_tx.wire.ids import NO_ID
from frontier_tx.wire.states import State

#: How long a newcomer waits at most until a service has taken note that the edge in whose place it comes is gone.
PARTING_SECONDS = 3.0


def waits(leg: Leg) -> bool:
    """Whether a leg is neither accepted nor refused, and still connected."""
    return leg.connection.state is State.CONN_RECEIVED


class Arrivals:
    """The edges that are on their way in.

    :param allocate: makes an id for an edge; 0 where it cannot.
    :param allocates_ids: whether an edge gets an id of the gateway's while no service hands them out.
    :param takes_own_ids: whether an edge may bring its id itself, and nobody is asked for one.
    :param let_in: told of an edge that is to be online.
    :param on_end: told of each edge that is in, or will not be.
    """

    def __init__(
        self,
        control: ControlFunctions,
        *,
        allocate: Callable[[], int],
        allocates_ids: bool,
        takes_own_ids: bool,
        let_in: Callable[[Leg], None],
        on_end: Callable[[Leg], None],
    ) -> None:
        self.control = control
        self.repository = control.exchange.repository
        self.timers = control.exchange.timers
        self.allocate = allocate
        self.allocates_ids = allocates_ids
        self.takes_own_ids = takes_own_ids
        self.let_in = let_in
        #: Edges that are on their way in, and of those the one for each id whose turn it is.
        self.coming: dict[Leg, EdgeArrival] = {}
        self.turns: dict[int, EdgeArrival] = {}
        self._on_end = on_end

    def begin(self, leg: Leg, event: ConnReceived) -> None:
        """An edge has come."""
        arrival = self.coming[leg] = EdgeArrival(self, leg)
        arrival.start(event)

    def refuse(self, leg: Leg, error: str) -> None:
        """Turn a newcomer away, if it still waits."""
        if waits(leg):
            leg.connection.refuse(error, self.timers.now(), leg.id)

    def over(self, leg: Leg) -> None:
        """An edge is in, or will not be."""
        del self.coming[leg]
        self._on_end(leg)

    def left_behind(self, edge_id: int) -> None:
        """A newcomer that was to take an edge's place is not in: the one of which a service heard that it left goes."""
        leg = self.repository.edges.get(edge_id)
        if leg is not None and leg.announced is Announced.OFFLINE:
            leg.transport.close(Replaced.text)


class EdgeArrival:
    """Brings an edge in, or turns it away when ``control_seconds`` are over.

    ::

        start ─> get_edge_id ─> identified ─> its turn ─> edge_offline of the one before ─> edge_online ─> in
                                    │            ^
                                    └── waits ───┘   while another newcomer with the same id is on its way in

    Services are told that the one before is gone only if a service gave the newcomer its id; a newcomer that merely
    claims the id must be let in first.

    A service may still answer after the edge left, or was refused because the service took too long. If it lets the
    edge in then, it is told that the edge is gone.
    """

    __slots__ = ("tick", "leg", "_arrivals", "_control", "_until", "_asked", "_due", "_next", "_parting", "_vouched")

    def __init__(self, arrivals: Arrivals, leg: Leg) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self.leg = leg
        self._arrivals = arrivals
        self._control = arrivals.control
        self._until = arrivals.timers.now() + arrivals.control.seconds
        self._asked: Pending | None = None
        self._due: Callable[[], None] = self._late
        #: The newest edge with the same id, which comes in, or not, behind this one.
        self._next: EdgeArrival | None = None
        self._parting = False
        #: Whether a service said that this is the edge with its id.
        self._vouched = False

    def start(self, event: ConnReceived) -> None:
        """First the id: its own, one from a service, or an allocated one."""
        arrivals = self._arrivals
        if not event.acquire and event.wanted_id:
            if arrivals.takes_own_ids:
                self._identified(event.wanted_id)
            else:
                self._refuse(IllegalEdgeID.text)
                self._over()
        elif event.acquire and self._control.candidates(GET_EDGE_ID):
            leg = self.leg
            self._ask(lambda seconds, done: self._control.call(GET_EDGE_ID, leg, leg.meta, seconds, done), self._got_id)
        elif arrivals.allocates_ids:
            self.leg.allocated = event.acquire
            self._identified(arrivals.allocate())
        else:
            self._refuse(ServiceNotOnline.text)
            self._over()

    def fire(self, now: float) -> None:
        """See ``_wait``."""
        self._due()

    def _wait(self, until: float, due: Callable[[], None]) -> None:
        self._due = due
        self._arrivals.timers.schedule(self, until)

    def _ask(
        self,
        call: Callable[[float, Callable[[bytes, str], None]], Pending | None],
        done: Callable[[bytes, str], None],
    ) -> None:
        arrivals = self._arrivals

        def answered(value: bytes, error: str) -> None:
            self._asked = None
            arrivals.timers.cancel(self)
            done(value, error)

        self._wait(self._until, self._late)
        asked = call(self._until - arrivals.timers.now(), answered)
        # An answer that came at once may have led to the next question.
        self._asked = self._asked or asked

    def _late(self) -> None:
        """The services have taken too long, or the newcomer before this one has."""
        self._refuse(OperationTimeout.text)
        if self._asked is not None:
            self._control.exchange.in_flight.withdraw(self._asked, DEADLINE_EXCEEDED)
            self.left()

    def left(self) -> None:
        """It will not come in; the services have not answered yet."""
        if self._next is not None:
            self._next._hurry()

    # -- the id -------------------------------------------------------------------------------------------

    def _got_id(self, value: bytes, error: str) -> None:
        if not self._waiting():
            self._over()
        elif error or len(value) != 8:
            self._refuse(error or IllegalEdgeID.text)
            self._over()
        else:
            self._vouched = True
            # A service that answers 0 counts as one that hands out ids.
            self._identified(int.from_bytes(value) or self._arrivals.allocate())

    def _identified(self, edge_id: int) -> None:
        if edge_id == NO_ID:
            self._refuse(NoID.text)
            self._over()
            return
        self.leg.id = edge_id
        turns = self._arrivals.turns
        before = turns.get(edge_id)
        if before is None:
            turns[edge_id] = self
            self._proceed()
            return
        older, before._next = before._next, self
        if older is not None:
            older._refuse(Replaced.text)
            older._over()
        self._wait(self._until, self._late)
        if not before._waiting():
            self._hurry()

    def _hurry(self) -> None:
        """The newcomer before this one is gone; all that is missing is whether a service let it in."""
        if self._waiting():
            self._wait(min(self._until, self._arrivals.timers.now() + PARTING_SECONDS), self._overtake)

    def _overtake(self) -> None:
        turns = self._arrivals.turns
        turns[self.leg.id]._next = None
        turns[self.leg.id] = self
        self._proceed()

    # -- its turn -----------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        arrivals, leg = self._arrivals, self.leg
        arrivals.timers.cancel(self)
        if self._waiting() and self._until <= arrivals.timers.now():
            self._refuse(OperationTimeout.text)
        if not self._waiting():
            self._over()
            return
        old = arrivals.repository.edges.get(leg.id)
        # Of an id that is a mere claim it is not known yet whether anybody is to go for it.
        known = (
            old is not None
            and old.announced in (Announced.ASKED, Announced.ONLINE)
            and self._control.candidates(EDGE_ONLINE)
        )
        if old is None or not known or not self._vouched:
            self._ask_online()
            return
        self._parting = True
        self._wait(min(self._until, arrivals.timers.now() + PARTING_SECONDS), self._ask_online)
        self._control.tell_offline(old, self._parted)

    def _parted(self) -> None:
        if self._parting:
            self._arrivals.timers.cancel(self)
            self._ask_online()

    def _ask_online(self) -> None:
        arrivals, leg = self._arrivals, self.leg
        self._parting = False
        if not self._waiting():
            self._over()
        elif self._control.candidates(EDGE_ONLINE):
            self._ask(lambda seconds, done: self._control.ask_online(leg, seconds, done), self._announced)
        else:
            arrivals.let_in(leg)
            self._over()

    def _announced(self, value: bytes, error: str) -> None:
        arrivals, leg = self._arrivals, self.leg
        if error:
            leg.announced = Announced.NOTHING
            self._refuse(error)
        elif self._waiting():
            leg.announced = Announced.ONLINE
            arrivals.let_in(leg)
        else:
            self._control.tell_offline(leg, self._over)
            return
        self._over()

    # -- the end ------------------------------------------------------------------------------------------

    def _over(self) -> None:
        arrivals, leg = self._arrivals, self.leg
        if arrivals.coming.get(leg) is not self:  # pragma: no cover: no way here is known; a second end must do no harm
            return
        arrivals.timers.cancel(self)
        arrivals.over(leg)
        if arrivals.turns.get(leg.id) is not self:
            return
        following, self._next = self._next, None
        if following is not None:
            arrivals.turns[leg.id] = following
            following._proceed()
            return
        del arrivals.turns[leg.id]
        if not leg.online:
            arrivals.left_behind(leg.id)

    def _waiting(self) -> bool:
        return waits(self.leg)

    def _refuse(self, error: str) -> None:
        self._arrivals.refuse(self.leg, error)
