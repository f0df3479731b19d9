"""Turns at a door, whatever is sent: order, bytes that are counted, and how much of others leaves before one's own."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from frontier_tx.switch.doors import QUANTUM
from frontier_tx.switch.lanes import FLOW_BYTES, FRAME_BYTES, LANE_BYTES
from frontier_tx.wire import frame as f

from .world import World

SENDERS = 5
LARGEST = 200_000


class Turns(RuleBasedStateMachine):
    """Edges send frames to a service that takes some of them now and then."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.service = self.world.service()
        self.legs = [self.world.edge(number + 1).leg for number in range(SENDERS)]
        self.budget = self.world.core.exchange.budget
        self.doors = self.world.core.exchange.doors
        self.target = self.service.leg
        self.reader = f.FrameReader(1 << 30)
        self.service.transport.deliver = self.got
        self.service.transport.block()
        # Until a first frame fills the transport and the connection, nothing waits.
        self.doors.send(self.legs[0], self.target, None, f.pack_of_session(f.RESPONSE, 0, 1, bytes(400_000)))
        self.world.advance()
        #: Per sender: number and length of what waits, and the bytes of others that left since its turn could come.
        self.waiting: list[deque[tuple[int, int]]] = [deque() for _ in range(SENDERS)]
        self.passed = [0] * SENDERS
        self.last = [0] * SENDERS
        self.numbers = 0

    def got(self, data: bytes) -> None:
        for frame in self.reader.feed(data):
            if frame.packet_id:
                self._left(frame.packet_id, len(frame.body) + 22)

    def _left(self, packet_id: int, length: int) -> None:
        sender, number = packet_id % SENDERS, packet_id // SENDERS
        assert (number, length) == self.waiting[sender].popleft(), "out of order"
        others = SENDERS - 1
        turns = length // QUANTUM + 2
        assert self.passed[sender] <= others * (turns * QUANTUM + LARGEST) + 2 * self.budget.most
        self.passed[sender] = 0
        for other in range(SENDERS):
            if other != sender and self.waiting[other]:
                self.passed[other] += length

    @rule(sender=st.integers(0, SENDERS - 1), size=st.sampled_from((0, 100, 10_000, 70_000, LARGEST - 22)))
    def send(self, sender: int, size: int) -> None:
        self.numbers += 1
        packet_id = self.numbers * SENDERS + sender
        frame = f.pack_of_session(f.RESPONSE, packet_id, 1, bytes(size))
        if not self.waiting[sender]:
            self.passed[sender] = 0
        self.waiting[sender].append((self.numbers, len(frame)))
        self.doors.send(self.legs[sender], self.target, None, frame)
        self.world.advance()

    @rule(sender=st.integers(0, SENDERS - 1), count=st.integers(5, 40))
    def flood(self, sender: int, count: int) -> None:
        for _ in range(count):
            self.send(sender, 10_000)

    @rule(times=st.integers(1, 5))
    def take(self, times: int) -> None:
        for _ in range(times):
            self.service.transport.unblock_once()

    @invariant()
    def bytes_are_counted(self) -> None:
        door = self.doors.by_leg.get(self.target)
        flows = door.flows if door is not None else {}
        assert self.target.waiting_bytes == sum(flow.size for flow in flows.values())
        for flow in flows.values():
            assert flow.lane is not None
            assert flow.size == FLOW_BYTES + flow.lane.size and flow.size >= FLOW_BYTES + LANE_BYTES + FRAME_BYTES
        assert self.target.queued == sum(flow.size - FLOW_BYTES for flow in flows.values())

    def teardown(self) -> None:
        self.world.advance()
        self.service.transport.unblock()
        assert not any(self.waiting)
        assert self.target not in self.doors.by_leg and self.target.waiting_bytes == 0
        self.world.everybody_leaves()
        self.world.check_empty()


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
