"""What waits for a leg: a door for each leg, in it a flow for each sender, in that a lane for each session.

A stream has two lanes: one for frames, and one for its raw bytes. Raw bytes wait while the receiver takes no more of
this stream (its credit is used up, or its ``pace`` says so), or while its whole connection is behind. The first delays
nothing else that goes to that receiver.
"""

from collections import deque
from collections.abc import Callable

from frontier_tx.switch.legs import Leg, StreamEnd
from frontier_tx.switch.raw import count, when_taken
from frontier_tx.timers import Timers
from frontier_tx.wire.frame import SESSION_HEADER, STREAM, VERSION

#: What is kept beside the bytes of a frame, of a lane and of a flow.
FRAME_BYTES = 96
LANE_BYTES = 1024
FLOW_BYTES = 1024
#: Raw bytes that wait leave in blocks of at most this size.
BLOCK = 65_536
#: What is kept beside the bytes of a block and of a lane of raw bytes.
BLOCK_BYTES = 96
RAW_LANE_BYTES = 1024


class Lane:
    """Frames of one sender on one session of the receiver.

    :param end: the receiver's end of the stream; None for session 1.
    """

    __slots__ = ("flow", "end", "size", "_frames")

    def __init__(self, flow: "Flow", end: StreamEnd | None) -> None:
        self.flow = flow
        self.end = end
        #: What it holds, in bytes that count.
        self.size = LANE_BYTES
        self._frames: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._frames)

    def add(self, frame: bytes) -> int:
        """Let a frame wait; return the bytes that it counts for."""
        self._frames.append(frame)
        cost = len(frame) + FRAME_BYTES
        self.size += cost
        return cost

    def next_size(self) -> int:
        """Length of what ``take`` returns next."""
        return len(self._frames[0])

    def take(self) -> tuple[bytes, int]:
        """Return the first frame, and the bytes that it counted for."""
        frame = self._frames.popleft()
        cost = len(frame) + FRAME_BYTES
        self.size -= cost
        return frame, cost


class Flow:
    """What waits for one leg because of one other leg.

    :param payer: on whose account it waits (``budget``).
    """

    __slots__ = ("door", "sender", "payer", "size", "lane", "deficit", "ready", "stopped")

    def __init__(self, door: "Door", sender: Leg, payer: Leg) -> None:
        self.door = door
        self.sender = sender
        self.payer = payer
        #: Bytes that wait: frames in lanes, calls and messages in windows, and what keeping them costs.
        self.size = 0
        #: Frames for session 1.
        self.lane: Lane | None = None
        self.deficit = 0
        #: Lanes in which something may be sent, the next one first.
        self.ready: deque[Lane | RawLane] = deque()
        #: Whether the sender is not read from until a part of it has left.
        self.stopped = False


class Door:
    """The flows of one leg. It is there as long as something waits."""

    __slots__ = ("leg", "flows", "turn")

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.flows: dict[Leg, Flow] = {}
        #: Flows in which something may be sent, the next one first.
        self.turn: deque[Flow] = deque()


class RawLane:
    """Raw bytes that wait for one end of a stream, which keeps count of them: joined where they are small, cut into
    blocks where they are large.

    :param flow: the queue of its sender, in which it is served while something may be sent.
    :param on_due: told the end, when it may take more at a time that was known.
    """

    __slots__ = ("flow", "end", "tick", "_blocks", "_on_due", "_timers")

    def __init__(self, flow: Flow, end: StreamEnd, on_due: Callable[[StreamEnd], None], timers: Timers) -> None:
        self.flow = flow
        self.end = end
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._blocks: deque[bytes | bytearray] = deque()
        self._on_due = on_due
        self._timers = timers
        end.raw_bytes = RAW_LANE_BYTES
        end.raw_taken = 0

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
        self.end.raw_bytes += cost
        return cost

    def may_go(self) -> bool:
        """Whether the receiver takes the next frame now. If it will at a time that is known, this is come back to."""
        when = when_taken(self.end, len(self._blocks[0]))
        if 0 < when < float("inf"):
            self._timers.schedule(self, when)
        return not when

    def fire(self, now: float) -> None:
        """The receiver may take another frame (``timers.Timed``)."""
        self._on_due(self.end)

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
        end.raw_bytes -= cost
        end.raw_taken += size
        header = SESSION_HEADER.pack(VERSION, STREAM, next(end.leg.connection.ids), size + 8, session.id)
        return header + data + count(end, size, self._timers), cost

    def stop(self) -> None:
        """Nothing waits any more."""
        self._timers.cancel(self)
