"""Calls and messages that were forwarded and are not answered yet: into all tables at once, and out of them."""

from collections.abc import Iterable

from frontier_tx.errors import Canceled, ForceClosed
from frontier_tx.switch.budget import Budget
from frontier_tx.switch.doors import Doors
from frontier_tx.switch.legs import Leg, Pending
from frontier_tx.switch.settings import Counters
from frontier_tx.switch.sweep import Sweep
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import message_json
from frontier_tx.wire.fixed import CANCEL_FIXED, CANCELED, DEADLINE_EXCEEDED
from frontier_tx.wire.frame import MESSAGE_ACK, RESPONSE, Frame

_CANCEL_BODY = {reason: CANCEL_FIXED.pack(reason) for reason in (CANCELED, DEADLINE_EXCEEDED)}


class InFlight:
    """What waits for an answer, at all legs of an exchange."""

    def __init__(self, budget: Budget, doors: Doors, counters: Counters, timers: Timers) -> None:
        self._budget = budget
        self._doors = doors
        self._counters = counters
        self._timers = timers

    def enter(self, pending: Pending) -> None:
        """Put what was forwarded into the tables of both legs."""
        budget = self._budget
        budget.pendings += 1
        if not budget.pendings & 255:
            budget.refresh()
        pending.target.pending[pending.target_packet] = pending
        source = pending.source
        if source is not None:
            older = source.outgoing.get(pending.key)
            if older is not None:
                # Both will be answered; a cancel reaches the newer one.
                older.key = -next(source.connection.ids)
                source.outgoing[older.key] = older
            source.outgoing[pending.key] = pending

    def settle(self, pending: Pending) -> None:
        """Take what is answered, or given up, out of every table."""
        self._budget.pendings -= 1
        self._timers.cancel(pending)
        del pending.target.pending[pending.target_packet]
        if pending.source is not None:
            del pending.source.outgoing[pending.key]
        if pending.end is not None:
            pending.end.pending.discard(pending)
        window = pending.window
        assert window is not None
        if pending.frame is None and pending.end is None and not window.waiting and window.room == window.size:
            window.out -= 1
        else:
            window.leave(pending)

    def fail(self, pending: Pending, error: str) -> None:
        """End what is pending with an error of the gateway's own."""
        self.settle(pending)
        source = pending.source
        if source is not None:
            self._counters.tallies[pending.request][source.is_edge].failed(error)
        if pending.done is not None:
            pending.done(b"", error)
        elif source is not None:
            key = pending.method if pending.request else b""
            self._reply(source, pending, message_json(key=key, error=error))

    def let_go(self, pending: Pending) -> None:
        """Nobody waits for what is pending any more."""
        self.settle(pending)
        if pending.source is not None:
            self._counters.tallies[pending.request][pending.source.is_edge].left()

    def disown(self, pending: Pending, error: str = "") -> None:
        """The sender of a message has gone, or is told an error now: it goes its way without anybody to answer."""
        source = pending.source
        assert source is not None
        del source.outgoing[pending.key]
        if pending.queue is not None:
            source.held_back -= 1
        pending.source = None
        tally = self._counters.tallies[pending.request][source.is_edge]
        if error:
            tally.failed(error)
            self._reply(source, pending, message_json(error=error))
        else:
            tally.left()

    def overdue(self, pending: Pending) -> None:
        """The deadline of what is pending has passed."""
        if pending.request:
            self.withdraw(pending, DEADLINE_EXCEEDED)
        self.fail(pending, pending.overdue_text)

    def got_cancel(self, leg: Leg, frame: Frame) -> None:
        """Take a RequestCancel: the call is withdrawn from who was called, and answered."""
        pending = leg.outgoing.get(frame.packet_id)
        if pending is None or not pending.request or pending.source_session != frame.session_id:
            return
        self.withdraw(pending, CANCELED)
        self.fail(pending, Canceled.text)

    def withdraw(self, pending: Pending, reason: int) -> None:
        """Tell the far side that nobody waits for its answer any more."""
        target, session_id = pending.target, pending.target_session
        if pending.frame is not None or session_id not in target.connection.sessions.live:
            # It was never sent, or nobody is there any more.
            return
        if target.connection.connected:
            out = f.pack_of_session(f.REQUEST_CANCEL, pending.target_packet, session_id, _CANCEL_BODY[reason])
            # Behind the Request itself, which may still wait there.
            self._doors.send(pending.sender, target, pending.end, out)

    def _reply(self, source: Leg, pending: Pending, text: bytes) -> None:
        """Give an answer of the gateway's own to who asked."""
        if not source.online:
            return
        kind = RESPONSE if pending.request else MESSAGE_ACK
        session = source.connection.sessions.live.get(pending.source_session)
        if session is not None:
            out = f.pack_of_session(kind, pending.source_packet, session.id, text)
            source.connection.sessions.write(session, out)

    def abandon(self, leg: Leg) -> None:
        """The leg is gone: nobody waits for what it asked."""
        Sweep(self._timers, leg.outgoing.values(), self._abandon)

    def _abandon(self, pending: Pending) -> None:
        if pending.request:
            self.withdraw(pending, CANCELED)
            self.let_go(pending)
        elif pending.source is not None:
            # What it published is on its way, sent or not.
            self.disown(pending)

    def force_close(self, pendings: Iterable[Pending]) -> None:
        """Answer what will not be answered any more."""
        Sweep(self._timers, pendings, lambda pending: self.fail(pending, ForceClosed.text))
