"""Raw bytes of a stream on their way to the receiver: when it takes more, and what is counted as they are sent."""

from frontier_tx.switch.legs import StreamEnd
from frontier_tx.switch.pace import ASK, Pace
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.ids import DEFAULT_SESSION


def when_taken(end: StreamEnd, size: int) -> float:
    """When the receiver takes a frame with so many bytes, or the first of them: 0 for now, infinity if it will tell."""
    session = end.session
    assert session is not None
    if session.credit is not None:
        return 0.0 if session.credit > 0 else float("inf")
    if end.pace is None:
        return 0.0
    leg = end.leg
    # The answer of one that is not read from would never come.
    return end.pace.wait(size, leg.answers and not leg.stopped)


def count(end: StreamEnd, size: int, timers: Timers) -> bytes:
    """Count bytes that leave for the receiver; return what is to be sent behind them, mostly nothing."""
    session = end.session
    assert session is not None
    sender = end.other
    if sender is not None and sender.session is not None and sender.session.allowance is not None:
        sender.leg.connection.sessions.grant(sender.session, size)
    if session.credit is not None:
        session.credit -= size
        return b""
    pace = end.pace
    if pace is None:
        pace = end.pace = Pace(timers.now)
    if pace.sent < ASK - 1:
        pace.sent += 1
        return b""
    return question(end, pace) if pace.count() else b""


def question(end: StreamEnd, pace: Pace) -> bytes:
    """Return what asks an end how far it has come."""
    leg, session = end.leg, end.session
    assert session is not None
    packet_id = next(leg.connection.ids)
    pace.ask(packet_id)
    asked = f.pack_of_session(f.REGISTER, packet_id, session.id, b"")
    if not leg.questioned and not leg.half_closed:
        # A stream that is not accepted yet answers nothing; session 1 tells whether this peer answers at all.
        leg.questioned = True
        asked += f.pack_of_session(f.REGISTER, next(leg.connection.ids), DEFAULT_SESSION, b"")
    return asked
