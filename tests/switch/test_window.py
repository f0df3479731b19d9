"""The window of unacknowledged messages: floods wait here, in order, and nobody is stopped by another's silence."""

from typing import Any

import pytest

from frontier_tx.switch.settings import Settings
from frontier_tx.switch.window import PATIENCE
from frontier_tx.wire import frame as f
from tests import packets as p

from .world import Peer, World

SIZE = 4


@pytest.fixture
def world() -> World:
    world = World(settings=Settings(edge_window=SIZE, service_window=2 * SIZE))
    world.edge(5)
    world.service("files", ("t",))
    return world


def flood(sender: Peer, count: int, session: int = 1, **fields: Any) -> list[int]:
    """The texts "0" to ``count - 1``; return the packet ids."""
    return [sender.publish(str(number).encode(), session=session, **fields) for number in range(count)]


def to_edge(number: int = 5) -> dict[str, Any]:
    return {"custom": number.to_bytes(8)}


def texts(messages: list[Any]) -> list[int]:
    return [int(x.data.payload) for x in messages if isinstance(x, p.Message) and x.type == f.MESSAGE]


@pytest.mark.parametrize("up", [True, False])
def test_no_more_are_out_than_the_window_and_all_arrive_in_order(
    world: World, edge: Peer, service: Peer, up: bool
) -> None:
    sender, receiver, size = (edge, service, 2 * SIZE) if up else (service, edge, SIZE)
    asked = flood(sender, 50, topic="t") if up else flood(sender, 50, **to_edge())
    out = receiver.take()
    seen = texts(out)
    while out:
        assert len(out) == size or seen[-1] == 49
        receiver.respond(out.pop(0))
        new = receiver.take()
        seen += texts(new)
        out += new
    assert seen == list(range(50))
    assert [ack.packet_id for ack in sender.take()] == asked
    world.everybody_leaves()
    world.check_empty()


def test_a_refusal_makes_room_too(edge: Peer, service: Peer) -> None:
    flood(service, SIZE + 1, **to_edge())
    first = edge.take()[0]
    edge.respond(first, error="no")
    assert texts(edge.take()) == [SIZE]
    assert service.message_ack().data.error == "no"


def test_calls_go_past_messages_that_wait(edge: Peer, service: Peer) -> None:
    flood(service, SIZE + 1, **to_edge())
    edge.take()
    service.call(b"m", **to_edge())
    edge.respond(edge.request(), b"r")
    assert service.response().data.payload == b"r"


def test_a_silent_edge_delays_no_other(world: World, edge: Peer, service: Peer) -> None:
    other = world.edge(6)
    flood(service, 3 * SIZE, **to_edge())
    service.publish(b"7", **to_edge(6))
    assert texts(other.take()) == [7]


def test_who_collects_before_acknowledging_gets_ever_more(world: World, edge: Peer, service: Peer) -> None:
    flood(service, 20, **to_edge())
    for out in (SIZE, 2 * SIZE, 4 * SIZE, 20):
        assert len(edge.inbox) == out
        world.advance(PATIENCE - 0.1)
        assert len(edge.inbox) == out
        world.advance(0.2)
    collected = edge.take()
    edge.respond(collected.pop())
    flood(service, 1, **to_edge())
    for message in collected[: 20 - SIZE - 1]:
        edge.nothing()
        edge.respond(message)
    edge.nothing()
    edge.respond(collected.pop())
    assert texts(edge.take()) == [0]


def test_who_acknowledges_slowly_gets_no_more(world: World, edge: Peer, service: Peer) -> None:
    flood(service, 20, **to_edge())
    out = edge.take()
    for _ in range(8):
        world.advance(PATIENCE / 2)
        edge.respond(out.pop(0))
        out += edge.take(f.FrameType.MESSAGE)
        assert len(out) == SIZE


def test_sessions_take_turns_and_none_is_stopped_by_another(world: World, edge: Peer, service: Peer) -> None:
    one, far_one = world.stream(service, edge, "5")
    two, far_two = world.stream(service, edge, "5")
    flood(service, 10, one)
    assert len(edge.take()) == SIZE
    flood(service, 3, two)
    flood(service, 3, **to_edge())
    first = edge.take()
    assert [(x.session_id, int(x.data.payload)) for x in first] == [(far_two, 0), (1, 0)]
    edge.respond(first[0])
    second = edge.one(f.FrameType.MESSAGE)
    assert (second.session_id, int(second.data.payload)) == (far_two, 1)
    assert far_one not in {x.session_id for x in edge.inbox}


def test_a_message_that_waits_too_long_is_never_sent(world: World, edge: Peer, service: Peer) -> None:
    flood(service, SIZE, **to_edge())
    out = edge.take()
    for _ in range(29):
        world.advance(1)
        edge.send_bare(f.FrameType.HEARTBEAT)
        service.send_bare(f.FrameType.HEARTBEAT)
        # Somebody acknowledges now and then, so that the window does not grow.
        flood(service, 1, **to_edge())
        edge.respond(out.pop(0))
        out += edge.take(f.FrameType.MESSAGE)
    late = flood(service, 1, **to_edge())
    service.take()
    world.advance(31, step=0.4)
    acks = service.take(f.FrameType.MESSAGE_ACK)
    assert {ack.packet_id for ack in acks} >= set(late)
    assert {ack.data.error for ack in acks} == {"timeout"}
    assert world.core.exchange.pending_count == 0
    assert edge.leg.waiting_bytes == 0


def test_what_waits_is_bounded_in_bytes() -> None:
    world = World(settings=Settings(edge_window=1, write_buffer_bytes=10_000))
    edge, service = world.edge(5), world.service()
    refused = []
    for _ in range(100):
        service.publish(b"x" * 100, **to_edge())
        refused += service.take(f.FrameType.MESSAGE_ACK)
    assert 50 < len(refused) < 95
    assert {ack.data.error for ack in refused} == {"receiver congested"}
    assert edge.leg.waiting_bytes <= 11_000
    service.call(b"m", **to_edge())
    assert edge.request()


# -- somebody leaves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["leave", "cut"])
def test_what_a_sender_published_before_it_left_arrives(world: World, edge: Peer, service: Peer, how: str) -> None:
    flood(service, 3 * SIZE, **to_edge())
    getattr(service, how)()
    seen = []
    while out := edge.take(f.FrameType.MESSAGE):
        seen += texts(out)
        for message in out:
            edge.respond(message)
    assert seen == list(range(3 * SIZE))
    assert world.core.exchange.pending_count == 0


@pytest.mark.parametrize("how", ["leave", "cut", "dismiss"])
def test_what_waits_for_a_receiver_that_leaves_is_answered(world: World, edge: Peer, service: Peer, how: str) -> None:
    asked = flood(service, 3 * SIZE, **to_edge())
    getattr(edge, how)()
    world.advance(0.1)
    acks = service.take(f.FrameType.MESSAGE_ACK)
    assert sorted(ack.packet_id for ack in acks) == asked
    assert {ack.data.error for ack in acks} == {"force closed"}
    assert len(texts(edge.take())) == SIZE
    assert edge.leg.waiting_bytes == 0


@pytest.mark.parametrize("how", ["dismiss", "cut"])
def test_what_came_before_the_end_of_a_stream_arrives_before_it(
    world: World, edge: Peer, service: Peer, how: str
) -> None:
    near, far = world.stream(service, edge, "5")
    flood(service, 3 * SIZE, near)
    service.stream(near, b"bytes")
    if how == "dismiss":
        service.dismiss(near)
    else:
        service.cut()
    seen = []
    while out := edge.take(f.FrameType.MESSAGE):
        seen += texts(out)
        assert edge.take(p.Dismissal) == [] or len(seen) == 3 * SIZE
        for message in out:
            edge.respond(message)
    assert seen == list(range(3 * SIZE))
    world.advance(0.1)
    assert far not in edge.leg.connection.sessions.live
    assert edge.leg.streams == {}
    world.everybody_leaves()
    world.check_empty()


@pytest.mark.parametrize("how", ["dismiss", "cut", "silence"])
def test_a_receiver_that_does_not_take_the_rest_of_a_closed_stream(
    world: World, edge: Peer, service: Peer, how: str
) -> None:
    near, far = world.stream(service, edge, "5")
    flood(service, 3 * SIZE, near)
    service.dismiss(near)
    acks = service.take(f.FrameType.MESSAGE_ACK)
    assert {ack.data.error for ack in acks} == {"force closed"}
    if how == "dismiss":
        edge.dismiss(far)
    elif how == "cut":
        edge.cut()
    else:
        for _ in range(31):
            world.advance(1)
            edge.send_bare(f.FrameType.HEARTBEAT)
    world.advance(0.1)
    assert edge.leg.streams == {}
    assert world.core.exchange.pending_count == 0
    assert edge.leg.waiting_bytes == 0


def test_a_newcomer_gets_nothing_that_waited_for_the_one_before(world: World, edge: Peer, service: Peer) -> None:
    flood(service, 3 * SIZE, **to_edge())
    edge.take()
    newcomer = world.edge(5)
    newcomer.nothing()
    edge.take(p.Dismissal)
    assert len(service.take(f.FrameType.MESSAGE_ACK)) == 3 * SIZE
    service.publish(b"1", **to_edge())
    assert texts(newcomer.take()) == [1]


def test_a_stream_that_nobody_accepts_gets_few_calls_and_messages() -> None:
    """Ends that declared nothing keep some dozens of frames of such a stream, and then stop."""
    world = World()
    edge, service = world.edge(5), world.service("files")
    near, far = world.stream(edge, service, "files")
    calls = [edge.call(b"m", session=near) for _ in range(100)]
    for number in range(100):
        edge.publish(str(number).encode(), session=near)
    requests, messages = service.take(f.FrameType.REQUEST), service.take(f.FrameType.MESSAGE)
    assert len(requests) <= 12 and len(messages) <= 12
    for request in requests:
        service.respond(request)
    requests = service.take(f.FrameType.REQUEST)
    assert len(requests) == 100 - 12
    messages += service.take(f.FrameType.MESSAGE)
    assert len(messages) == 28
    for request in requests:
        service.respond(request)
    assert {x.packet_id for x in edge.take(f.FrameType.RESPONSE)} == set(calls)
    came = []
    while messages:
        came += [int(x.data.payload) for x in messages]
        for message in messages:
            service.respond(message)
        messages = service.take(f.FrameType.MESSAGE)
    assert came == list(range(100))
    assert len(edge.take(f.FrameType.MESSAGE_ACK)) == 100
    assert far in service.leg.streams


@pytest.mark.parametrize("end", ["dismiss", "cut", "overdue", "cancel"])
def test_what_waits_apart_ends_with_its_stream(world: World, edge: Peer, service: Peer, end: str) -> None:
    near, far = world.stream(edge, service, "files")
    calls = [edge.call(b"m", session=near) for _ in range(40)]
    for _ in range(40):
        edge.publish(b"v", session=near)
    service.take()
    match end:
        case "dismiss":
            service.dismiss(far)
        case "cut":
            service.cut()
        case "overdue":
            for _ in range(7):
                world.advance(5)
                for peer in (edge, service):
                    peer.send_bare(f.FrameType.HEARTBEAT)
        case "cancel":
            for call in calls:
                edge.cancel(call, session=near)
            world.advance(0.1)
            assert len(edge.take(f.FrameType.RESPONSE)) == 40
            edge.dismiss(near)
    if end != "cancel":
        assert len(edge.take(f.FrameType.RESPONSE)) == len(edge.take(f.FrameType.MESSAGE_ACK)) == 40
    world.everybody_leaves()
    world.advance(40)
    world.check_empty()
