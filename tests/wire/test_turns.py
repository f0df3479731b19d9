"""A turn of the reactor is short, whatever one peer sends: the rest of it comes in the next turns, in order."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from frontier_tx.runtime.process_metrics import ProcessFigures
from frontier_tx.runtime.turns import CLASSES, WINDOW, Durations, watch_turns
from frontier_tx.timers import Alarms
from frontier_tx.wire import frame as f
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.protocol import SLICE, TURN_SECONDS
from frontier_tx.wire.states import Role
from tests.wire.test_protocol import CONN, HEARTBEAT, Counting, Peer, World

#: What one frame costs on the test's stopwatch.
COST = TURN_SECONDS / 100


class Busy(World):
    """A world in which each frame takes its time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(50.0)
        self.spent = 0.0
        self.alarms = Alarms(self.clock)
        self.outlet = Outlet(self.clock, stopwatch=lambda: self.spent)

    def turn(self) -> None:
        """The next turn of the reactor: what is due when it begins. ``Clock.advance`` also does what comes up then."""
        for call in [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]:
            self.clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class Worked(Peer):
    """Notes packet ids of frames, and takes its time for them."""

    world: Busy
    transport_is_gone = False

    def frame_received(self, frame: Any) -> None:
        self.frames.append(frame.packet_id)
        self.world.spent += COST

    def transport_gone(self) -> None:
        self.transport_is_gone = True


def worked(world: Busy) -> tuple[Worked, Counting]:
    peer, transport = Worked(world, Role.SERVER), Counting()
    peer.world = world
    peer.makeConnection(transport)
    peer.dataReceived(CONN)
    transport.take()
    return peer, transport


def messages(count: int, first: int = 0) -> bytes:
    return b"".join(f.pack_of_session(f.MESSAGE, number, 1, b"") for number in range(first, first + count))


def test_one_read_of_many_frames_takes_many_turns_and_nothing_is_read_meanwhile() -> None:
    world = Busy()
    peer, transport = worked(world)
    peer.dataReceived(messages(11_900))
    turns = 1
    while transport.producerState == "paused":
        before, seen = world.spent, len(peer.frames)
        world.turn()
        turns += 1
        assert len(peer.frames) > seen
        assert world.spent - before <= TURN_SECONDS + SLICE * COST
    assert peer.frames == list(range(11_900))
    assert 11_900 // (100 + SLICE) <= turns <= 11_900 // 100 + 1
    peer.dataReceived(messages(1, 11_900))
    assert peer.frames[-1] == 11_900


def test_those_who_are_behind_take_turns_and_a_light_sender_is_served_at_once() -> None:
    world = Busy()
    heavy = [worked(world) for _ in range(4)]
    for peer, _ in heavy:
        peer.dataReceived(messages(4000))
    # Where others are behind already, a newcomer with thousands begins with a slice.
    assert [len(peer.frames) for peer, _ in heavy[1:]] == [SLICE] * 3
    light, _ = worked(world)
    light.dataReceived(messages(3))
    assert light.frames == [0, 1, 2]
    start = [len(peer.frames) for peer, _ in heavy]
    for _ in range(30):
        world.turn()
    gained = [len(peer.frames) - at for (peer, _), at in zip(heavy, start, strict=True)]
    assert max(gained) - min(gained) <= SLICE


def test_bytes_that_come_although_reading_is_stopped_are_put_behind_the_rest() -> None:
    """TLS decrypts what it has, whoever is paused."""
    world = Busy()
    peer, transport = worked(world)
    data = messages(1000)
    peer.dataReceived(data[:20_001])
    peer.dataReceived(data[20_001:20_010])
    peer.dataReceived(data[20_010:])
    while transport.producerState == "paused":
        world.turn()
    assert peer.frames == list(range(1000))


def test_what_came_before_the_end_is_worked_on_before_the_end() -> None:
    world = Busy()
    peer, _ = worked(world)
    peer.dataReceived(messages(1000))
    peer.connectionLost(Failure(ConnectionLost()))
    assert not peer.gone and len(peer.frames) < 1000
    for _ in range(100):
        world.turn()
    assert peer.frames == list(range(1000))
    assert peer.gone == ["connection lost"] or len(peer.gone) == 1
    assert peer.transport_is_gone
    assert not len(world.alarms)


@pytest.mark.parametrize("first", ["abort", "lost"])
def test_who_is_cut_while_it_is_behind_is_gone_at_once(first: str) -> None:
    world = Busy()
    peer, transport = worked(world)
    peer.dataReceived(messages(1000))
    seen = len(peer.frames)
    if first == "lost":
        peer.connectionLost(Failure(ConnectionLost()))
    peer.abort("enough")
    assert peer.gone == ["enough"] and transport.aborted
    if first == "abort":
        peer.connectionLost(Failure(ConnectionLost()))
    for _ in range(5):
        world.turn()
    assert len(peer.frames) == seen and peer.gone == ["enough"] and peer.transport_is_gone
    assert not len(world.alarms)


def test_a_sender_that_others_stopped_goes_on_with_what_is_left_when_they_let_it() -> None:
    world = Busy()
    peer, transport = worked(world)
    peer.dataReceived(messages(1000))
    peer.pause_reading()
    world.turn()
    seen = len(peer.frames)
    for _ in range(5):
        world.turn()
    assert len(peer.frames) == seen < 1000
    light, _ = worked(world)
    light.dataReceived(messages(2))
    assert light.frames == [0, 1]
    peer.resume_reading()
    assert transport.producerState == "paused"
    for _ in range(20):
        world.turn()
    assert peer.frames == list(range(1000)) and transport.producerState == "producing"


def test_one_that_stops_itself_in_the_middle_of_a_read() -> None:
    world = Busy()
    peer, transport = worked(world)
    peer.on_frame = peer.frames.append
    peer.frame_received = lambda frame: (  # type: ignore[method-assign]
        peer.frames.append(frame.packet_id),
        peer.pause_reading() if frame.packet_id == 10 else None,
    )[1]
    peer.dataReceived(messages(200))
    assert len(peer.frames) == SLICE and transport.producerState == "paused"
    peer.resume_reading()
    world.turn()
    while transport.producerState == "paused":
        world.turn()
    assert peer.frames == list(range(200))


def test_answers_leave_after_each_slice() -> None:
    world = Busy()
    peer, transport = worked(world)
    peer.dataReceived(messages(500))
    transport.take()
    peer2, transport2 = worked(world)
    peer2.dataReceived(HEARTBEAT * 500)
    first = len(transport2.take())
    assert first > 0
    for _ in range(50):
        world.turn()
    assert first + len(transport2.take()) == 14 * 500


def test_durations_are_counted_in_classes_and_the_longest_of_late_is_kept() -> None:
    now = [0.0]
    durations = Durations(lambda: now[0])
    for seconds in (0.0001, 0.001, 0.002, 0.007, 3.0):
        durations.note(seconds)
    found = dict(durations.histogram())
    assert (found["0.001"], found["0.0025"], found["0.01"], found["1.0"], found["+Inf"]) == (2, 3, 4, 4, 5)
    assert len(found) == len(CLASSES) + 1 and durations.total == pytest.approx(3.0101)
    assert durations.longest() == 3.0
    now[0] += WINDOW
    durations.note(0.02)
    assert durations.longest() == 3.0
    now[0] += WINDOW
    assert durations.longest() == 0.02
    now[0] += 5 * WINDOW
    assert durations.longest() == 0.0


def test_a_handler_is_measured_with_what_is_written_for_it() -> None:
    world = Busy()
    peer, _ = worked(world)
    peer.dataReceived(messages(1))
    before = world.outlet.handlers.count

    def slowly() -> None:
        until = perf_counter() + 0.003
        while perf_counter() < until:
            pass

    peer.flush = slowly  # type: ignore[method-assign]
    peer.dataReceived(HEARTBEAT)
    assert world.outlet.handlers.count == before + 1
    assert world.outlet.handlers.longest() >= 0.003


def test_turns_of_a_reactor_are_measured_from_one_wait_to_the_next() -> None:
    class Poller:
        asked = 0

        def poll(self, *args: object) -> list[object]:
            self.asked += 1
            return []

        def register(self, fd: int) -> int:
            return fd

    class Reactor:
        _poller: Any

    turns, reactor, poller = Durations(), Reactor(), Poller()
    reactor._poller = poller
    assert watch_turns(reactor, turns) and not watch_turns(reactor, turns)
    assert reactor._poller.poll(0.1, 5) == [] and reactor._poller.register(7) == 7
    assert (turns.count, poller.asked) == (1, 1)
    assert not watch_turns(object(), turns)


def test_the_figures_of_a_process() -> None:
    handlers = Durations()
    handlers.note(0.02)
    registry = CollectorRegistry()
    registry.register(ProcessFigures("frontier", {"connections": handlers}))
    of = {"of": "connections"}
    assert registry.get_sample_value("frontier_longest_handler_seconds", of) == 0.02
    assert registry.get_sample_value("frontier_handler_seconds_bucket", {**of, "le": "0.01"}) == 0
    assert registry.get_sample_value("frontier_handler_seconds_bucket", {**of, "le": "0.025"}) == 1
    assert registry.get_sample_value("frontier_handler_seconds_count", of) == 1
    assert registry.get_sample_value("frontier_longest_turn_seconds") is not None
    assert registry.get_sample_value("frontier_log_lines_lost_total") is not None
