"""Opening and closing of streams: a session on each leg, joined (docs/gateway.md, "Streams")."""

import random

from frontier_tx.errors import (
    EdgeNotOnline,
    ForceClosed,
    OperationError,
    ReceiverCongested,
    ServiceNotOnline,
    TooManyPending,
)
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.legs import Leg, StreamEnd
from frontier_tx.switch.sweep import Slices
from frontier_tx.wire.events import SessionFailed, SessionOpened, SessionRequested
from frontier_tx.wire.fixed import CANCELED
from frontier_tx.wire.ids import DEFAULT_SESSION, MAX_ID
from frontier_tx.wire.session import Session

#: What the two sessions of a stream cost, in bytes.
SESSION_BYTES = 2048
#: An edge may have so many streams however many places of the service others have taken.
ALWAYS = 8


class Linger:
    """Watches over raw bytes whose sender has gone: a receiver that takes none of them does not keep them for ever."""

    __slots__ = ("tick", "_exchange", "_end", "_taken")

    def __init__(self, exchange: Exchange, end: StreamEnd) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._exchange = exchange
        self._end = end
        self._taken = -1
        self.fire(exchange.timers.now())

    def fire(self, now: float) -> None:
        """See whether something was taken since the last time."""
        end = self._end
        if not end.raw_ready and end.raw_taken == self._taken:
            self._exchange.pressure.end(end)
            return
        self._taken = end.raw_taken
        self._exchange.timers.schedule(self, now + self._exchange.settings.write_stall_seconds)


class StreamOpener:
    """Pairs sessions of two legs of an exchange, and takes the pairs apart."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._repository = exchange.repository
        exchange.pressure.end_stream = self.break_off

    def requested(self, leg: Leg, request: SessionRequested, now: float) -> None:
        """A peer opens a stream: open the second leg, and answer when that one has answered."""
        target = self._target(leg, request.peer)
        if target is None:
            nobody = ServiceNotOnline.text if leg.is_edge else EdgeNotOnline.text
            leg.connection.refuse_session(request, now, nobody)
            return
        peer = str(leg.id) if leg.is_edge and self._exchange.settings.tell_stream_peer else ""
        doors = self._exchange.doors
        if self._crowds_out(leg, target):
            leg.connection.refuse_session(request, now, TooManyPending.text)
            return
        payer = leg if leg.is_edge else target
        # A stream stays: there must be room for it without what is kept free for what leaves at once.
        room = self._exchange.budget.admits(payer, SESSION_BYTES)
        if not room or doors.refuses(leg, target, len(request.meta) * 4 // 3 + SESSION_BYTES):
            leg.connection.refuse_session(request, now, ReceiverCongested.text)
            return
        try:
            negotiate_id = target.connection.open_session(
                request.meta, peer, now, lambda frame: doors.send(leg, target, None, frame), keep=False
            )
        except OperationError as error:
            leg.connection.refuse_session(request, now, str(error))
            return
        # They are on their way, and nobody here asks for them again.
        request.meta, request.peer = b"", ""
        opener = target.opening[negotiate_id] = StreamEnd(leg, request=request)
        self._pay(opener, payer)

    @staticmethod
    def _crowds_out(leg: Leg, target: Leg) -> bool:
        """Whether an edge that has many streams would take one of the last places of a service."""
        sessions = target.connection.sessions
        taken = len(sessions.live) + len(sessions.opening)
        mine = len(leg.streams)
        return leg.is_edge and mine >= ALWAYS and mine >= target.connection.limits.sessions_per_connection - taken

    def _pay(self, end: StreamEnd, payer: Leg) -> None:
        end.payer = payer
        self._exchange.budget.hold(payer, SESSION_BYTES // 2)

    def _pay_back(self, end: StreamEnd) -> None:
        if end.payer is not None:
            self._exchange.budget.hold(end.payer, -(SESSION_BYTES // 2))
            end.payer = None

    def _target(self, leg: Leg, peer: str) -> Leg | None:
        if leg.is_edge:
            named = self._repository.services_of_name(peer) if peer else []
            return random.choice(named) if named else None
        if peer.isascii() and peer.isdigit() and len(peer) <= 20 and int(peer) <= MAX_ID:
            return self._repository.edge(int(peer))
        return None

    def opened(self, leg: Leg, event: SessionOpened, now: float) -> None:
        """The second leg answered: answer the first."""
        opener = leg.opening.pop(event.negotiate_id, None)
        if opener is None or not opener.leg.online or not opener.leg.connection.connected:
            leg.connection.dismiss(event.session, now, ForceClosed.text)
            if opener is not None:
                self._refuse(opener, now, ForceClosed.text)
            return
        assert opener.request is not None and opener.payer is not None
        end = StreamEnd(leg, session=event.session)
        self._pay(end, opener.payer)
        opener.session = opener.leg.connection.accept_session(opener.request, now)
        opener.request = None
        opener.pair(end)
        opener.leg.streams[opener.session.id] = opener
        leg.streams[event.session.id] = end
        self._exchange.counters.streams_opened += 1

    def failed(self, leg: Leg, event: SessionFailed, now: float) -> None:
        """The second leg refused or stayed silent."""
        opener = leg.opening.pop(event.negotiate_id, None)
        if opener is not None:
            self._refuse(opener, now, event.error)

    def _refuse(self, opener: StreamEnd, now: float, error: str) -> None:
        self._pay_back(opener)
        if opener.request is not None and opener.leg.connection.connected:
            opener.leg.connection.refuse_session(opener.request, now, error)

    def dismissed(self, leg: Leg, session: Session, now: float, error: str = "") -> None:
        """A session is closed from one side, or over: close the other leg's behind what came before.

        :param error: why, if its peer did not mean it to end here.
        """
        if session.id == DEFAULT_SESSION:
            self._exchange.half_close(leg)
            return
        end = leg.streams.pop(session.id, None)
        if end is not None:
            self._take_apart(end, error)

    def _take_apart(self, end: StreamEnd, error: str) -> None:
        """``end`` is over: nothing more goes to it, and the other one follows when it has what came from there."""
        exchange, other = self._exchange, end.other
        self._stop_waiting(end)
        exchange.shut(end)
        if other is None:
            for pending in list(end.pending):
                exchange.in_flight.let_go(pending)
            return
        other.other = None
        there = other.leg.connection.connected
        for pending in list(end.pending):
            if pending.request and pending.source is end.leg:
                exchange.in_flight.withdraw(pending, CANCELED)
            if there and pending.queue is not None and pending.end is other and not pending.request:
                exchange.in_flight.disown(pending, ForceClosed.text)
            else:
                exchange.in_flight.fail(pending, ForceClosed.text)
        if there and other.queued:
            other.on_drained = lambda: self._follow(other, error)
            if other.raw_bytes:
                other.linger = Linger(self._exchange, other)
        else:
            self._follow(other, error)

    def _stop_waiting(self, end: StreamEnd) -> None:
        self._pay_back(end)
        if end.linger is not None:
            self._exchange.timers.cancel(end.linger)
            end.linger = None

    def break_off(self, end: StreamEnd, error: str) -> None:
        """End a stream at both legs, because ``end`` does not take what comes for it."""
        session = end.session
        if session is None or end.leg.streams.pop(session.id, None) is None:
            return
        self._take_apart(end, error)
        if end.leg.connection.connected:
            end.leg.connection.dismiss(session, self._exchange.timers.now(), error)

    def granted(self, leg: Leg, session: Session) -> None:
        """The peer takes more bytes of a stream."""
        end = leg.streams.get(session.id)
        if end is not None:
            self._exchange.doors.open(end)

    def _follow(self, end: StreamEnd, error: str) -> None:
        """Close what is left of a stream that the other side has closed."""
        assert end.session is not None
        end.leg.streams.pop(end.session.id, None)
        self._stop_waiting(end)
        self._exchange.shut(end)
        for pending in list(end.pending):
            self._exchange.in_flight.let_go(pending)
        if end.leg.connection.connected:
            end.leg.connection.dismiss(end.session, self._exchange.timers.now(), error)

    def forget(self, leg: Leg, now: float) -> None:
        """The leg is gone: end its streams on the other legs, and the openings that wait for it."""
        timers = self._exchange.timers
        ends, leg.streams = list(leg.streams.values()), {}
        for end in ends:
            if end.other is not None:
                # From now on nothing goes to the leg, whenever its turn comes.
                end.other.other = None
        Slices(timers, ends, lambda end: self._take_apart(end, ForceClosed.text))
        openings, leg.opening = leg.opening, {}
        Slices(timers, openings.values(), lambda opener: self._refuse(opener, timers.now(), ForceClosed.text))
