"""How many frames of a stream an end without credit gets before it answers for them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_tx.switch.pace import ASK, FULL, MOST, Pace
from tests import packets as p

from .world import Peer, World


class Reader(Peer):
    """An end of the Go library: it answers a Register behind what its program has taken, all but ``KEPT`` frames."""

    KEPT = 32

    def __init__(self, *rest: Any) -> None:
        super().__init__(*rest)
        self.accepted = True
        self.frames_in = 0
        self.taken = 0
        self.most = 0
        self.data = bytearray()
        self.questions: list[tuple[int, p.Register]] = []

    def got(self, data: bytes) -> None:
        super().got(data)
        for packet in self.take():
            if isinstance(packet, p.Stream):
                self.frames_in += 1
                self.data += packet.data
                self.most = max(self.most, self.frames_in - self.taken)
            elif isinstance(packet, p.Register):
                self.questions.append((0 if packet.session_id == 1 else self.frames_in, packet))
            else:
                self.inbox.append(packet)
        self.answer()

    def read(self, frames: int) -> None:
        """The program takes some."""
        self.taken = min(self.frames_in, self.taken + frames)
        self.answer()

    def answer(self) -> None:
        for position, question in list(self.questions):
            if position - self.taken <= self.KEPT and (self.accepted or not position):
                self.questions.remove((position, question))
                answer = p.RegisterAck(packet_id=question.packet_id, session_id=question.session_id)
                self.world.clock.callLater(0, self.send, answer)


class Readers(World):
    peer_class = Reader


def pair(accepted: bool = True) -> tuple[Readers, Peer, Reader, int]:
    world = Readers()
    edge, service = world.edge(5), world.service("files")
    assert isinstance(service, Reader)
    service.accepted = accepted
    near, _ = world.stream(edge, service, "files")
    service.frames_in = service.taken = 0
    return world, edge, service, near


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("size", [1, 5000, FULL + 5])
def test_an_end_that_answers_keeps_few_frames_however_much_comes(size: int, accepted: bool) -> None:
    world, edge, service, near = pair(accepted)
    for number in range(500):
        edge.stream(near, bytes([number & 0xFF]) * size)
        world.advance(0.001)
    assert service.most <= (2 * MOST + ASK if accepted else MOST + ASK)
    service.accepted = True
    for _ in range(2000):
        service.read(5)
        world.advance(0.01)
    assert service.data == b"".join(bytes([number & 0xFF]) * size for number in range(500))
    assert world.core.exchange.doors.raw_bytes == 0


def test_one_that_reads_gets_all_at_once() -> None:
    world, edge, service, near = pair()
    for number in range(2000):
        edge.stream(near, number.to_bytes(2))
        service.read(1000)
        world.advance()
    assert len(service.data) == 4000 and world.clock.seconds() < 1


def test_one_that_never_answers_gets_small_frames_slowly_and_full_ones_at_once() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, _ = world.stream(edge, service, "files")
    for _ in range(400):
        edge.stream(near, b"x")
    assert len(service.take(p.Stream)) == MOST
    world.advance(2, step=0.05)
    came = service.take(p.Stream)
    assert 1 <= len(came) <= 21 and sum(len(x.data) for x in came) == 400 - MOST
    for _ in range(50):
        edge.stream(near, bytes(FULL))
    assert sum(len(x.data) for x in service.take(p.Stream)) >= 49 * FULL


def test_two_that_fill_each_other_do_not_wait_for_each_others_answers() -> None:
    """While an end is not read from, what it answers is not heard."""
    world, edge, service, near = pair()
    assert isinstance(edge, Reader)
    (far,) = service.leg.streams
    sent = 0
    for number in range(300):
        for end, session in ((edge, near), (service, far)):
            end.stream(session, bytes([number & 0xFF]) * 131_072)
        sent += 131_072
    for _ in range(600):
        world.advance(0.1, step=0.1)
        for end in (edge, service):
            assert isinstance(end, Reader)
            end.read(100)
    assert len(service.data) == len(edge.data) == sent
    assert world.core.exchange.counters.streams_congested == 0


def test_a_register_ack_that_nobody_asked_for_changes_nothing() -> None:
    world, edge, service, near = pair()
    (far,) = service.leg.streams
    for session in (1, far, 99):
        service.send(p.RegisterAck(packet_id=12345, session_id=session))
    assert not service.leg.answers
    edge.stream(near, b"x")
    assert service.data == b"x" and not service.closed
    assert world.core.exchange.counters.dropped == 0


@given(st.lists(st.sampled_from(["send", "answer"]), max_size=300))
@settings(deadline=None, max_examples=100)
def test_there_is_always_a_question_under_way_where_frames_wait(steps: list[str]) -> None:
    pace = Pace(lambda: 1.0)
    asked = outstanding = 0
    for step in steps:
        if step == "send" and pace.wait(1, True) == 0:
            outstanding += 1
            if pace.count():
                asked += 1
                pace.ask(asked)
                position = outstanding
        elif step == "answer" and pace.asked:
            assert not pace.answered(asked + 1) and pace.answered(asked)
            outstanding -= position
            if pace.asks:
                asked += 1
                pace.ask(asked)
                position = outstanding
        assert 0 <= pace.sent == outstanding <= MOST
        assert pace.wait(1, True) == 0 or pace.asked
