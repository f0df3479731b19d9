"""Calls and messages between edges and services: routing, order, deadlines, cancels, errors."""

import base64
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress

from frontier_tx.gateway.protocols import address_text
from frontier_tx.switch.choice import AtRandom, BySourceAddress
from frontier_tx.switch.legs import host_number
from frontier_tx.switch.settings import Settings
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import Context, MessageData
from frontier_tx.wire.times import UNSET, parse_time
from tests import packets as p

from .world import Peer, World


def tail(edge_id: int) -> bytes:
    return edge_id.to_bytes(8)


@pytest.fixture
def world() -> World:
    """With edge 5 and a service that has method ``m`` and topic ``t``."""
    world = World()
    world.edge(5)
    world.service("svc", ("t",), (b"m",), 70)
    return world


# -- what travels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 1100, 2000, 300_000])
@pytest.mark.parametrize("custom", [b"", b"user", bytes(range(200))])
def test_a_call_to_an_edge(edge: Peer, service: Peer, size: int, custom: bytes) -> None:
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    asked = service.call(b"echo", value, custom=custom + tail(5))
    request = edge.request()
    assert (request.data.key, request.data.payload, request.data.custom) == (b"echo", value, custom)
    assert request.session_id == 1
    assert (b"custom" in edge.frames[-1].body) is bool(custom)
    edge.respond(request, value)
    response = service.response()
    assert (response.packet_id, response.data.key, response.data.payload) == (asked, b"echo", value)


@pytest.mark.parametrize("custom", [b"", b"user"])
def test_a_call_to_a_service_carries_the_edges_id(edge: Peer, service: Peer, custom: bytes) -> None:
    edge.call(b"m", b"v", custom=custom)
    assert service.request().data.custom == custom + tail(5)


def test_topic_and_error_texts_pass_as_they_are(edge: Peer, service: Peer) -> None:
    text = 'a "<&>" \u2028 \u00e9 \U0001f600 \x00'
    service.publish(b"v", topic=text, custom=tail(5))
    message = edge.message()
    assert message.data.topic == text
    edge.respond(message, error=text)
    assert service.message_ack().data.error == text


def test_an_answer_with_an_error_has_no_value_and_never_a_custom(edge: Peer, service: Peer) -> None:
    service.call(b"m", custom=tail(5))
    request = edge.request()
    body = MessageData(key=b"m", value=b"lost", custom=b"own", error="no", deadline=UNSET, context=Context(UNSET))
    edge.send(p.Message(type=f.FrameType.RESPONSE, packet_id=request.packet_id, session_id=1, data=body))
    data = service.response().data
    assert (data.payload, data.custom, data.error) == (b"", b"", "no")


def test_the_ack_of_a_message_comes_after_the_far_ack(edge: Peer, service: Peer) -> None:
    sent = edge.publish(b"v", topic="t")
    message = service.message()
    edge.nothing()
    service.respond(message)
    ack = edge.message_ack()
    assert (ack.packet_id, ack.data.error) == (sent, "")


# -- nobody there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("custom", [b"", b"short", b"1234567"])
def test_g3_a_custom_without_an_id(service: Peer, custom: bytes) -> None:
    service.call(b"m", custom=custom)
    service.publish(custom=custom)
    assert service.response().data.error == "illegal edgeID"
    assert service.message_ack().data.error == "illegal edgeID"


@pytest.mark.parametrize("edge_id", [0, 4, 2**64 - 1])
def test_an_edge_that_is_not_there(service: Peer, edge_id: int) -> None:
    service.call(b"m", custom=tail(edge_id))
    service.publish(custom=tail(edge_id))
    assert service.response().data.error == "edge not online"
    assert service.message_ack().data.error == "edge not online"


@pytest.mark.parametrize("method", [b"nobody", b"M", b"m ", b'"', b"", b"get_edge_id", b"edge_online", b"edge_offline"])
def test_a_method_that_no_service_has(edge: Peer, method: bytes) -> None:
    edge.call(method)
    response = edge.response()
    assert (response.data.key, response.data.error) == (method, "record not found")


def test_control_functions_are_out_of_edges_reach() -> None:
    world = World()
    edge = world.edge(5)
    service = world.service(methods=(b"get_edge_id", b"edge_online", b"edge_offline"))
    for method in (b"get_edge_id", b"edge_online", b"edge_offline"):
        edge.call(method)
        assert edge.response().data.error == "record not found"
    service.nothing()


def test_control_functions_can_be_opened_to_edges() -> None:
    world = World(settings=Settings(edges_call_control_methods=True))
    edge = world.edge(5)
    service = world.service(methods=(b"get_edge_id",))
    edge.call(b"get_edge_id")
    assert service.request().data.custom == tail(5)


def test_g6_names_match_exactly() -> None:
    world = World()
    edge = world.edge(5)
    upper, quoted = world.service(methods=(b"Echo",)), world.service(methods=(b'a"b', b"\xff\0"))
    for method in (b'a"b', b"\xff\0"):
        edge.call(method)
        assert quoted.request().data.key == method
    edge.call(b"echo")
    assert edge.response().data.error == "record not found"
    upper.nothing()


@pytest.mark.parametrize("topic", ["nobody", "T", "", "t "])
def test_a_topic_that_nobody_takes(edge: Peer, topic: str) -> None:
    edge.publish(topic=topic)
    assert edge.message_ack().data.error == "topic not online"


def test_the_empty_topic_can_be_declared() -> None:
    world = World()
    edge, service = world.edge(5), world.service(topics=("",))
    edge.publish()
    assert service.message().data.topic == ""


def test_g4_the_topic_star_takes_what_nobody_else_takes() -> None:
    world = World()
    edge = world.edge(5)
    rest, own = world.service(topics=("*",)), world.service(topics=("t",))
    edge.publish(topic="t")
    assert own.message()
    rest.nothing()
    for topic in ("other", "", "*"):
        edge.publish(topic=topic)
        assert rest.message().data.topic == topic
    own.cut()
    edge.publish(topic="t")
    assert rest.message()
    rest.cut()
    edge.take()
    edge.publish(topic="t")
    assert edge.message_ack().data.error == "topic not online"


def test_a_peer_that_gave_up_session_1_is_nobody(world: World, edge: Peer, service: Peer) -> None:
    waiting = service.call(b"m", custom=tail(5))
    edge.take()
    edge.dismiss()
    response = service.response()
    assert (response.packet_id, response.data.error) == (waiting, "force closed")
    service.call(b"m", custom=tail(5))
    assert service.response().data.error == "edge not online"
    assert not edge.closed
    service.dismiss()
    other = world.edge(6)
    other.call(b"m")
    assert other.response().data.error == "record not found"


# -- choosing ---------------------------------------------------------------------------------------------


def test_by_edge_id_over_services_in_order_of_registration() -> None:
    world = World()
    late = world.service("late")
    services = [world.service(f"s{n}", ("t",), (b"m",)) for n in range(3)]
    late.register(b"m")
    for edge_id in range(1, 9):
        edge = world.edge(edge_id)
        edge.call(b"m")
        assert [*services, late][edge_id % 4].request().data.custom == tail(edge_id)
        edge.publish(topic="t")
        assert services[edge_id % 3].message()


@pytest.mark.parametrize(("host", "number"), [
    ("10.0.0.7", 0x0A000007),
    ("255.255.255.255", 0xFFFFFFFF),
    ("2001:db8::1:2", 0x00010002),
    ("fe80::1%eth0", 1),
    ("::ffff:10.0.0.7", 0x0A000007),
])  # fmt: skip
def test_by_source_address(host: str, number: int) -> None:
    world = World(policy=BySourceAddress())
    services = [world.service(f"s{n}", methods=(b"m",)) for n in range(3)]
    first, second = world.edge(1, host=host), world.edge(2, host=host)
    assert first.leg.host_number == number
    for edge in (first, second):
        edge.call(b"m")
        assert services[number % 3].request()


def test_a_peer_without_an_address_counts_as_zero() -> None:
    assert host_number(address_text(UNIXAddress("/run/x"))[1]) == 0
    assert host_number("") == 0


def test_at_random_reaches_everybody() -> None:
    world = World(policy=AtRandom())
    services = [world.service(f"s{n}", methods=(b"m",)) for n in range(3)]
    edge = world.edge(1)
    for _ in range(300):
        edge.call(b"m")
    shares = [len(service.take(f.FrameType.REQUEST)) for service in services]
    assert sum(shares) == 300
    assert min(shares) > 40


def test_a_service_that_is_leaving_is_not_chosen() -> None:
    world = World()
    leaving, staying = (world.service(f"s{n}", ("t",), (b"m",)) for n in range(2))
    leaving.polite = False
    leaving.dismiss()
    for edge_id in (2, 3):
        edge = world.edge(edge_id)
        edge.call(b"m")
        edge.publish(topic="t")
        assert len(staying.take()) == 2
    assert leaving.take(f.FrameType.REQUEST) == []


# -- order, once, to the asker ----------------------------------------------------------------------------


def test_g2_messages_go_on_without_waiting_and_in_order(world: World, service: Peer) -> None:
    silent, other = world.edge(6), world.edge(7)
    for number in range(50):
        service.publish(str(number).encode(), custom=tail(6 + number % 2))
    assert [m.data.payload for m in silent.take()] == [str(n).encode() for n in range(0, 50, 2)]
    answers = other.take()
    assert [m.data.payload for m in answers] == [str(n).encode() for n in range(1, 50, 2)]
    for message in reversed(answers):
        other.respond(message)
    assert len(service.take(f.FrameType.MESSAGE_ACK)) == 25


def test_g1_a_failed_message_stops_nothing(edge: Peer, service: Peer) -> None:
    """Nothing is reordered by a failure in between."""
    sent = [service.publish(str(n).encode(), custom=tail(4 if n == 1 else 5)) for n in range(4)]
    first, second, third = edge.take()
    assert [m.data.payload for m in (first, second, third)] == [b"0", b"2", b"3"]
    edge.respond(first, error="refused")
    for message in (second, third):
        edge.respond(message)
    acks = service.take()
    assert [(a.packet_id, a.data.error) for a in acks] == [
        (sent[1], "edge not online"), (sent[0], "refused"), (sent[2], ""), (sent[3], ""),
    ]  # fmt: skip


def test_requests_and_messages_of_one_sender_keep_their_order(edge: Peer, service: Peer) -> None:
    for number in range(10):
        if number % 2:
            edge.publish(str(number).encode(), topic="t")
        else:
            edge.call(b"m", str(number).encode())
    assert [x.data.payload for x in service.take()] == [str(n).encode() for n in range(10)]


def test_answers_in_any_order_reach_their_askers(world: World, service: Peer) -> None:
    """Section 17, items 1 and 2."""
    edges = [world.edge(10 + n) for n in range(3)]
    asked = {edge.call(b"m", edge.id.to_bytes(1)): edge for edge in edges}
    requests = service.take()
    for request in reversed(requests):
        service.respond(request, request.data.payload)
    for number, edge in asked.items():
        response = edge.response()
        assert (response.packet_id, response.data.payload) == (number, edge.id.to_bytes(1))


def test_late_double_and_foreign_answers_go_nowhere(world: World, edge: Peer, service: Peer) -> None:
    edge.call(b"m")
    request = service.request()
    other = world.service("other")
    other.respond(request, b"foreign")
    edge.respond(request, b"from the wrong side")
    edge.nothing()
    service.send(
        p.Message(
            type=f.FrameType.MESSAGE_ACK, packet_id=request.packet_id, session_id=1,
            data=MessageData(deadline=UNSET, context=Context(UNSET)),
        )
    )  # fmt: skip
    edge.nothing()
    service.respond(request, b"right")
    service.respond(request, b"again")
    assert edge.response().data.payload == b"right"
    assert world.core.exchange.counters.dropped == 4


def test_one_packet_id_twice_is_answered_twice_and_a_cancel_reaches_the_newer(edge: Peer, service: Peer) -> None:
    for value in (b"old", b"new"):
        edge.call(b"m", value, packet_id=9)
    old, new = service.take()
    edge.cancel(9)
    assert service.one(p.RequestCancel).packet_id == new.packet_id
    assert edge.response().data.error == "context canceled"
    service.respond(old, b"r")
    response = edge.response()
    assert (response.packet_id, response.data.payload) == (9, b"r")


def test_a_thousand_calls_under_way(world: World, edge: Peer, service: Peer) -> None:
    asked = [edge.call(b"m", str(n).encode()) for n in range(1000)]
    assert world.core.exchange.pending_count == 1000
    # It answers none of them: the window of calls grows.
    world.advance(2.5, step=0.01)
    requests = service.take()
    assert len(requests) == 1000
    for request in requests[::2] + requests[1::2]:
        service.respond(request, request.data.payload)
    answers = {x.packet_id: x.data.payload for x in edge.take()}
    assert answers == {number: str(n).encode() for n, number in enumerate(asked)}
    assert world.core.exchange.pending_count == 0


def test_calls_under_way_are_bounded() -> None:
    world = World(settings=Settings(pending_per_connection=3))
    edge, other, service = world.edge(5), world.edge(6), world.service(topics=("t",), methods=(b"m",))
    for _ in range(3):
        edge.call(b"m")
    edge.call(b"m")
    edge.publish(topic="t")
    assert [x.data.error for x in edge.take()] == ["too many pending"] * 2
    other.call(b"m")
    requests = service.take()
    assert len(requests) == 4
    service.respond(requests[0])
    edge.take()
    edge.call(b"m")
    assert service.request()


# -- time, cancels, losses --------------------------------------------------------------------------------


def test_the_gateways_own_deadline(world: World, edge: Peer, service: Peer) -> None:
    edge.call(b"m")
    edge.publish(topic="t")
    request, message = service.take()
    for asked in (request, message):
        assert parse_time(asked.data.deadline) == pytest.approx(world.wall_now() + 30, abs=0.1)
        assert asked.data.context.deadline == UNSET
    for _ in range(4):
        world.advance(7.4)
        for peer in world.peers:
            peer.send_bare(f.FrameType.HEARTBEAT)
    assert edge.take(f.FrameType.RESPONSE) == []
    world.advance(0.5)
    assert edge.response().data.error == "timeout"
    assert edge.message_ack().data.error == "timeout"
    cancel = service.one(p.RequestCancel)
    assert (cancel.packet_id, cancel.reason) == (request.packet_id, p.DEADLINE_EXCEEDED)
    edge.take()
    service.respond(request, b"late")
    service.respond(message)
    edge.nothing()


@pytest.mark.parametrize(("given", "context", "left"), [
    (5.0, None, 5.0), (None, 6.0, 6.0), (5.0, 6.0, 5.0), (6.0, 5.0, 5.0),
])  # fmt: skip
def test_the_callers_deadline(world: World, edge: Peer, service: Peer, given: Any, context: Any, left: float) -> None:
    fields: dict[str, Any] = {}
    if given:
        fields["deadline"] = world.text(given)
    if context:
        fields["context"] = Context(world.text(context))
    service.call(b"m", custom=tail(5), **fields)
    request = edge.request()
    assert request.data.context.deadline == world.text(left)
    world.advance(left - 0.1)
    service.nothing()
    world.advance(0.2)
    assert service.response().data.error == "context deadline exceeded"
    cancel = edge.one(p.RequestCancel)
    assert (cancel.packet_id, cancel.reason) == (request.packet_id, p.DEADLINE_EXCEEDED)


def test_a_deadline_beyond_the_gateways_own_is_told_and_the_gateways_counts(
    world: World, edge: Peer, service: Peer
) -> None:
    service.call(b"m", custom=tail(5), context=Context(world.text(90)))
    assert edge.request().data.context.deadline == world.text(90)
    world.advance(30.1)
    assert service.response().data.error == "timeout"


def test_a_call_whose_deadline_is_over_is_answered_at_once(world: World, edge: Peer, service: Peer) -> None:
    service.call(b"m", custom=tail(5), deadline=world.text(-1))
    assert service.response().data.error == "context deadline exceeded"
    edge.nothing()


def test_a_sender_whose_clock_is_slow_publishes_all_the_same(world: World, edge: Peer, service: Peer) -> None:
    service.publish(custom=tail(5), context=Context(world.text(-3600)))
    message = edge.message()
    assert message.data.context.deadline == world.text(-3600)
    edge.respond(message)
    assert service.message_ack().data.error == ""


@pytest.mark.parametrize("garbage", [
    "82 0000000000000005 00000008 0000000000000001",
    "82 0000000000000005 00000009 0000000000000001 7b",
    "72 0000000000000005 00000009 0000000000000001 7b",
    "52 0000000000000005 00000009 0000000000000001 7b",
    "12 0000000000000005 00000002 00 7b",
])  # fmt: skip
def test_an_answer_to_nothing_must_still_be_readable(world: World, edge: Peer, garbage: str) -> None:
    edge.raw(bytes.fromhex("01" + garbage))
    assert edge.closed


@pytest.mark.parametrize("reason", [p.CANCELED, p.DEADLINE_EXCEEDED])
def test_a_cancel(edge: Peer, service: Peer, reason: int) -> None:
    asked = service.call(b"m", custom=tail(5))
    request = edge.request()
    service.cancel(asked, reason=reason)
    cancel = edge.one(p.RequestCancel)
    assert (cancel.packet_id, cancel.reason) == (request.packet_id, p.CANCELED)
    response = service.response()
    assert (response.packet_id, response.data.error) == (asked, "context canceled")
    edge.respond(request, b"late")
    service.cancel(asked)
    service.nothing()
    edge.nothing()


def test_cancels_of_messages_and_of_unknown_calls_are_nothing(world: World, edge: Peer, service: Peer) -> None:
    sent = edge.publish(topic="t")
    edge.cancel(sent)
    edge.cancel(12345)
    edge.nothing()
    service.respond(service.message())
    assert edge.message_ack()


def test_the_caller_is_lost(world: World, edge: Peer, service: Peer) -> None:
    edge.call(b"m")
    edge.publish(topic="t")
    request, message = service.take()
    edge.cut()
    cancel = service.one(p.RequestCancel)
    assert (cancel.packet_id, cancel.reason) == (request.packet_id, p.CANCELED)
    for asked in (request, message):
        service.respond(asked)
    assert world.core.exchange.pending_count == 0


@pytest.mark.parametrize("end", ["cut", "leave", "garbage", "kick"])
def test_the_far_side_is_lost(world: World, edge: Peer, service: Peer, end: str) -> None:
    service.call(b"m", custom=tail(5))
    service.publish(custom=tail(5))
    match end:
        case "cut":
            edge.cut()
        case "leave":
            edge.leave()
        case "garbage":
            edge.raw(b"\1\x99" + bytes(12))
        case "kick":
            world.core.kick_edge(5)
    assert service.response().data.error == "force closed"
    assert service.message_ack().data.error == "force closed"


def test_what_no_end_would_accept_closes_the_connection_that_it_came_on(
    world: World, edge: Peer, service: Peer
) -> None:
    edge.raw(f.pack_of_session(f.REQUEST, 1, 1, b'{"value":"no base64"}'))
    service.nothing()
    world.advance(0.1)
    assert edge.closed
    assert not service.closed


def test_bodies_that_are_unusual_and_legal_are_understood(edge: Peer, service: Peer) -> None:
    value = base64.b64encode(b"v").decode()
    edge.raw(f.pack_of_session(f.REQUEST, 1, 1, f' {{"KEY":[109],"Value":"{value}","more":null}} '.encode()))
    request = service.request()
    assert (request.data.key, request.data.payload, request.data.custom) == (b"m", b"v", tail(5))


def test_raw_bytes_on_session_1_are_dropped(world: World, edge: Peer, service: Peer) -> None:
    for peer in (edge, service):
        peer.stream(1, b"raw")
        peer.nothing()
    assert world.core.exchange.counters.dropped == 2


def test_after_everybody_left_every_table_is_empty(world: World, edge: Peer, service: Peer) -> None:
    """Section 17, item 5."""
    edge.register(b"own")
    edge.call(b"m")
    service.call(b"m", custom=tail(5))
    world.stream(edge, service, "svc")
    edge.open("svc")
    service.open("5")
    full = world.tables()
    assert min(full[x] for x in ("edges", "services", "by_name", "by_method", "by_topic", "edge_methods")) == 1
    assert (full["pending"], full["leg.streams"], full["leg.opening"], full["connections"]) == (2, 2, 2, 2)
    world.everybody_leaves()
    world.check_empty()
