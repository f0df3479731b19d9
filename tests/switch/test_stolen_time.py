"""A receiver that is slow may stop its sender, but not for long while others wait for something of that sender."""

import pytest

from frontier_tx.switch.pressure import CAPACITY, LEAK
from frontier_tx.switch.settings import Settings
from frontier_tx.wire import frame as f
from frontier_tx.wire.limits import Limits
from tests import packets as p

from .world import World

MIB = 1 << 20
STEP = 0.25


class Scene:
    """A service that streams as fast as it can to slow edges, while a quick one calls it."""

    def __init__(self, slow: int, calls: bool = True, idle_streams: int = 0) -> None:
        self.world = World(settings=Settings(write_high_bytes=MIB))
        self.service = self.world.service("files", methods=(b"m",))
        self.quick = self.world.edge(1)
        self.slow = [self.world.edge(100 + number) for number in range(slow)]
        self.sessions = {edge: self.world.stream(self.service, edge, str(edge.id))[0] for edge in self.slow}
        for _ in range(idle_streams):
            self.world.stream(self.service, self.quick, "1")
        self.calls = calls
        self.asked = self.answered = 0
        self.stopped = self.stopped_while_asked = 0.0
        for edge in self.slow:
            edge.transport.block()

    def run(self, seconds: float) -> None:
        for number in range(round(seconds / STEP)):
            self.world.advance(STEP, step=STEP)
            for edge in self.slow:
                edge.transport.unblock_once()
            if not number % 8:
                for peer in self.world.peers:
                    peer.send_bare(f.FrameType.HEARTBEAT)
            self.write()
            if self.calls and not number % 2:
                self.quick.call(b"m")
                self.asked += 1
            for request in self.service.take(f.FrameType.REQUEST):
                self.service.respond(request)
            self.answered += sum(not x.data.error for x in self.quick.take(f.FrameType.RESPONSE))
            if not self.service.transport.reading:
                self.stopped += STEP
                if self.quick.leg.outgoing:
                    self.stopped_while_asked += STEP

    def write(self) -> None:
        """What the service has to say is behind what it said before."""
        for edge, session in self.sessions.items():
            if len(self.service.transport.unread) < 8 and session in self.service.leg.streams:
                self.service.stream(session, bytes([edge.id & 0xFF]) * 131_072)

    @property
    def ended(self) -> int:
        return self.world.core.exchange.counters.streams_congested


def test_a_slow_download_does_not_silence_a_service() -> None:
    scene = Scene(slow=1)
    scene.run(40)
    assert scene.ended == 1
    assert scene.answered >= scene.asked - 2
    assert scene.stopped_while_asked <= CAPACITY + 40 * LEAK + 1
    (edge,) = scene.slow
    assert not edge.closed and not scene.service.closed
    edge.transport.unblock()
    scene.world.advance(1)
    assert edge.leg.streams == scene.service.leg.streams == {}
    assert edge.take(f.FrameType.DISMISS) and scene.service.take(f.FrameType.DISMISS)
    data = b"".join(x.data for x in edge.take(p.Stream))
    assert len(data) > MIB and set(data) == {edge.id}
    scene.quick.call(b"m")
    assert scene.service.request()


def test_what_nobody_waits_for_may_take_its_time() -> None:
    scene = Scene(slow=1, calls=False)
    scene.run(60)
    assert scene.ended == 0 and scene.stopped > 30


def test_idle_streams_of_others_wait_for_nothing() -> None:
    scene = Scene(slow=1, calls=False, idle_streams=5)
    scene.run(60)
    assert scene.ended == 0 and scene.stopped > 30


def test_a_stream_in_use_waits() -> None:
    scene = Scene(slow=1, calls=False)
    session, _ = scene.world.stream(scene.service, scene.quick, "1")
    for _ in range(120):
        scene.service.stream(session, b"tick")
        scene.run(STEP)
    assert scene.ended == 1
    assert len(b"".join(x.data for x in scene.quick.take(p.Stream))) >= 4 * 100


def test_many_slow_edges_together_take_no_more_than_two() -> None:
    scene = Scene(slow=12)
    scene.run(60)
    assert scene.stopped_while_asked <= 2 * CAPACITY + 60 * 2 * LEAK + 2
    assert scene.answered >= scene.asked - 3


def test_its_own_calls_are_no_reason_to_end_a_stream() -> None:
    """A download whose request is answered when it is complete."""
    scene = Scene(slow=1, calls=False)
    (edge,) = scene.slow
    edge.call(b"m")
    scene.service.take()
    scene.run(25)
    assert scene.ended == 0 and scene.stopped > 10


def test_who_comes_back_owes_what_it_owed() -> None:
    scene = Scene(slow=1)
    scene.run(20)
    assert scene.ended == 1
    before = scene.stopped_while_asked
    scene.slow[0].cut()
    again = scene.world.edge(100)
    scene.slow = [again]
    scene.sessions = {again: scene.world.stream(scene.service, again, "100")[0]}
    again.transport.block()
    scene.run(20)
    assert scene.ended == 2
    assert scene.stopped_while_asked - before <= 20 * LEAK + 2


@pytest.mark.parametrize("talks", [True, False])
def test_a_service_that_reads_a_stream_no_more_holds_its_edge_up_for_so_long(talks: bool) -> None:
    world = World(
        settings=Settings(write_high_bytes=MIB, write_stall_seconds=20.0), limits=Limits(stream_window_bytes=65_536)
    )
    edge = world.edge(5)
    service = world.service("files", stream_window=65_536)
    other = world.service("other", topics=("t",))
    near, far = world.stream(edge, service, "files")
    if talks:
        edge.publish(b"v", topic="t")
        other.respond(other.message())
    for _ in range(12):
        edge.stream(near, bytes(131_072))
    assert not edge.transport.reading
    edge.publish(b"v", topic="t")
    second = 0
    while second < 30:
        second += 1
        world.advance(1, step=STEP)
        for peer in world.peers:
            peer.send_bare(f.FrameType.HEARTBEAT)
        if edge.transport.reading:
            break
    assert second <= (7 if talks else 21)
    other.respond(other.message())
    assert service.take(f.FrameType.DISMISS)[0].data.error == "receiver congested"
    assert far not in service.leg.streams and not service.closed
    assert sum(len(x.data) for x in service.take(p.Stream)) == 65_536


def test_nothing_is_left_of_it() -> None:
    scene = Scene(slow=3)
    scene.run(10)
    scene.world.everybody_leaves()
    scene.world.check_empty()
    assert scene.world.core.exchange.doors.raw_bytes == 0
