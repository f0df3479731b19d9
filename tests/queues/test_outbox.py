"""What waits for a broker: order, bounds, shares, and the count of bytes, whatever happens in between."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from frontier_tx.config.queues import QueueBuffer
from frontier_tx.queues.outbox import Outbox
from frontier_tx.queues.record import OVERHEAD, Record

BOUNDS = QueueBuffer(
    bytes=20 * (OVERHEAD + 50), seconds=10, window=4, window_bytes=3 * (OVERHEAD + 60), confirm_seconds=3
)


class Queue(RuleBasedStateMachine):
    """Three senders, a broker that confirms in any order and goes away, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(BOUNDS)
        self.now = 0.0
        self.made = 0
        #: What is here, in the order of its coming, per sender: the model.
        self.here: dict[int, list[Record]] = defaultdict(list)
        self.sent: list[Record] = []

    def all_here(self) -> list[Record]:
        return [record for records in self.here.values() for record in records]

    @rule(sender=st.integers(0, 2), size=st.integers(0, 200))
    def put(self, sender: int, size: int) -> None:
        self.made += 1
        record = Record("t", b"x" * size, self.made, "", 0.0, sender, lambda error: None)
        held = sum(each.size for each in self.here[sender])
        total = sum(each.size for each in self.all_here())
        fits = held + record.size <= BOUNDS.bytes - total
        assert self.outbox.put(record, self.now) is fits
        if fits:
            self.here[sender].append(record)

    @rule()
    def take(self) -> None:
        for record in self.outbox.take(self.now):
            assert record in self.here[record.sender]  # type: ignore[index]
            self.sent.append(record)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        record = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        assert self.outbox.settle(record)
        assert not self.outbox.settle(record)
        self.here[record.sender].remove(record)  # type: ignore[index]

    @rule()
    def lose(self) -> None:
        self.outbox.back()
        self.sent.clear()

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for record in self.outbox.overdue(self.now):
            assert record.due <= self.now
            assert record not in self.sent
            self.here[record.sender].remove(record)  # type: ignore[index]

    @invariant()
    def counts(self) -> None:
        assert self.outbox.bytes == sum(record.size for record in self.all_here()) <= BOUNDS.bytes
        assert len(self.outbox) == len(self.all_here())
        assert self.outbox.in_flight == len(self.sent) <= BOUNDS.window
        assert self.outbox.in_flight_bytes == sum(record.size for record in self.sent)

    def teardown(self) -> None:
        """What is left leaves in the order of its coming, and nothing is left then."""
        left = self.outbox.clear()
        assert sorted(left, key=lambda record: record.edge_id) == left
        assert (len(self.outbox), self.outbox.bytes, self.outbox.in_flight_bytes) == (0, 0, 0)
        assert self.outbox.next_due() == float("inf")


TestQueue = Queue.TestCase


def test_who_has_most_is_refused_first() -> None:
    outbox = Outbox(QueueBuffer(bytes=100 * (OVERHEAD + 1)))

    def put(sender: str) -> bool:
        return outbox.put(Record("t", b"", 1, "", 0.0, sender, None), 0.0)

    flooded = sum(put("flood") for _ in range(1000))
    assert flooded == 50, "a sender alone gets half of it"
    assert [put("light") for _ in range(20)] == [True] * 20
    assert not put("flood")


def test_a_message_larger_than_the_window_goes_alone() -> None:
    outbox = Outbox(QueueBuffer(window_bytes=1000))
    for size in (10, 5000, 10):
        assert outbox.put(Record("t", b"x" * size, 1, "", 0.0, 1, None), 0.0)
    sizes = []
    while batch := outbox.take(0.0):
        sizes.append([len(record.value) for record in batch])
        for record in batch:
            outbox.settle(record)
    assert sizes == [[10], [5000], [10]]
