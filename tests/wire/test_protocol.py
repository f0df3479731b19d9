"""The Twisted edge: what it writes when, what a full or silent transport does to it, and how it ends."""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection as TCPConnection
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface.verify import verifyObject

from frontier_tx.timers import Alarms
from frontier_tx.wire import frame as f
from frontier_tx.wire import gojson, toll
from frontier_tx.wire.body import read_message
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.events import ConnAccepted, ConnReceived, HeartbeatReceived, SessionOpened, SessionRequested
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import PAUSE, Outlet
from frontier_tx.wire.protocol import CHUNK, WireProtocol
from frontier_tx.wire.states import Role
from tests import packets
from tests.wire.ends import types_of

CONN = packets.encode(packets.Conn(packet_id=7))


class Peer(WireProtocol):
    """Accepts everybody and notes what it is told."""

    def __init__(self, world: "World", role: Role, limits: Limits | None = None) -> None:
        super().__init__(role, world.alarms, world.outlet, limits)
        self.events: list[Any] = []
        self.frames: list[Any] = []
        self.gone: list[str] = []
        self.on_frame: Callable[[Any], None] = self.frames.append

    def connection_ready(self) -> None:
        if self.connection.role is Role.CLIENT:
            self.connection.connect()

    def frame_received(self, frame: Any) -> None:
        self.on_frame(frame)

    def event_received(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, ConnReceived):
            self.connection.accept(42, self.alarms.now())
        elif isinstance(event, SessionRequested):
            self.connection.accept_session(event, self.alarms.now())

    def connection_gone(self, reason: str) -> None:
        self.gone.append(reason)


class World:
    """A clock, and what a process has one of."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(50.0)
        self.alarms = Alarms(self.clock)
        # Nothing takes any time: how fast the machine is makes no difference.
        self.outlet = Outlet(self.clock, lambda: 0.0)


class Counting(StringTransport):
    """Keeps each write apart, and says whether it was aborted."""

    aborted = False

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def abortConnection(self) -> None:
        self.aborted = True

    def take(self) -> bytes:
        data = b"".join(self.writes)
        self.writes.clear()
        return data


class Socket(TCPConnection):
    """A TCP transport whose kernel takes as many bytes as the test says."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.connected = 1
        self.taken = b""
        self.waiting = b""
        self.sizes: list[int] = []
        self.aborted = False
        self.losing = False
        self.client: Any = None

    def setTcpNoDelay(self, enabled: bool) -> None: ...
    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def writeSomeData(self, data: bytes) -> int | BaseException:
        self.sizes.append(len(data))
        if self.room < 0:
            return CONNECTION_LOST
        sent = min(self.room, len(data))
        self.room -= sent
        self.taken += bytes(data[:sent])
        return sent

    def write(self, data: bytes) -> None:
        self.waiting += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert not streaming
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self, _connDone: Any = None) -> None:
        self.losing = True

    def abortConnection(self) -> None:
        self.aborted = True

    def drain(self, room: int) -> None:
        """The kernel takes what waits and then as much more."""
        self.taken += self.waiting
        self.waiting = b""
        self.room = room
        self.producer.resumeProducing()


@pytest.fixture
def world() -> World:
    return World()


def server(world: World, limits: Limits | None = None) -> tuple[Peer, Counting]:
    """A server with one connected client."""
    peer, transport = Peer(world, Role.SERVER, limits), Counting()
    peer.makeConnection(transport)
    peer.dataReceived(CONN)
    assert types_of(transport.take()) == ["ConnAck"]
    return peer, transport


def stream(data: bytes) -> bytes:
    return f.pack_of_session(f.STREAM, 3, 1, data)


def carried(transport: Counting) -> bytes:
    """The bytes of all streams in what was written."""
    return b"".join(frame.body for frame in f.FrameReader().feed(transport.take()))


HEARTBEAT = f.pack(f.HEARTBEAT, 5)


def test_what_is_read_at_a_time_follows_what_is_in_it(world: World) -> None:
    peer, socket = Peer(world, Role.SERVER), Socket(1 << 20)
    peer.makeConnection(socket)
    peer.dataReceived(CONN)
    sizes = []
    for data in (
        *(HEARTBEAT * 500 for _ in range(5)),
        HEARTBEAT * 200,
        HEARTBEAT,
        *(stream(bytes(1 << size)) for size in (12, 13, 14, 15, 16, 17, 18)),
    ):
        peer.dataReceived(data)
        sizes.append(socket.bufferSize >> 10)
    assert sizes == [32, 16, 8, 4, 4, 4, 4, 8, 16, 32, 64, 128, 256, 256]


# -- writing --------------------------------------------------------------------------------------------------


def test_the_answers_of_one_turn_are_one_write(world: World) -> None:
    peer, transport = server(world)
    peer.dataReceived(HEARTBEAT * 5)
    assert len(transport.writes) == 1
    assert types_of(transport.take()) == ["HeartbeatAck"] * 5


def test_what_one_connection_causes_on_others_leaves_in_the_same_turn(world: World) -> None:
    sender, _ = server(world)
    others = [server(world) for _ in range(3)]

    def spread(frame: Any) -> None:
        for other, _ in others:
            other.connection.write(stream(frame.body))

    sender.on_frame = spread
    sender.dataReceived(stream(b"1") + stream(b"2"))
    assert [len(transport.writes) for _, transport in others] == [1, 1, 1]
    assert all(types_of(transport.take()) == ["Stream", "Stream"] for _, transport in others)


def test_output_outside_a_turn_leaves_in_the_next_one_together(world: World) -> None:
    peer, transport = server(world)
    for _ in range(4):
        peer.connection.write(stream(b"x"))
    assert transport.writes == []
    world.clock.advance(0)
    assert len(transport.writes) == 1


def test_bursts_are_a_pause_apart(world: World) -> None:
    peer, transport = server(world)
    peer.burst = lambda: 4  # type: ignore[method-assign]
    for number in range(10):
        peer.connection.write(stream(b"%d" % number))
    world.clock.advance(0)
    sent = []
    while transport.writes:
        sent.append(carried(transport))
        assert peer.unsent == 23 * (10 - len(b"".join(sent)))
        world.clock.advance(PAUSE / 2)
        assert transport.writes == []
        world.clock.advance(PAUSE / 2)
    assert sent == [b"0123", b"4567", b"89"]


def test_what_is_left_of_a_burst_arrives_before_the_end(world: World) -> None:
    peer, transport = server(world)
    peer.burst = lambda: 4  # type: ignore[method-assign]
    for number in range(10):
        peer.connection.write(stream(b"%d" % number))
    world.clock.advance(0)
    peer.dataReceived(b"\x01\x99" + bytes(12))
    assert transport.disconnecting
    assert carried(transport) == b"0123456789"
    world.clock.advance(PAUSE)
    assert transport.writes == []


def test_of_a_very_long_queue_more_is_taken_at_once(world: World) -> None:
    connection = server(world)[0].connection
    for _ in range(5120):
        connection.write(b"x")
    assert len(connection.take_output(4)) == 20
    assert connection.outbox_bytes == 5100


def test_a_full_transport_gets_nothing_until_it_asks(world: World) -> None:
    peer, transport = server(world)
    assert transport.producer is peer and transport.streaming
    peer.pauseProducing()
    peer.dataReceived(HEARTBEAT)
    assert transport.writes == [] and peer.unsent == 14 and not peer.idle
    peer.dataReceived(HEARTBEAT)
    peer.resumeProducing()
    assert types_of(transport.take()) == ["HeartbeatAck", "HeartbeatAck"] and peer.unsent == 0


def test_a_large_output_is_handed_over_in_chunks(world: World) -> None:
    peer, transport = server(world)
    whole = stream(bytes(3 * CHUNK))
    peer.connection.write(whole)
    world.clock.advance(0)
    assert max(len(data) for data in transport.writes) <= CHUNK
    assert transport.take() == whole


def test_it_stops_in_the_middle_of_a_large_output(world: World) -> None:
    peer, _ = server(world)
    whole = stream(bytes(range(256)) * (CHUNK // 64))

    class Filling(Counting):
        def write(self, data: bytes) -> None:
            super().write(data)
            peer.pauseProducing()

    peer.transport = filling = Filling()
    peer.connection.write(whole)
    world.clock.advance(0)
    assert len(filling.writes) == 1 and peer.unsent == len(whole) - CHUNK
    while peer.unsent:
        peer.resumeProducing()
    assert filling.take() == whole


# -- a socket of our own writing ----------------------------------------------------------------------------------


def on_socket(world: World, room: int) -> tuple[Peer, Socket]:
    peer, socket = Peer(world, Role.SERVER), Socket(10**6)
    peer.makeConnection(socket)  # type: ignore[arg-type]
    peer.dataReceived(CONN)
    socket.taken, socket.room = b"", room
    socket.sizes.clear()
    return peer, socket


def test_a_socket_is_written_to_at_once(world: World) -> None:
    peer, socket = on_socket(world, 10**6)
    peer.dataReceived(HEARTBEAT)
    assert types_of(socket.taken) == ["HeartbeatAck"] and peer.idle


def test_what_a_socket_does_not_take_goes_the_usual_way_and_the_rest_waits(world: World) -> None:
    peer, socket = on_socket(world, 10)
    peer.dataReceived(HEARTBEAT)
    assert (len(socket.taken), len(socket.waiting)) == (10, 4) and not peer.idle
    peer.dataReceived(HEARTBEAT)
    assert peer.unsent == 14 and len(socket.sizes) == 1
    socket.drain(10**6)
    assert types_of(socket.taken) == ["HeartbeatAck", "HeartbeatAck"] and peer.idle


def test_a_socket_is_given_large_output_in_chunks(world: World) -> None:
    peer, socket = on_socket(world, CHUNK + 100)
    whole = stream(bytes(3 * CHUNK))
    peer.connection.write(whole)
    world.clock.advance(0)
    assert socket.sizes == [CHUNK, CHUNK] and not peer.idle
    socket.drain(10**7)
    assert socket.taken == whole and peer.unsent == 0


def test_a_failed_send_is_left_to_the_reactor(world: World) -> None:
    peer, socket = on_socket(world, -1)
    peer.dataReceived(HEARTBEAT)
    assert len(socket.waiting) == 14 and peer.gone == []
    peer.connectionLost(Failure(ConnectionLost()))
    assert len(peer.gone) == 1


def test_it_is_a_producer_of_both_kinds(world: World) -> None:
    peer, _ = server(world)
    assert verifyObject(IPushProducer, peer) and verifyObject(IPullProducer, peer)


# -- peers that do not take, or do not send -------------------------------------------------------------------------


def test_a_peer_that_takes_nothing_is_dropped(world: World) -> None:
    peer, transport = server(world)
    peer.pauseProducing()
    peer.connection.write(stream(b"x"))
    world.clock.advance(29.0)
    peer.dataReceived(HEARTBEAT)
    assert peer.gone == []
    world.clock.advance(1.5)
    assert peer.gone == ["timeout: the peer does not take what is sent to it"] and transport.aborted
    assert len(world.alarms) == 0
    peer.connectionLost(Failure(ConnectionLost()))
    assert len(peer.gone) == 1


def test_a_slow_peer_that_takes_something_is_kept(world: World) -> None:
    peer, socket = on_socket(world, 0)
    peer.connection.write(stream(bytes(10 * CHUNK)))
    world.clock.advance(0)
    for _ in range(5):
        world.clock.advance(25.0)
        peer.dataReceived(HEARTBEAT)
        assert peer.gone == []
        socket.drain(0)
    world.clock.advance(30.5)
    assert socket.aborted and len(peer.gone) == 1


def test_nobody_speaks(world: World) -> None:
    peer, transport = Peer(world, Role.SERVER), Counting()
    peer.makeConnection(transport)
    world.clock.advance(10.1)
    assert peer.gone == ["timeout: no handshake"] and transport.disconnecting
    peer.connectionLost(Failure(ConnectionDone()))
    assert len(world.alarms) == 0


def test_heartbeats_leave_by_the_clock(world: World) -> None:
    peer, transport = Peer(world, Role.CLIENT), Counting()
    peer.makeConnection(transport)
    world.clock.advance(0)
    (conn,) = packets_of(transport)
    peer.dataReceived(packets.encode(packets.ConnAck(packet_id=conn.packet_id, client_id=3)))
    assert [type(event) for event in peer.events] == [ConnAccepted]
    world.clock.advance(20.02)
    assert types_of(transport.take()) == ["Heartbeat"]


def packets_of(transport: Counting) -> list[Any]:
    reader = f.FrameReader()
    return [packets.decode(frame) for frame in reader.feed(transport.take())]


def test_the_clients_conn_leaves_in_the_next_turn() -> None:
    world = World()
    peer, transport = Peer(world, Role.CLIENT), Counting()
    peer.makeConnection(transport)
    world.clock.advance(0)
    assert types_of(transport.take()) == ["Conn"]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_reading_resumes_when_everybody_who_paused_it_agrees(world: World) -> None:
    peer, transport = server(world)
    peer.pause_reading()
    peer.pause_reading()
    assert transport.producerState == "paused"
    peer.resume_reading()
    assert transport.producerState == "paused"
    peer.resume_reading()
    assert transport.producerState == "producing"


def test_a_peer_that_is_paused_in_the_middle_of_a_frame_is_not_dropped(world: World) -> None:
    peer, transport = server(world)
    peer.dataReceived(HEARTBEAT + stream(b"abc")[:20])
    peer.pause_reading()
    world.clock.advance(200.0)
    assert peer.gone == []
    peer.resume_reading()
    peer.dataReceived(stream(b"abc")[20:])
    assert [frame.body for frame in peer.frames] == [b"abc"]
    world.clock.advance(39.0)
    assert peer.gone == [] and types_of(transport.take()) == ["HeartbeatAck"]
    world.clock.advance(2.0)
    assert types_of(transport.take()) == ["DisConn"]


def test_pausing_after_the_end_touches_nothing(world: World) -> None:
    peer, transport = server(world)
    peer.abort("enough")
    peer.pause_reading()
    peer.resume_reading()
    assert transport.producerState == "producing" and len(world.alarms) == 0


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_hook_that_finds_a_bad_body_ends_the_connection(world: World) -> None:
    peer, transport = server(world)

    def refuse(frame: Any) -> None:
        peer.frames.append(frame)
        raise IllegalPacket("no")

    peer.on_frame = refuse
    peer.dataReceived(stream(b"1") + stream(b"2"))
    assert peer.gone == ["illegal packet: no"] and transport.aborted and len(peer.frames) == 1


def test_a_hook_that_fails_ends_its_connection_and_no_other(world: World) -> None:
    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        peer, transport = server(world)
        other, kept = server(world)
        peer.on_frame = lambda frame: {}[frame.type]
        peer.dataReceived(stream(b"1"))
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert peer.gone == ["internal error"] and transport.aborted
    assert [event["log_failure"].type for event in logged if "log_failure" in event] == [KeyError]
    other.dataReceived(HEARTBEAT)
    assert types_of(kept.take()) == ["HeartbeatAck"] and other.gone == []


def test_a_transport_that_fails_to_write_harms_nobody_else_in_the_turn(world: World) -> None:
    sender, _ = server(world)
    broken, _ = server(world)
    other, kept = server(world)

    class Broken(Counting):
        def write(self, data: bytes) -> None:
            raise OSError("no")

    broken.transport = Broken()

    def spread(frame: Any) -> None:
        broken.connection.write(stream(b"x"))
        other.connection.write(stream(b"x"))

    sender.on_frame = spread
    sender.dataReceived(stream(b"1"))
    assert types_of(kept.take()) == ["Stream"]


def test_an_end_that_cannot_be_worked_on_is_an_end(world: World) -> None:
    peer, _ = server(world)
    peer.gone = None  # type: ignore[assignment]
    peer.connectionLost(Failure(ConnectionDone()))
    assert peer.connection.closed and not peer.connection.sessions.live and len(world.alarms) == 0


def test_nothing_is_told_after_the_end(world: World) -> None:
    peer, _ = server(world)

    def once(frame: Any) -> None:
        peer.frames.append(frame)
        peer.abort("enough")

    peer.on_frame = once
    peer.dataReceived(stream(b"1") + stream(b"2") + HEARTBEAT)
    peer.dataReceived(HEARTBEAT)
    assert len(peer.frames) == 1 and peer.gone == ["enough"]
    assert not any(isinstance(event, HeartbeatReceived) for event in peer.events)


@pytest.mark.parametrize(
    ("why", "text"), [(ConnectionDone(), "the peer closed the connection"), (ConnectionLost("cut"), "cut")]
)
def test_a_loss_is_told_once_with_its_reason(world: World, why: Exception, text: str) -> None:
    peer, _ = server(world)
    peer.connectionLost(Failure(why))
    peer.connectionLost(Failure(why))
    assert len(peer.gone) == 1 and text in peer.gone[0]
    assert len(world.alarms) == 0 and not peer.connection.sessions.live


def test_a_bad_frame_is_told_with_its_reason_after_what_came_before(world: World) -> None:
    peer, transport = server(world)
    peer.dataReceived(HEARTBEAT + b"\x01\x99" + bytes(12))
    assert peer.gone == ["unsupported packet"] and transport.disconnecting
    assert types_of(transport.take()) == ["HeartbeatAck"]


def test_a_transport_that_does_not_close_is_aborted(world: World) -> None:
    """TLS waits for the other side's goodbye without bound."""
    peer, transport = server(world)
    peer.dataReceived(b"\x01\x99" + bytes(12))
    assert transport.disconnecting and not transport.aborted
    world.clock.advance(4.9)
    assert not transport.aborted
    world.clock.advance(0.2)
    assert transport.aborted
    peer.connectionLost(Failure(ConnectionLost()))
    assert peer.gone == ["unsupported packet"] and len(world.alarms) == 0


def test_an_orderly_end_towards_a_full_transport_is_an_abort(world: World) -> None:
    peer, transport = server(world)
    peer.pauseProducing()
    peer.close()
    for _ in range(2):
        world.clock.advance(5.1)
    assert len(peer.gone) == 1 and transport.aborted and len(world.alarms) == 0


# -- two ends in memory ---------------------------------------------------------------------------------------


def pair(world: World) -> tuple[Peer, Peer, IOPump]:
    client, waiter = Peer(world, Role.CLIENT), Peer(world, Role.SERVER)
    pump = connect(
        waiter, FakeTransport(waiter, isServer=True), client, FakeTransport(client, isServer=False), greet=False
    )
    settle(world, pump)
    assert client.connection.connected and waiter.connection.connected
    return client, waiter, pump


def settle(world: World, pump: IOPump) -> None:
    for _ in range(30):
        world.clock.advance(0)
        pump.pump()


def test_the_last_frames_arrive_before_an_orderly_end(world: World) -> None:
    client, waiter, pump = pair(world)
    sent = b"".join(bytes((n,)) * 5000 for n in range(100))
    for n in range(100):
        client.connection.write(stream(bytes((n,)) * 5000))
    client.close()
    settle(world, pump)
    assert b"".join(frame.body for frame in waiter.frames) == sent
    assert client.gone == waiter.gone == [""]
    assert len(world.alarms) == 0


@pytest.mark.parametrize("who", [0, 1])
def test_either_side_may_close(world: World, who: int) -> None:
    client, waiter, pump = pair(world)
    (client, waiter)[who].close()
    settle(world, pump)
    assert client.gone == waiter.gone == [""] and len(world.alarms) == 0


def test_both_sides_close_at_once(world: World) -> None:
    client, waiter, pump = pair(world)
    client.close()
    waiter.close()
    settle(world, pump)
    assert client.gone == waiter.gone == [""]


def test_a_session_between_two_ends(world: World) -> None:
    client, waiter, pump = pair(world)
    client.connection.open_session(b"m", "peer", world.alarms.now())
    settle(world, pump)
    (opened,) = [event for event in client.events if isinstance(event, SessionOpened)]
    accepted = waiter.connection.sessions.live[opened.session.id]
    assert (accepted.meta, accepted.peer) == (b"m", "peer")
    waiter.connection.sessions.write(accepted, f.pack_of_session(f.STREAM, 1, accepted.id, b"hello"))
    settle(world, pump)
    assert client.frames == []
    world.clock.advance(0.03)
    settle(world, pump)
    assert [frame.body for frame in client.frames] == [b"hello"]


ODD = f.pack_of_session(f.MESSAGE, 7, 1, b'{"zzz":[' + b"0," * 25_000 + b'0],"value":"YQ=="}')


def test_who_sends_much_odd_json_is_not_read_from_for_what_it_cost(world: World) -> None:
    gojson.METER.spent = 0
    peer, transport = server(world)
    other, others = server(world)
    peer.on_frame = lambda frame: read_message(frame.body)
    for _ in range(toll.AT_ONCE // len(ODD)):
        peer.dataReceived(ODD)
        assert transport.producerState == "producing"
    peer.dataReceived(ODD)
    assert transport.producerState == "paused" and others.producerState == "producing"
    assert world.outlet.odd_json_stops == 1 and gojson.METER.spent == 0
    # What was at hand all the same is paid for too.
    peer.dataReceived(ODD)
    world.clock.pump([0.05])
    assert transport.producerState == "paused" and world.outlet.odd_json_stops == 1
    world.clock.pump([0.05] * 10)
    assert transport.producerState == "producing"
    for _ in range(5):
        peer.dataReceived(ODD)
    assert transport.producerState == "paused" and world.outlet.odd_json_stops == 2
    peer.abort("enough")
    world.clock.pump([1.0] * 10)
    other.dataReceived(HEARTBEAT)
    assert types_of(others.take()) == ["HeartbeatAck"]


def test_small_odd_bodies_now_and_then_cost_nothing(world: World) -> None:
    peer, transport = server(world)
    peer.on_frame = lambda frame: read_message(frame.body)
    small = f.pack_of_session(f.MESSAGE, 7, 1, b'{"Value":"YQ==","trace":"0123456789"}')
    for _ in range(1000):
        peer.dataReceived(small * 4)
        world.clock.advance(0.01)
    assert transport.producerState == "producing" and world.outlet.odd_json_stops == 0
