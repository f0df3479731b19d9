"""What one peer sends, or does not take, is nobody else's loss: turns by sender, shares of what may wait, a budget."""

from typing import Any

import pytest

from frontier_tx.switch.budget import LIGHT, PENDING_BYTES, Budget
from frontier_tx.switch.doors import QUANTUM
from frontier_tx.switch.forwarding import REPEATED_METHOD
from frontier_tx.switch.settings import Settings
from frontier_tx.switch.window import ALWAYS, PATIENCE
from frontier_tx.wire import frame as f
from frontier_tx.wire.protocol import CHUNK
from tests import packets as p

from .world import Peer, World

MIB = 1 << 20
#: Its JSON has some 10.4 MB, close to what a peer takes that declares nothing.
LARGE = bytes(7_800_000)


def to(edge: Peer) -> dict[str, Any]:
    return {"custom": edge.id.to_bytes(8)}


def settled(world: World) -> None:
    world.everybody_leaves()
    # What many left is swept in slices.
    world.advance(0.2, step=0.01)
    world.check_empty()


# -- nobody is cut for what others send -------------------------------------------------------------------


def test_six_edges_may_answer_one_service_at_the_same_moment() -> None:
    world = World()
    service = world.service()
    edges = [world.edge(number) for number in range(1, 7)]
    for edge in edges:
        service.call(b"m", **to(edge))
    service.transport.block()
    for edge in edges:
        edge.respond(edge.request(), LARGE)
    assert not service.closed
    # Who does not find room is not read from until there is some.
    assert 0 < sum(not edge.transport.reading for edge in edges) < 6
    service.transport.unblock()
    answers = service.take(f.FrameType.RESPONSE)
    assert [len(x.data.payload) for x in answers] == [len(LARGE)] * 6
    assert all(edge.transport.reading for edge in edges)
    settled(world)


def test_an_edge_that_waits_goes_on_when_the_service_is_gone() -> None:
    world = World(settings=Settings(write_buffer_bytes=100_000))
    service, edge, other = world.service(methods=(b"m",)), world.edge(5), world.service(methods=(b"n",))
    for _ in range(5):
        service.call(b"m", **to(edge))
    service.transport.block()
    for request in edge.take():
        edge.respond(request, bytes(30_000))
    assert not edge.transport.reading
    service.cut()
    assert edge.transport.reading
    edge.call(b"n")
    assert other.request()
    settled(world)


def test_streams_that_open_with_large_metas_are_refused_where_they_find_no_room() -> None:
    world = World()
    service = world.service("files")
    edges = [world.edge(number) for number in range(1, 13)]
    service.transport.block()
    for edge in edges:
        edge.open("files", bytes(6 * MIB))
    assert not service.closed
    assert service.leg.waiting_bytes + service.protocol.unsent < Settings().write_buffer_bytes
    world.advance(0.1)
    refused = [edge for edge in edges if edge.take(p.Dismissal)]
    assert 4 < len(refused) < 12
    service.transport.unblock()
    assert len(service.take(p.Session)) == 12 - len(refused)
    settled(world)


def test_a_service_is_not_stopped_for_an_edge_that_does_not_take_its_answers() -> None:
    world = World()
    service, slow, quick = world.service(methods=(b"m",)), world.edge(1), world.edge(2)
    for _ in range(12):
        slow.call(b"m")
    requests = service.take()
    slow.transport.block()
    for request in requests:
        service.respond(request, LARGE)
    assert service.transport.reading and not slow.closed
    quick.call(b"m")
    service.respond(service.request(), LARGE)
    assert quick.response().data.payload == LARGE
    slow.transport.unblock()
    answers = slow.take(f.FrameType.RESPONSE)
    assert len(answers) == 12
    assert {(len(x.data.payload), x.data.error) for x in answers} == {(len(LARGE), ""), (0, "receiver congested")}
    settled(world)


# -- turns ------------------------------------------------------------------------------------------------


def bytes_before(service: Peer, wanted: int) -> int:
    """Let the service take chunk after chunk until it has a Request with this value; return the bytes before it."""
    while True:
        for number, packet in enumerate(service.inbox):
            if isinstance(packet, p.Message) and packet.data.payload == bytes(wanted):
                return sum(len(x.body) for x in service.frames[:number])
        assert service.transport.held, "it never came"
        service.transport.unblock_once()


@pytest.mark.parametrize("heavy", ["calls", "messages", "a stream", "answers", "sessions"])
def test_a_light_senders_call_leaves_within_a_turn_whatever_others_have_waiting(heavy: str) -> None:
    world = World()
    service = world.service("files", ("t",), (b"m",))
    flooders = [world.edge(number) for number in range(1, 4)]
    light = world.edge(9)
    streams = [world.stream(edge, service, "files")[0] for edge in flooders]
    for edge in flooders:
        for _ in range(8):
            service.call(b"m", **to(edge))
    asked = [edge.take() for edge in flooders]
    service.take()
    service.frames.clear()
    service.transport.block()
    for edge, near, requests in zip(flooders, streams, asked, strict=True):
        for request in requests:
            match heavy:
                case "calls":
                    edge.call(b"m", bytes(400_000))
                case "messages":
                    edge.publish(bytes(400_000), topic="t")
                case "a stream":
                    edge.stream(near, bytes(400_000))
                case "sessions":
                    edge.open("files", bytes(400_000))
                case "answers":
                    edge.respond(request, bytes(400_000))
    waiting = service.leg.waiting_bytes + world.core.exchange.doors.raw_bytes
    assert waiting > 6 * MIB
    light.call(b"m", bytes(7))
    # What was handed to the connection, a frame that each may have in its turn, and the others' turns.
    assert bytes_before(service, 7) < 2 * MIB < waiting / 3
    settled(world)


def test_a_stream_does_not_hold_up_the_calls_of_its_own_sender() -> None:
    world = World()
    service, edge = world.service("files", methods=(b"m",)), world.edge(1)
    near, _ = world.stream(edge, service, "files")
    service.take()
    service.frames.clear()
    service.transport.block()
    for _ in range(20):
        edge.stream(near, bytes(300_000))
    assert world.core.exchange.doors.raw_bytes > 4 * MIB
    edge.call(b"m", bytes(7))
    assert bytes_before(service, 7) < 4 * QUANTUM + 300_000 + 4 * CHUNK
    settled(world)


def test_blocks_without_bytes_are_not_passed_on() -> None:
    world = World()
    service, edge = world.service("files"), world.edge(1)
    near, far = world.stream(edge, service, "files")
    for _ in range(400):
        edge.stream(near, b"")
        service.stream(far, b"")
    service.nothing()
    edge.nothing()


# -- windows ----------------------------------------------------------------------------------------------


def publish(edge: Peer, value: bytes) -> None:
    edge.publish(value, topic="t")


def call(edge: Peer, value: bytes) -> None:
    edge.call(b"m", value)


@pytest.mark.parametrize("ask", [publish, call])
def test_one_flood_does_not_starve_others(ask: Any) -> None:
    """One edge sends without end to a service that takes few; another one's are served in turn with it."""
    world = World(settings=Settings(service_window=10, service_calls=10))
    service, flooder, other = world.service("s", ("t",), (b"m",)), world.edge(1), world.edge(2)
    for number in range(2000):
        ask(flooder, b"flood %d" % number)
    for number in range(20):
        ask(other, b"other %d" % number)
    seen: list[bytes] = []
    for _ in range(60):
        packet = service.take()
        service.inbox = packet[1:]
        seen.append(packet[0].data.payload)
        service.respond(packet[0])
    others = [value for value in seen if value.startswith(b"other")]
    assert others == [b"other %d" % number for number in range(20)]
    flooded = [value for value in seen if value.startswith(b"flood")]
    assert flooded == [b"flood %d" % number for number in range(40)]
    settled(world)


def test_a_few_calls_of_each_sender_go_at_once_whatever_others_have_out() -> None:
    world = World()
    service, flooder, other = world.service(methods=(b"m",)), world.edge(1), world.edge(2)
    for _ in range(1000):
        flooder.call(b"m", b"flood")
    world.clock.advance(0.01)
    service.take()
    for number in range(ALWAYS + 3):
        other.call(b"m", b"%d" % number)
    world.advance(0.1, step=0.001)
    out = service.take()
    assert [x.data.payload for x in out] == [b"%d" % number for number in range(ALWAYS)]
    # One more for each that is answered.
    for number, request in enumerate(out[:3]):
        service.respond(request)
        world.advance(0.01, step=0.001)
        assert service.request().data.payload == b"%d" % (ALWAYS + number)
    settled(world)


def test_slow_handlers_do_not_stop_quick_ones_for_good() -> None:
    world = World(settings=Settings(service_calls=16))
    service, edge = world.service(methods=(b"slow", b"quick")), world.edge(1)
    for _ in range(40):
        edge.call(b"slow")
    edge.call(b"quick")
    assert len(service.take()) == 16
    world.advance(2 * PATIENCE + 0.2, step=0.1)
    assert service.take()[-1].data.key == b"quick"
    # The window stays grown as long as what is slow is out.
    edge.call(b"quick")
    assert service.request().data.key == b"quick"
    settled(world)


def test_a_service_that_answers_all_the_time_gets_no_more_than_its_window() -> None:
    world = World(settings=Settings(service_calls=16))
    service, edge = world.service(methods=(b"m",)), world.edge(1)
    for _ in range(100):
        edge.call(b"m")
    out = service.take()
    for _ in range(50):
        world.advance(PATIENCE / 4)
        service.respond(out.pop(0))
        out += service.take(f.FrameType.REQUEST)
        assert len(out) == 16
    settled(world)


def test_the_window_of_an_end_that_may_be_of_go_grows_only_so_far() -> None:
    world = World(settings=Settings(edge_window=64, call_seconds=100.0))
    service, stranger, own = world.service(), world.edge(1), world.edge(2, frame_limit=16 * MIB)
    for edge in (stranger, own):
        for _ in range(1000):
            service.publish(**to(edge))
    for _ in range(60):
        service.send_bare(f.FrameType.HEARTBEAT)
        for edge in (stranger, own):
            edge.send_bare(f.FrameType.HEARTBEAT)
        world.advance(0.2, step=0.005)
    assert len(stranger.take(f.FrameType.MESSAGE)) == 256
    assert len(own.take(f.FrameType.MESSAGE)) == 1000
    settled(world)


@pytest.mark.parametrize("end", ["cancel", "deadline", "sender", "receiver"])
def test_a_call_that_waits_leaves_no_trace_when_it_ends(end: str) -> None:
    world = World(settings=Settings(service_calls=1))
    service, edge, other = world.service(methods=(b"m",)), world.edge(1), world.edge(2)
    asked = [edge.call(b"m", bytes(1000)) for _ in range(ALWAYS + 5)]
    service.take()
    assert service.leg.waiting_bytes > 5000
    match end:
        case "cancel":
            for number in asked[ALWAYS:]:
                edge.cancel(number)
            assert {x.data.error for x in edge.take()} == {"context canceled"}
            # Nobody was told of them, so nobody is told that they are withdrawn.
            service.nothing()
        case "deadline":
            world.advance(31)
        case "sender":
            edge.cut()
        case "receiver":
            service.cut()
            world.advance(0.1)
            assert {x.data.error for x in edge.take()} == {"force closed"}
    assert service.leg.waiting_bytes == 0
    assert other.leg.waiting_bytes == 0
    settled(world)


# -- shares -----------------------------------------------------------------------------------------------


def test_who_has_most_waiting_is_refused_first() -> None:
    world = World(settings=Settings(write_buffer_bytes=MIB))
    service = world.service(methods=(b"m",))
    heavy = [world.edge(number) for number in range(1, 30)]
    service.transport.block()
    for edge in heavy:
        for _ in range(40):
            edge.call(b"m", bytes(40_000))
    refused = [len(edge.take(f.FrameType.RESPONSE)) for edge in heavy]
    assert all(refused)
    assert service.leg.waiting_bytes + service.protocol.unsent < MIB + 29 * MIB // 8
    light = world.edge(99)
    for _ in range(5):
        light.call(b"m", bytes(1000))
    light.nothing()
    service.transport.unblock()
    # The light one's calls are among the first.
    values = [len(x.data.payload) for x in service.take(f.FrameType.REQUEST)]
    assert values.count(1000) == 5
    settled(world)


def test_one_payer_has_at_most_half_and_everybody_has_a_little() -> None:
    world = World()
    budget = Budget(16 * MIB)
    legs = [world.edge(number).leg for number in range(1, 30)]
    budget.connected(len(legs))
    for leg in legs:
        while budget.admits(leg, 10_000):
            budget.hold(leg, 10_000)
    assert legs[0].held_bytes <= budget.pool // 2
    assert all(leg.held_bytes >= budget.light - 10_000 for leg in legs)
    assert budget.used <= budget.limit
    newcomer = world.edge(100).leg
    budget.connected(1)
    assert budget.admits(newcomer, budget.light)
    for leg in legs:
        budget.hold(leg, -leg.held_bytes)
    assert budget.used == 0


def test_what_goes_straight_gets_less_when_memory_is_short() -> None:
    world = World()
    budget, leg = Budget(1 << 30), world.edge(1).leg
    straight = budget.feed
    seen = []
    budget.on_tight = lambda: seen.append(budget.used)
    budget.hold(leg, budget.pool * 15 // 16)
    assert 0 < budget.feed < straight
    budget.hold(leg, budget.pool // 16)
    assert budget.feed == 0
    budget.hold(leg, -budget.pool // 7)
    assert budget.feed == straight
    budget.hold(leg, budget.pool // 7)
    # It was short all the time.
    assert len(seen) == 1
    budget.hold(leg, -leg.held_bytes)
    assert budget.feed == straight and not budget.tight


def test_calls_that_wait_for_answers_are_part_of_the_budget() -> None:
    world = World(settings=Settings(memory_bytes=2 * MIB))
    budget = world.core.exchange.budget
    service = world.service(methods=(b"m",))
    hostile = [world.edge(number) for number in range(1, 8)]
    for edge in hostile:
        for _ in range(250):
            edge.call(b"m")
    assert budget.used <= budget.limit
    assert budget.pendings * PENDING_BYTES > budget.pool // 2
    world.advance(0.1, step=0.001)
    assert "receiver congested" in {x.data.error for x in hostile[-1].take(f.FrameType.RESPONSE)}
    honest = world.edge(99)
    service.take()
    for _ in range(5):
        honest.call(b"m", bytes(1000))
    world.advance(0.1, step=0.001)
    assert len([x for x in service.take(f.FrameType.REQUEST) if x.data.value]) == 5
    settled(world)


def test_edges_that_take_nothing_do_not_fill_the_process() -> None:
    world = World(settings=Settings(memory_bytes=32 * MIB))
    exchange = world.core.exchange
    service = world.service(methods=(b"m",))
    hostile = [world.edge(number) for number in range(1, 150)]
    for edge in hostile:
        edge.transport.block()
    for _ in range(4):
        for edge in hostile:
            service.call(b"x", bytes(150_000), **to(edge))
            service.publish(bytes(5000), **to(edge))
    assert exchange.budget.pool // 2 < exchange.budget.used <= exchange.budget.limit
    assert exchange.counters.refused_memory
    honest = world.edge(999)
    honest.call(b"m", bytes(10_000))
    service.take(f.FrameType.RESPONSE)
    service.respond(service.request(), bytes(20_000))
    assert len(honest.response().data.payload) == 20_000
    settled(world)


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["session 1", "a stream"])
@pytest.mark.parametrize("up", [True, False])
def test_a_method_that_is_too_long_is_refused_without_its_name(where: str, up: bool) -> None:
    world = World()
    edge, service = world.edge(5), world.service("files", frame_limit=16 * MIB)
    near, far = world.stream(edge, service, "files")
    asker, receiver = (edge, service) if up else (service, edge)
    session = 1 if where == "session 1" else near if up else far
    for length in (5000, 7 * MIB):
        asker.call(b"x" * length, session=session, custom=edge.id.to_bytes(8))
        world.advance(0.1)
        answer = asker.response()
        assert answer.data.error in ("method name too long", "record not found", "too much beside the payload")
        assert answer.data.key == b""
        assert len(asker.frames[-1].body) < 1000
    receiver.nothing()
    settled(world)


@pytest.mark.parametrize("method", [b"\xff\xfe", b"\0", "Ω".encode()])
def test_any_bytes_are_a_method(method: bytes) -> None:
    world = World()
    edge, service = world.edge(5), world.service(methods=(method,))
    edge.call(method)
    request = service.request()
    assert request.data.key == method
    service.respond(request, b"r")
    assert edge.response().data.payload == b"r"


def test_a_long_method_is_not_kept_with_the_call() -> None:
    world = World()
    method = b"x" * (REPEATED_METHOD + 1)
    edge, service = world.edge(5), world.service(methods=(method,))
    edge.call(method)
    (pending,) = edge.leg.outgoing.values()
    assert pending.method == b""
    service.cut()
    world.advance(0.1)
    answer = edge.response()
    assert (answer.data.error, answer.data.key) == ("force closed", b"")


def test_light_is_what_a_small_frame_needs() -> None:
    """The figures of the documents: 64 KiB for each of up to 2,560 connections with the default."""
    budget = Budget(1 << 30)
    budget.connected(2560)
    assert budget.light == LIGHT
    budget.connected(10_000 - 2560)
    assert budget.light == (640 << 20) // 40_000
