"""The way of one edge from its Conn to its ConnAck (docs/gateway.md, "Presence")."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from frontier_tx.errors import IllegalEdgeID, NoID, OperationTimeout, Replaced, ServiceNotOnline
from frontier_tx.switch.leg import Leg, Told
from frontier_tx.switch.pending import Pending
from frontier_tx.wire.events import ConnReceived
from frontier_tx.wire.ids import NO_ID
from frontier_tx.wire.packets import DEADLINE_EXCEEDED

if TYPE_CHECKING:
    from frontier_tx.switch.presence import Presence

GET_EDGE_ID = b"get_edge_id"
EDGE_ONLINE = b"edge_online"
EDGE_OFFLINE = b"edge_offline"

#: How long a newcomer waits at most until a service has taken note that the edge in whose place it comes is gone.
PARTING_SECONDS = 3.0


class EdgeArrival:
    """Brings an edge in, or turns it away when ``control_seconds`` are over.

    ::

        start ─> get_edge_id ─> identified ─> its turn ─> edge_offline of the one before ─> edge_online ─> in
                                    │            ^
                                    └── waits ───┘   while another newcomer with the same id is on its way in

    The one before is spoken of as gone only where a service gave the newcomer its id; who merely claims one first has
    to be let in.

    What a service was asked when the edge left, or was refused for the time it took, may still be answered: an edge
    that it lets in too late is one that it hears of leaving.
    """

    __slots__ = ("tick", "leg", "_presence", "_until", "_asked", "_due", "_next", "_parting", "_vouched")

    def __init__(self, presence: "Presence", leg: Leg) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self.leg = leg
        self._presence = presence
        self._until = presence.now() + presence.control_seconds
        self._asked: Pending | None = None
        self._due: Callable[[], None] = self._late
        #: The newest edge with the same id, which comes in, or not, behind this one.
        self._next: EdgeArrival | None = None
        self._parting = False
        #: Whether a service said that this is the edge with its id.
        self._vouched = False

    def start(self, event: ConnReceived) -> None:
        """First the id: its own, one from a service, or an allocated one."""
        presence = self._presence
        if not event.acquire and event.wanted_id:
            if presence.takes_own_ids:
                self._identified(event.wanted_id)
            else:
                self._refuse(IllegalEdgeID.text)
                self._over()
        elif event.acquire and presence.candidates(GET_EDGE_ID):
            leg = self.leg
            self._ask(lambda seconds, done: presence.call(GET_EDGE_ID, leg, leg.meta, seconds, done), self._got_id)
        elif presence.allocates_edge_ids:
            self.leg.allocated = event.acquire
            self._identified(presence.allocate_edge_id())
        else:
            self._refuse(ServiceNotOnline.text)
            self._over()

    def fire(self, now: float) -> None:
        """See ``_wait``."""
        self._due()

    def _wait(self, until: float, due: Callable[[], None]) -> None:
        self._due = due
        self._presence.exchange.timers.schedule(self, until)

    def _ask(
        self,
        call: Callable[[float, Callable[[bytes, str], None]], Pending | None],
        done: Callable[[bytes, str], None],
    ) -> None:
        presence = self._presence

        def answered(value: bytes, error: str) -> None:
            self._asked = None
            presence.exchange.timers.cancel(self)
            done(value, error)

        self._wait(self._until, self._late)
        asked = call(self._until - presence.now(), answered)
        # An answer that came at once may have led to the next question.
        self._asked = self._asked or asked

    def _late(self) -> None:
        """The services have taken too long, or the newcomer before this one has."""
        self._refuse(OperationTimeout.text)
        if self._asked is not None:
            self._presence.exchange.withdraw(self._asked, DEADLINE_EXCEEDED)
            self.left()

    def left(self) -> None:
        """It will not come in, but it is not known yet what the services make of that."""
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
            # A service that leaves the choice to the gateway is one that hands out ids, whatever holds without one.
            self._identified(int.from_bytes(value) or self._presence.allocate_edge_id())

    def _identified(self, edge_id: int) -> None:
        if edge_id == NO_ID:
            self._refuse(NoID.text)
            self._over()
            return
        self.leg.id = edge_id
        turns = self._presence.turns
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
        """The newcomer before this one is gone, and it is only to be learnt whether a service let it in."""
        if self._waiting():
            self._wait(min(self._until, self._presence.now() + PARTING_SECONDS), self._overtake)

    def _overtake(self) -> None:
        turns = self._presence.turns
        turns[self.leg.id]._next = None
        turns[self.leg.id] = self
        self._proceed()

    # -- its turn -----------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        presence, leg = self._presence, self.leg
        presence.exchange.timers.cancel(self)
        if self._waiting() and self._until <= presence.now():
            self._refuse(OperationTimeout.text)
        if not self._waiting():
            self._over()
            return
        old = presence.repository.edges.get(leg.id)
        # Of an id that is a mere claim it is not known yet whether anybody is to go for it.
        known = old is not None and old.told in (Told.ASKED, Told.ONLINE) and presence.candidates(EDGE_ONLINE)
        if old is None or not known or not self._vouched:
            self._ask_online()
            return
        self._parting = True
        self._wait(min(self._until, presence.now() + PARTING_SECONDS), self._ask_online)
        presence.tell_offline(old, self._parted)

    def _parted(self) -> None:
        if self._parting:
            self._presence.exchange.timers.cancel(self)
            self._ask_online()

    def _ask_online(self) -> None:
        presence, leg = self._presence, self.leg
        self._parting = False
        if not self._waiting():
            self._over()
        elif presence.candidates(EDGE_ONLINE):
            self._ask(lambda seconds, done: presence.ask_online(leg, seconds, done), self._announced)
        else:
            presence.let_in(leg)
            self._over()

    def _announced(self, value: bytes, error: str) -> None:
        presence, leg = self._presence, self.leg
        if error:
            leg.told = Told.NOTHING
            self._refuse(error)
        elif self._waiting():
            leg.told = Told.ONLINE
            presence.let_in(leg)
        else:
            presence.tell_offline(leg, self._over)
            return
        self._over()

    # -- the end ------------------------------------------------------------------------------------------

    def _over(self) -> None:
        presence, leg = self._presence, self.leg
        if presence.coming.get(leg) is not self:
            return
        presence.exchange.timers.cancel(self)
        presence.came(self)
        if presence.turns.get(leg.id) is not self:
            return
        following, self._next = self._next, None
        if following is not None:
            presence.turns[leg.id] = following
            following._proceed()
            return
        del presence.turns[leg.id]
        if not leg.online:
            presence.left_behind(leg.id)

    def _waiting(self) -> bool:
        return self._presence.waits(self.leg)

    def _refuse(self, error: str) -> None:
        self._presence.refuse(self.leg, error)
