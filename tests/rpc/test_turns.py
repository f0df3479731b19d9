"""Who is served next, whoever sends how much."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.turns import Lane, Turns
from tests.rpc.support import Memory, RawPeer, outcome
from tests.rpc.test_hostile import HEADERS, REQUEST, Peer

LOOK = b"GET /cluster/v1/frontier?edge_id=1 HTTP/1.1\r\nHost: x\r\n\r\n"


def one_turn(clock: Clock) -> None:
    """What is due now, and not yet what that puts off to the next turn; ``Clock.advance`` does both."""
    for call in [each for each in clock.getDelayedCalls() if each.getTime() <= clock.seconds()]:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)


class World:
    """Turns whose work takes as long as it says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.now = 0.0
        self.done: list[str] = []
        self.turns = Turns(lambda: self.now, self.clock.callLater, budget=0.005)

    def work(self, name: str, seconds: float = 0.001) -> Callable[[], None]:
        """Work that is noted when it is done."""

        def do() -> None:
            self.now += seconds
            self.done.append(name)

        return do

    def spend(self, lane: Lane, name: str, times: int, seconds: float = 0.001) -> None:
        """Much work of one lane."""
        for _ in range(times):
            lane.ask(self.work(name, seconds), 16_000)


def test_one_turn_of_the_reactor_does_a_bounded_amount() -> None:
    world = World()
    world.spend(world.turns.lane("a"), "a", 100)
    assert len(world.done) == 5
    one_turn(world.clock)
    assert len(world.done) == 10
    assert world.turns.waiting == 90


def test_who_comes_new_goes_before_those_who_have_much() -> None:
    world = World()
    for number in range(300):
        world.spend(world.turns.lane("a"), f"a{number}", 10)
    one_turn(world.clock)
    before = len(world.done)
    world.turns.lane("a").ask(world.work("new"))
    one_turn(world.clock)
    assert world.done.index("new") - before <= 5


def test_addresses_share_before_connections_do() -> None:
    world = World()
    for number in range(99):
        world.spend(world.turns.lane("many"), "many", 100)
        assert number >= 0
    world.spend(world.turns.lane("one"), "one", 100)
    begun = len(world.done)
    for _ in range(20):
        one_turn(world.clock)
    done = world.done[begun:]
    assert abs(done.count("one") - done.count("many")) <= 20


def test_who_asks_little_and_often_goes_before_those_who_always_want_more() -> None:
    world = World()
    for number in range(300):
        world.spend(world.turns.lane("a"), f"a{number}", 100)
    light = world.turns.lane("a")
    for _ in range(20):
        light.ask(world.work("light", 0.002))
        before = len(world.done)
        one_turn(world.clock)
        one_turn(world.clock)
        assert "light" in world.done[before - 1 :]
        # Its user thinks for a while, in which others are served.
        for _ in range(3):
            one_turn(world.clock)


def test_time_counts_and_not_the_number_of_steps() -> None:
    world = World()
    world.spend(world.turns.lane("a"), "dear", 100, 0.004)
    world.spend(world.turns.lane("b"), "cheap", 1000, 0.0001)
    for _ in range(15):
        one_turn(world.clock)
    assert 30 < world.done.count("cheap") / world.done.count("dear") < 50


def test_work_that_fails_stops_nobody() -> None:
    world = World()

    def fail() -> None:
        raise ZeroDivisionError

    lane = world.turns.lane("a")
    lane.ask(fail)
    lane.ask(world.work("after"))
    assert world.done == ["after"]


def test_a_lane_that_is_closed_does_no_more() -> None:
    world = World()
    lane, other = world.turns.lane("a"), world.turns.lane("a")
    world.spend(lane, "gone", 20)
    lane.close()
    other.ask(world.work("other"))
    for _ in range(5):
        one_turn(world.clock)
    assert world.done == ["gone"] * 5 + ["other"]
    assert world.turns.waiting == 0
    other.close()
    assert not world.turns._groups


def test_a_turn_that_is_given_up() -> None:
    world = World()
    lane = world.turns.lane("a")
    world.spend(lane, "a", 10)
    turn, kept = lane.turn(), lane.turn()
    turn.addErrback(lambda _: None)
    turn.cancel()
    for _ in range(3):
        one_turn(world.clock)
    assert outcome(kept) is None


# Over the two protocols of a port.


def beside_pipelines(memory: Memory, count: int, ask: Callable[[], Any]) -> int:
    """How many turns of the reactor a look-up takes beside so many connections with 200 requests each."""
    peers = [memory.raw() for _ in range(count)]
    for peer in peers:
        peer.protocol.dataReceived(LOOK * 200)
    one_turn(memory.clock)
    assert memory.factory.door.turns.waiting >= count - 10
    answered = ask()
    for turn in range(20):
        if answered():
            return turn
        one_turn(memory.clock)
    raise AssertionError("no answer within 20 turns")


@pytest.mark.parametrize("count", [30, 300, 1000])
def test_a_look_up_beside_pipelines(count: int) -> None:
    memory = Memory()

    def ask() -> Callable[[], bool]:
        peer = memory.raw()
        peer.protocol.dataReceived(LOOK)
        return lambda: b" 200 OK" in peer.take() or b" 200 OK" in peer.received

    assert beside_pipelines(memory, count, ask) <= 4


def test_a_grpc_call_beside_pipelines() -> None:
    memory = Memory()

    def ask() -> Callable[[], bool]:
        raw = memory.raw()
        peer = Peer.__new__(Peer)
        Peer.begin(peer, raw)
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, HEADERS)
        peer.h2.send_data(stream, REQUEST, end_stream=True)
        raw.protocol.dataReceived(peer.h2.data_to_send())
        return lambda: b"f5" in raw.take() or b"f5" in raw.received

    assert beside_pipelines(memory, 300, ask) <= 4


def test_a_look_up_beside_streams() -> None:
    memory = Memory()
    peers = []
    for _ in range(50):
        peer = Peer(memory)
        for _ in range(90):
            stream = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(stream, HEADERS)
            peer.h2.send_data(stream, REQUEST, end_stream=True)
        peers.append(peer)
    for peer in peers:
        peer.raw.protocol.dataReceived(peer.h2.data_to_send())
    assert memory.factory.door.turns.waiting >= 40
    raw = memory.raw()
    raw.protocol.dataReceived(LOOK)
    for _ in range(3):
        one_turn(memory.clock)
    assert b" 200 OK" in raw.take()
    for peer in peers:
        for _ in range(200):
            one_turn(memory.clock)
        peer.turn()
        assert not peer.raw.over


def test_what_is_sent_ahead_is_bounded(memory: Memory) -> None:
    peer = memory.raw()
    peer.protocol.dataReceived(LOOK * 5000)
    assert peer.protocol._chosen._full
    for _ in range(200):
        one_turn(memory.clock)
    assert peer.take().count(b" 200 OK") == 5000
    assert not peer.protocol._chosen._full


def test_pipelined_requests_wait_for_the_one_before(memory: Memory) -> None:
    peer = memory.raw()
    slow = b"GET /cluster/v1/edges?edge_ids=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    peer.send(slow + LOOK + b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + LOOK)
    assert peer.received == b""
    memory.clock.advance(5)
    memory.handlers.waiting[0].callback(None)
    for _ in range(5):
        one_turn(memory.clock)
    answers = peer.take()
    assert answers.count(b"HTTP/1.1 ") == 3
    assert answers.count(b" 404 ") == 1
    assert peer.over


def test_bodies_between_pipelined_requests(memory: Memory) -> None:
    peer = memory.raw()
    body = b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    post = b"GET /cluster/v1/frontier?edge_id=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    chunked = (
        b"GET /cluster/v1/frontier?edge_id=2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\n\r\n\r\n\r\n0\r\n\r\n"
    )
    for _ in range(3):
        peer.send((post + chunked + LOOK) * 4)
    for _ in range(50):
        one_turn(memory.clock)
    peer.take()
    assert peer.received.count(b"HTTP/1.1 200 OK") == 36
    assert peer.received.count(b"HTTP/1.1 ") == 36


@pytest.fixture
def memory() -> Memory:
    return Memory()


def finished(peer: RawPeer, clock: Clock) -> None:
    """Until nothing moves."""
    for _ in range(100):
        one_turn(clock)
    peer.take()


def test_a_large_page_is_written_in_slices(memory: Memory) -> None:
    peer = memory.raw()
    steps = memory.factory.door.turns.steps
    peer.protocol.dataReceived(b"GET /cluster/v1/frontiers?cursor=7&count=3000 HTTP/1.1\r\nHost: x\r\n\r\n")
    finished(peer, memory.clock)
    head, _, body = peer.received.partition(b"\r\n\r\n")
    assert memory.factory.door.turns.steps - steps >= 29
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    parsed = json.loads(body)
    assert [each["frontierId"] for each in parsed["frontiers"]] == [str(n) for n in range(3000)]
    assert parsed["cursor"] == 7


def test_a_large_answer_that_is_not_read_is_held_within_the_budget() -> None:
    memory = Memory(ControlPlaneLimits(answer_bytes=20_000_000))
    ask = b"GET /cluster/v1/frontiers?cursor=1&count=3000 HTTP/1.1\r\nHost: x\r\n\r\n"
    peers = [memory.raw() for _ in range(20)]
    for peer in peers:
        peer.protocol.dataReceived(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        finished(peer, memory.clock)
        # The transport took what it could, and says so at the next write.
        write = peer.transport.write

        def full(data: bytes, peer: RawPeer = peer, write: Any = write) -> None:
            write(data)
            if len(data) > 60_000:
                peer.protocol._chosen.pauseProducing()

        peer.transport.write = full  # type: ignore[method-assign]
        peer.protocol.dataReceived(ask)
        finished(peer, memory.clock)
    assert 0 < memory.factory.budget.unsent <= 5_000_000
    refused = sum(b" 429 " in peer.received for peer in peers)
    assert refused >= 17
    honest = memory.raw()
    assert b" 200 OK" in honest.send(LOOK)
    for peer in peers:
        peer.lose()
    assert memory.factory.budget.unsent == 0
