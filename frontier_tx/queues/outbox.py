"""What waits for a broker, and what was sent and is not confirmed: bounded, in order, shared by sender, without I/O."""

from collections import deque
from collections.abc import Hashable

from frontier_tx.config.queues import QueueBuffer
from frontier_tx.queues.record import Record

#: At most this many messages are sent in one turn of the reactor, and none after this many bytes.
TURN, TURN_BYTES = 256, 1_048_576


class Outbox:
    """The records of one queue, in the order in which they came.

    :param bounds: how much, how long.
    """

    def __init__(self, bounds: QueueBuffer) -> None:
        self.bounds = bounds
        self.bytes = 0
        self.in_flight_bytes = 0
        self._waiting: deque[Record] = deque()
        #: Sent and not confirmed, in the order of sending.
        self._in_flight: dict[Record, None] = {}
        self._of_sender: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def waiting(self) -> int:
        """Records that are not sent."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Records that are sent and not confirmed."""
        return len(self._in_flight)

    def put(self, record: Record, now: float) -> bool:
        """Take a record; return False where its sender, or all together, have too much here.

        What a sender may add shrinks with what all have here, so that who has most is refused first and there is room
        for newcomers. What comes out of a spool is bounded there, and waits there as long as need be.
        """
        held = self._of_sender.get(record.sender, 0)
        if not record.number and held + record.size > self.bounds.bytes - self.bytes:
            return False
        self._of_sender[record.sender] = held + record.size
        self.bytes += record.size
        record.due = float("inf") if record.number else now + self.bounds.seconds
        self._waiting.append(record)
        return True

    def take(self, now: float) -> list[Record]:
        """Return what may be sent now, in one turn of the reactor; it counts as sent."""
        bounds, waiting, in_flight = self.bounds, self._waiting, self._in_flight
        taken: list[Record] = []
        most_bytes = self.in_flight_bytes + TURN_BYTES
        while waiting and len(in_flight) < bounds.window and len(taken) < TURN and self.in_flight_bytes < most_bytes:
            record = waiting[0]
            if in_flight and self.in_flight_bytes + record.size > bounds.window_bytes:
                break
            waiting.popleft()
            record.sent_at = now
            in_flight[record] = None
            self.in_flight_bytes += record.size
            taken.append(record)
        return taken

    def settle(self, record: Record) -> bool:
        """The broker said what became of a record; return False where it is not one that is awaited."""
        if record not in self._in_flight:
            return False
        del self._in_flight[record]
        self.in_flight_bytes -= record.size
        self._discount(record)
        return True

    def back(self) -> None:
        """The connection was lost: what was sent and not confirmed is the next again, in its order."""
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        self.in_flight_bytes = 0

    def overdue(self, now: float, most: int = 500) -> list[Record]:
        """Remove and return records that waited too long, at most so many; call again where it is as many."""
        given_up: list[Record] = []
        while self._waiting and self._waiting[0].due <= now and len(given_up) < most:
            record = self._waiting.popleft()
            self._discount(record)
            given_up.append(record)
        return given_up

    def oldest_sent(self) -> Record | None:
        """The record that waits longest for its confirmation."""
        return next(iter(self._in_flight), None)

    def next_due(self) -> float:
        """When something is overdue next."""
        due = self._waiting[0].due if self._waiting else float("inf")
        sent = self.oldest_sent()
        return due if sent is None else min(due, sent.sent_at + self.bounds.confirm_seconds)

    def clear(self) -> list[Record]:
        """Remove and return everything."""
        self.back()
        everything = list(self._waiting)
        self._waiting.clear()
        self._of_sender.clear()
        self.bytes = 0
        return everything

    def _discount(self, record: Record) -> None:
        self.bytes -= record.size
        left = self._of_sender[record.sender] - record.size
        if left:
            self._of_sender[record.sender] = left
        else:
            del self._of_sender[record.sender]
