"""Peers that do not take what is sent to them, and things that are too large."""

import pytest

from frontier_tx.gateway.protocols import BURST, BUSY, OWN_SHARE
from frontier_tx.switch.settings import Settings
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import LARGE_BODY
from frontier_tx.wire.outlet import PAUSE
from frontier_tx.wire.protocol import CHUNK
from tests import packets as p

from .world import World

MIB = 1 << 20


def beat(world: World, seconds: float) -> None:
    """Let time pass with heartbeats."""
    for _ in range(round(seconds)):
        world.advance(1, step=0.25)
        for peer in world.peers:
            if not peer.closed:
                peer.send_bare(f.FrameType.HEARTBEAT)


def tail(edge_id: int) -> bytes:
    return edge_id.to_bytes(8)


def test_a_streams_sender_is_not_read_from_until_its_receiver_caught_up() -> None:
    world = World(settings=Settings(write_high_bytes=10_000))
    edge, service, other = world.edge(5), world.service("files"), world.edge(6)
    near, _ = world.stream(edge, service, "files")
    service.transport.block()
    for _ in range(4):
        edge.stream(near, bytes(6000))
    assert not edge.transport.reading
    assert other.transport.reading
    assert world.core.exchange.counters.throttled == 1
    service.transport.unblock()
    assert edge.transport.reading
    assert sum(len(x.data) for x in service.take(p.Stream)) == 24_000
    assert service.leg.congesting == set()


def test_a_sender_goes_on_when_its_receiver_has_taken_a_part() -> None:
    world = World(settings=Settings(write_high_bytes=4 * MIB))
    edge, service = world.edge(5), world.service("files")
    near, _ = world.stream(edge, service, "files")
    service.transport.block()
    for _ in range(6):
        edge.stream(near, bytes(MIB))
    assert not edge.transport.reading
    waiting = world.core.exchange.doors
    unsent = waiting.raw_bytes + service.protocol.unsent
    while not edge.transport.reading:
        service.transport.unblock_once()
    left = waiting.raw_bytes + service.protocol.unsent
    assert unsent - left <= 4 * MIB + CHUNK
    assert left > 2 * MIB


def test_a_receiver_that_goes_on_may_stop_a_sender_for_whom_nobody_waits() -> None:
    """Section 17, item 4: it takes something now and then, and is not dropped for taking little."""
    world = World(settings=Settings(write_high_bytes=MIB, write_stall_seconds=10.0))
    edge, service = world.edge(5), world.service("files")
    near, _far = world.stream(service, edge, "5")
    edge.transport.block()
    for number in range(24):
        service.stream(near, bytes([number]) * MIB)
    assert not service.transport.reading
    for _ in range(60):
        beat(world, 2)
        edge.transport.unblock_once()
    assert not edge.closed
    edge.transport.unblock()
    beat(world, 2)
    assert service.transport.reading
    came = b"".join(x.data for x in edge.take(p.Stream))
    assert came == b"".join(bytes([number]) * MIB for number in range(24))
    assert world.core.exchange.counters.streams_congested == 0
    world.everybody_leaves()
    world.check_empty()


@pytest.mark.parametrize("end", ["receiver", "sender", "stream"])
def test_whoever_was_stopped_goes_on_when_either_side_ends(end: str) -> None:
    world = World(settings=Settings(write_high_bytes=10_000))
    edge, service, other = world.edge(5), world.service("files"), world.service("other")
    near, far = world.stream(edge, service, "files")
    service.transport.block()
    for _ in range(4):
        edge.stream(near, bytes(6000))
    assert not edge.transport.reading
    match end:
        case "receiver":
            service.cut()
            assert edge.transport.reading
            edge.call(b"m")
            assert edge.response()
        case "sender":
            edge.cut()
        case "stream":
            service.dismiss(far)
            service.transport.unblock()
            assert edge.transport.reading
    assert service.leg.congesting == set()
    world.everybody_leaves()
    world.check_empty()
    assert other.closed


def test_a_slow_receiver_delays_nobody_else() -> None:
    """Section 17, item 4."""
    world = World()
    slow, quick, service = world.edge(5), world.edge(6), world.service(methods=(b"m",))
    slow.transport.block()
    for _ in range(50):
        service.publish(bytes(10_000), custom=tail(5))
    service.call(b"m", custom=tail(6))
    quick.respond(quick.request(), b"r")
    assert service.response().data.payload == b"r"
    quick.call(b"m")
    assert service.request()


def test_calls_and_messages_to_a_congested_receiver_are_refused() -> None:
    world = World(settings=Settings(write_buffer_bytes=50_000))
    edge, service = world.edge(5), world.service()
    edge.transport.block()
    for _ in range(20):
        service.publish(bytes(9000), custom=tail(5))
    refused = service.take(f.FrameType.MESSAGE_ACK)
    assert {x.data.error for x in refused} == {"receiver congested"}
    service.call(b"m", bytes(9000), custom=tail(5))
    assert service.response().data.error == "receiver congested"
    assert edge.protocol.unsent < 70_000
    edge.transport.unblock()
    assert len(edge.take(f.FrameType.MESSAGE)) == 20 - len(refused)
    service.call(b"m", custom=tail(5))
    assert edge.request()


def test_a_receiver_that_takes_nothing_is_dropped_and_its_askers_are_told() -> None:
    world = World(settings=Settings(write_stall_seconds=10.0))
    edge, service = world.edge(5), world.service()
    edge.transport.block()
    service.publish(b"v", custom=tail(5))
    for _ in range(2):
        world.advance(5.1)
        edge.send_bare(f.FrameType.HEARTBEAT)
    assert edge.transport.aborted
    assert service.message_ack().data.error == "force closed"
    service.cut()
    world.advance(1)
    world.check_empty()


@pytest.mark.parametrize("answer", [(bytes(9000), ""), (b"", "x" * 9000)], ids=["value", "error"])
def test_an_asker_that_does_not_take_its_answers_has_errors_instead_of_large_ones(answer: tuple[bytes, str]) -> None:
    world = World(settings=Settings(write_buffer_bytes=50_000))
    edge, service = world.edge(5), world.service(methods=(b"m",))
    for _ in range(20):
        edge.call(b"m")
    edge.transport.block()
    for request in service.take():
        service.respond(request, *answer)
    assert edge.leg.waiting_bytes + edge.protocol.unsent < 50_000
    assert service.transport.reading
    edge.transport.unblock()
    answers = edge.take(f.FrameType.RESPONSE)
    assert len(answers) == 20
    assert {x.data.error for x in answers} == {answer[1], "receiver congested"}
    world.everybody_leaves()
    world.check_empty()


def largest(custom: int) -> int:
    """Largest value of a Request with method ``m`` that fits into 10 MiB, by the forms of its parts."""
    fixed = len(
        b'{"key":"bQ==","value":"","custom":"","deadline":"2026-11-24T00:00:00.123456Z",'
        b'"context":{"deadline":"0001-01-01T00:00:00Z"}}'
    )
    return (f.DEFAULT_BODY_LIMIT - 8 - fixed - (custom + 2) // 3 * 4) // 4 * 3


def test_payload_limits_of_peers_that_declare_nothing() -> None:
    world = World()
    edge, service = world.edge(5), world.service("s", ("t",), (b"m",))
    value = bytes(largest(8))
    edge.call(b"m", value)
    request = service.request()
    assert request.data.payload == value
    service.respond(request, value)
    assert edge.response().data.payload == value
    # It still fits where it comes from, but not with the edge's id and the deadline on its way on.
    edge.call(b"m", bytes(len(value) + 18))
    assert edge.response().data.error == "packet payload too large"
    edge.publish(bytes(len(value) + 18), topic="t")
    assert edge.message_ack().data.error == "packet payload too large"
    service.nothing()
    assert not edge.closed
    edge.call(b"m", bytes(len(value) + 300))
    world.advance(0.1)
    assert edge.closed


def test_payload_limits_of_peers_that_take_more() -> None:
    limit = 16 * MIB
    world = World()
    edge, plain = world.edge(5, frame_limit=limit), world.edge(6)
    service = world.service(methods=(b"m",), frame_limit=limit)
    value = bytes(10 * MIB)
    edge.call(b"m", value)
    request = service.request()
    assert len(request.data.payload) == len(value)
    service.respond(request, value)
    assert len(edge.response().data.payload) == len(value)
    service.call(b"m", value, custom=tail(6))
    assert service.response().data.error == "packet payload too large"
    plain.nothing()
    service.call(b"m", b"small", custom=tail(6))
    assert plain.request()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((bytes(9 * MIB), ""), "packet payload too large"),
        ((b"", "x" * 12 * MIB), "too much beside the payload"),
        ((bytes(9 * MIB), "why"), "why"),
    ],
    ids=["value", "error", "both"],
)
def test_an_answer_that_is_too_large_for_the_asker_is_an_error(answer: tuple[bytes, str], said: str) -> None:
    world = World()
    plain, service = world.edge(6), world.service(methods=(b"m",), frame_limit=16 * MIB)
    plain.call(b"m")
    service.respond(service.request(), *answer)
    assert plain.response().data.error == said


def test_raw_blocks_of_any_size_pass_streams_to_the_byte() -> None:
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, _ = world.stream(edge, service, "files")
    block = bytes(range(256)) * 40_959
    edge.stream(near, block)
    assert b"".join(x.data for x in service.take(p.Stream)) == block


@pytest.mark.parametrize("size", [0, LARGE_BODY - 200, LARGE_BODY, 4 * LARGE_BODY])
def test_values_on_either_side_of_the_large_form_arrive_whole(size: int) -> None:
    world = World()
    edge, service = world.edge(5), world.service(methods=(b"m",))
    value = bytes(n % 251 for n in range(size))
    edge.call(b"m", value)
    request = service.request()
    assert request.data.payload == value
    service.respond(request, value)
    assert edge.response().data.payload == value


def test_a_peer_that_stops_inside_a_frame_is_dropped_and_holds_nobody_up() -> None:
    world = World()
    edge, service = world.edge(5), world.service(methods=(b"m",))
    edge.raw(f.HEADER.pack(1, f.REQUEST, 1, 1000) + bytes(100))
    other = world.edge(6)
    other.call(b"m")
    assert service.request()
    world.advance(20.1)
    assert edge.closed
    assert not service.closed


def test_the_silence_of_a_peer_that_is_not_read_from_does_not_count() -> None:
    world = World(settings=Settings(write_high_bytes=10_000, write_stall_seconds=300.0))
    edge, service = world.edge(5), world.service("files")
    near, _ = world.stream(edge, service, "files")
    service.transport.block()
    for _ in range(4):
        edge.stream(near, bytes(5000))
    edge.raw(f.SESSION_HEADER.pack(1, f.STREAM, 1, 8108, near) + bytes(8050))
    assert not edge.transport.reading
    for _ in range(25):
        world.advance(5)
        service.send_bare(f.FrameType.HEARTBEAT)
    assert not edge.closed
    service.transport.unblock()
    assert edge.transport.reading
    edge.raw(bytes(50))
    assert sum(len(x.data) for x in service.take(p.Stream)) == 28_100
    world.advance(41)
    assert edge.closed


@pytest.mark.parametrize("ask", ["call", "message", "register", "session", "heartbeat"])
def test_a_peer_that_goes_on_asking_and_takes_nothing_is_not_read_from(ask: str) -> None:
    most = 20_000
    world = World(settings=Settings(write_buffer_bytes=OWN_SHARE * most))
    edge, other = world.edge(5), world.edge(6)
    edge.polite = False
    edge.transport.block()
    for _ in range(100_000):
        if not edge.transport.reading:
            break
        match ask:
            case "call":
                edge.call(b"nobody")
            case "message":
                edge.publish(topic="nobody")
            case "register":
                edge.register(b"m")
            case "session":
                edge.open("nobody")
            case "heartbeat":
                edge.send_bare(f.FrameType.HEARTBEAT)
    assert not edge.transport.reading
    assert most < edge.protocol.unsent < 2 * most
    assert other.transport.reading
    edge.transport.unblock()
    assert edge.transport.reading and not edge.closed
    world.everybody_leaves()
    world.check_empty()


def test_edges_are_refused_while_the_control_service_is_congested() -> None:
    world = World(settings=Settings(write_buffer_bytes=20_000))
    service = world.service(methods=(b"get_edge_id", b"edge_offline"))
    service.transport.block()
    edges = [world.connect(world.core.edges) for _ in range(40)]
    for edge in edges:
        edge.conn(bytes(3000))
    refused = [edge.one(p.ConnAck).data.error for edge in edges if edge.inbox]
    assert set(refused) == {"receiver congested"}
    assert 0 < len(refused) < 40
    service.transport.unblock()
    last = world.connect(world.core.edges)
    last.conn(b"meta")
    service.respond(service.take(f.FrameType.REQUEST)[-1], (9).to_bytes(8))
    assert last.one(p.ConnAck).client_id == 9


def test_who_has_much_under_way_gets_it_in_bursts() -> None:
    world = World(settings=Settings(edge_calls=1000))
    edge, service = world.edge(5), world.service()
    frames = [service.call_frame(b"m", custom=tail(5)) for _ in range(BUSY + 3 * BURST)]
    service.raw(b"".join(frames[:BUSY]))
    assert len(edge.take()) == BUSY
    service.raw(b"".join(frames[BUSY:]))
    for _ in range(3):
        assert len(edge.take()) == BURST
        world.clock.advance(PAUSE)
    assert edge.leg.connection.outbox == []
    world.everybody_leaves()
    world.check_empty()
