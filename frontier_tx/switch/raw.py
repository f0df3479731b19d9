"""Raw bytes of a stream that wait for its receiver: joined where they are small, cut into blocks where they are large.

They wait while the receiver takes no more of this stream (its credit is used up, or its ``pace`` says so), or while its
whole connection is behind. The first delays nothing else that goes to that receiver.
"""

from collections import deque
from typing import TYPE_CHECKING

from frontier_tx.switch.pace import ASK, Pace
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.frame import SESSION_HEADER, STREAM, VERSION
from frontier_tx.wire.ids import DEFAULT_SESSION

if TYPE_CHECKING:
    from frontier_tx.switch.doors import Doors, Flow
    from frontier_tx.switch.streams import StreamEnd

#: Raw bytes that wait leave in blocks of at most this size.
BLOCK = 65_536
#: What is kept beside the bytes of a block and of a lane.
BLOCK_BYTES = 96
LANE_BYTES = 1024


class RawLane:
    """What waits for one end of a stream.

    :param flow: the queue of its sender, in which it is served while something may be sent.
    """

    __slots__ = ("flow", "end", "size", "taken", "ready", "tick", "_blocks", "_doors", "_timers")

    def __init__(self, flow: "Flow", end: "StreamEnd", doors: "Doors", timers: Timers) -> None:
        self.flow = flow
        self.end = end
        #: What it holds, in bytes that count.
        self.size = LANE_BYTES
        #: Bytes that have left; it grows as long as the receiver takes something.
        self.taken = 0
        #: Whether it is in the turn of its flow.
        self.ready = False
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._blocks: deque[bytes | bytearray] = deque()
        self._doors = doors
        self._timers = timers

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add(self, data: bytes) -> int:
        """Let bytes wait; return the bytes that they count for."""
        blocks = self._blocks
        cost = len(data)
        if blocks and len(blocks[-1]) + cost <= BLOCK:
            last = blocks[-1]
            if not isinstance(last, bytearray):
                last = blocks[-1] = bytearray(last)
            last += data
        elif cost <= BLOCK:
            blocks.append(data)
            cost += BLOCK_BYTES
        else:
            blocks.extend(data[pos : pos + BLOCK] for pos in range(0, cost, BLOCK))
            cost += BLOCK_BYTES * -(-cost // BLOCK)
        self.size += cost
        return cost

    def may_go(self) -> bool:
        """Whether the receiver takes the next frame now. If it will at a time that is known, this is come back to."""
        when = when_taken(self.end, len(self._blocks[0]))
        if 0 < when < float("inf"):
            self._timers.schedule(self, when)
        return not when

    def fire(self, now: float) -> None:
        """The receiver may take another frame (``timers.Timed``)."""
        self._doors.open(self)

    def next_size(self) -> int:
        """Length of what ``take`` returns next, at most."""
        return len(self._blocks[0]) + SESSION_HEADER.size

    def take(self) -> tuple[bytes, int]:
        """Return the next frame, and the bytes that it counted for."""
        end = self.end
        session = end.session
        assert session is not None
        data = self._blocks.popleft()
        size = cost = len(data)
        credit = session.credit
        if credit is not None and credit < size:
            self._blocks.appendleft(data[credit:])
            data = data[:credit]
            size = cost = credit
        else:
            cost += BLOCK_BYTES
        self.size -= cost
        self.taken += size
        header = SESSION_HEADER.pack(VERSION, STREAM, next(end.leg.connection.ids), size + 8, session.id)
        return header + data + count(end, size, self._timers), cost

    def stop(self) -> None:
        """Nothing waits any more."""
        self._timers.cancel(self)


def when_taken(end: "StreamEnd", size: int) -> float:
    """When the receiver takes a frame with so many bytes, or the first of them: 0 for now, infinity if it will tell."""
    session = end.session
    assert session is not None
    if session.credit is not None:
        return 0.0 if session.credit > 0 else float("inf")
    if end.pace is None:
        return 0.0
    leg = end.leg
    # The answer of one that is not read from would never come.
    return end.pace.wait(size, leg.answers and not (leg.hold is not None and leg.hold.ends))


def count(end: "StreamEnd", size: int, timers: Timers) -> bytes:
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


def question(end: "StreamEnd", pace: Pace) -> bytes:
    """Return what asks an end how far it has come."""
    leg, session = end.leg, end.session
    assert session is not None
    packet_id = next(leg.connection.ids)
    pace.ask(packet_id)
    asked = f.pack_of_session(f.REGISTER, packet_id, session.id, b"")
    if not leg.questioned and not leg.deaf:
        # A stream that is not accepted yet answers nothing; session 1 tells whether this peer answers at all.
        leg.questioned = True
        asked += f.pack_of_session(f.REGISTER, next(leg.connection.ids), DEFAULT_SESSION, b"")
    return asked
