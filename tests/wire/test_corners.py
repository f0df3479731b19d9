"""What happens seldom: late calls, odd transports, the last line of a bound."""

from typing import Any

import pytest
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher

from frontier_tx.wire import body as b
from frontier_tx.wire import frame as f
from frontier_tx.wire import lifting
from frontier_tx.wire.body import ConnData, SessionData
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.events import Closed, SessionFailed
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.protocol import CHUNK
from frontier_tx.wire.states import Role, State
from tests import packets
from tests.wire.ends import CLIENT_ID, End
from tests.wire.test_protocol import HEARTBEAT, Counting, Peer, Socket, World, server, stream

GOODBYE = f.pack(f.DIS_CONN, 9) + f.pack(f.DIS_CONN_ACK, 9, b"\0{}")

# -- the machine ----------------------------------------------------------------------------------------------


def test_garbage_behind_a_complete_goodbye_changes_nothing() -> None:
    end = End.connected(Role.SERVER)
    end.connection._say_goodbye(end.now)
    end.feed(GOODBYE + b"\1\x99" + bytes(12))
    assert [event.reason for event in end.told if isinstance(event, Closed)] == [""]


def test_nothing_is_done_after_the_end() -> None:
    end = End.connected(Role.SERVER)
    session = end.connection.sessions.live[1]
    end.connection.lost()
    due = end.connection.due
    end.connection.reading(False, end.now)
    assert (end.connection.advance(end.now + 100), end.connection.due) == ([], due)
    end.connection.sessions.write(session, b"nobody gets this")
    assert end.sent() == b""


def test_a_session_that_is_refused_while_the_connection_closes_is_told_as_any_other() -> None:
    end = End.connected(Role.CLIENT)
    negotiate_id = end.connection.open_session(b"", "", end.now)
    packet_id = end.connection.sessions.opening[negotiate_id].packet_id
    end.connection.close(end.now)
    ack = packets.SessionAck(packet_id=packet_id, negotiate_id=negotiate_id, data=SessionData(error="no"))
    assert end.feed(packets.encode(ack)) == [SessionFailed(negotiate_id, "no")]


def test_bytes_that_come_while_nothing_is_read_have_no_time_limit() -> None:
    end = End.connected(Role.SERVER)
    end.feed(HEARTBEAT[:5])
    assert end.connection.watch.stall_at == end.now + 20
    end.connection.reading(False, end.now)
    end.feed(HEARTBEAT[5:10])
    assert end.connection.watch.stall_at == float("inf")


def test_an_id_that_is_taken_is_not_given_again() -> None:
    end = End.connected(Role.SERVER)
    first = end.connection.open_session(b"", "", end.now)
    table = end.connection.sessions
    table._ids = iter([first, first + 2, first + 4])
    assert end.connection.open_session(b"", "", end.now) == first + 2


def test_where_credit_is_not_spoken_all_of_a_block_is_sent() -> None:
    end = End.connected(Role.CLIENT)
    session = end.connection.sessions.live[1]
    assert end.connection.sessions.send_stream(session, bytes(5000), most=2000) == 5000
    assert end.sent_types() == ["Stream"] * 3


def test_credit_shows_that_the_opener_is_ready_for_what_is_held() -> None:
    end = End.server(Limits(stream_window_bytes=4096))
    end.feed(packets.encode(packets.Conn(packet_id=7, data=ConnData(stream_window=4096))))
    end.connection.accept(CLIENT_ID, end.now)
    (request,) = end.feed(packets.encode(packets.Session(packet_id=8, flags=packets.ACQUIRE_SESSION_ID)))
    session = end.connection.accept_session(request, end.now)
    end.connection.sessions.send_stream(session, b"early")
    end.sent()
    end.feed(packets.encode(packets.StreamCredit(packet_id=9, session_id=session.id, freed=1)))
    assert end.sent_types() == ["Stream"]


def test_a_type_that_is_none_is_no_packet() -> None:
    with pytest.raises(IllegalPacket, match="type 0x99"):
        packets.decode(f.Frame(0x99, 1, 1, b""))


# -- bodies ---------------------------------------------------------------------------------------------------


def test_a_key_that_no_shape_can_have_is_skipped() -> None:
    assert b.read_message(b'{"%s":1,"KEY":"bQ=="}' % (b"k" * 100)).key == b"m"


def test_of_many_values_with_the_same_key_the_first_few_are_looked_at() -> None:
    many = b",".join(b'"x":{"value":"%b"}' % (b"QQ==" * 300) for _ in range(lifting.TRIES + 2))
    data = b.read_message(b'{%b,"value":"bQ=="}' % many)
    assert data.payload == b"m"


def test_a_string_without_an_end_is_refused() -> None:
    with pytest.raises(IllegalPacket):
        b.read_message(b'{"value":"' + b"QQ" * 5000)


ESCAPED = b"\\u0051" + b"QQQ" + b"QQQQ" * (lifting.ESCAPED_MOST // 4)


def test_more_base64_with_escapes_than_is_read_is_refused_as_too_much() -> None:
    assert b.read_message(b'{"value":"%b"}' % ESCAPED).error is b.UNFIT
    assert b.decode_session(b'{"meta":"%b"}' % ESCAPED).error is b.UNFIT


def test_a_register_that_is_longer_than_what_is_read_has_an_error() -> None:
    assert b.decode_register(b'{"Error":"","x":[%b]}' % (b"1," * 40_000 + b"1")).error is b.UNFIT


# -- the protocol ---------------------------------------------------------------------------------------------


class Plain:
    """A transport that can write and close, and nothing else."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.closed = True


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("how", ["abort", "in order"])
def test_a_transport_needs_no_more_than_write_and_lose_connection(world: World, how: str) -> None:
    peer, transport = Peer(world, Role.SERVER), Plain()
    peer.makeConnection(transport)  # type: ignore[arg-type]
    peer.dataReceived(packets.encode(packets.Conn(packet_id=7)))
    assert transport.written
    if how == "abort":
        peer.abort("enough")
        peer.abort("again")
    else:
        peer.close()
        peer.dataReceived(f.pack_of_session(f.DISMISS_ACK, 9, 1, b"{}") + f.pack_of_session(f.DISMISS, 9, 1, b"{}"))
        peer.dataReceived(GOODBYE)
    assert transport.closed and peer.gone == ["enough" if how == "abort" else ""]


@pytest.mark.parametrize("how", ["abort", "in order"])
def test_one_that_never_had_a_transport_can_be_closed(world: World, how: str) -> None:
    peer = Peer(world, Role.SERVER)
    if how == "abort":
        peer.abort("enough")
    else:
        peer.close()
    assert len(peer.gone) == 1


def test_where_much_waits_the_end_for_a_reason_is_at_once(world: World) -> None:
    peer, transport = server(world)

    def flood(frame: Any) -> None:
        peer.connection.write(stream(bytes(2 * CHUNK)))

    peer.on_frame = flood
    peer.dataReceived(stream(b"go") + b"\1\x99" + bytes(12))
    assert transport.aborted and peer.gone == ["unsupported packet"]


@pytest.fixture
def errors() -> Any:
    found: list[Any] = []

    def observe(event: Any) -> None:
        if "log_failure" in event:
            found.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def late(world: World, peer: Peer) -> None:
    """More comes than one turn works on."""
    ticks = iter(range(1000))
    world.outlet.stopwatch = lambda: float(next(ticks))
    peer.dataReceived(HEARTBEAT * 1000)


def test_a_slice_that_fails_ends_its_connection_alone(world: World, errors: list[Any]) -> None:
    class Failing(Peer):
        def slice_done(self) -> None:
            if self.connection.unread and self._queued:
                raise ValueError("no")

    peer, transport = Failing(world, Role.SERVER), Counting()
    peer.makeConnection(transport)
    peer.dataReceived(packets.encode(packets.Conn(packet_id=7)))
    late(world, peer)
    world.clock.advance(0)
    assert [str(failure.value) for failure in errors] == ["no"]
    assert transport.aborted and peer.gone == ["internal error"]


def test_a_worker_that_fails_is_put_away_and_the_next_one_goes_on(world: World, errors: list[Any]) -> None:
    done = []

    class Worker:
        def __init__(self, name: str) -> None:
            self.name = name

        def go_on(self) -> bool:
            if self.name == "bad":
                raise ValueError("no")
            done.append(self.name)
            return False

    for name in ("bad", "good"):
        world.outlet.later(Worker(name))
    world.clock.advance(0)
    assert done == ["good"] and len(errors) == 1


def test_one_that_is_stopped_in_the_last_slice_of_its_rest_is_not_read_from(world: World) -> None:
    peer, transport = server(world)
    peer.connection.reader.limit = f.DEFAULT_BODY_LIMIT
    ticks = iter(range(1000))
    world.outlet.stopwatch = lambda: float(next(ticks))
    seen: list[Any] = []

    def stop(frame: Any) -> None:
        seen.append(frame)
        if len(seen) == 80:
            peer.pause_reading()

    peer.on_frame = stop
    peer.dataReceived(f.pack_of_session(f.REGISTER, 3, 1, b"m") * 80)
    world.clock.advance(0)
    assert len(seen) == 80 and transport.producerState == "paused"
    peer.resume_reading()
    assert transport.producerState == "producing"


def test_a_socket_of_which_much_is_read_is_read_in_larger_pieces(world: World) -> None:
    peer, socket = Peer(world, Role.SERVER), Socket(1 << 20)
    peer.makeConnection(socket)
    peer.dataReceived(packets.encode(packets.Conn(packet_id=7)))
    before = socket.bufferSize
    peer.dataReceived(stream(bytes(before)))
    assert socket.bufferSize == 2 * before


def test_the_transport_of_a_test_is_as_good_as_any(world: World) -> None:
    peer, transport = Peer(world, Role.SERVER), StringTransport()
    peer.makeConnection(transport)
    peer.dataReceived(packets.encode(packets.Conn(packet_id=7)))
    assert peer.connection.state is State.CONNECTED and transport.value()
