"""The text of one peer never reaches the parser of another: whatever comes in, what goes out is canonical."""

import base64

import pytest

from frontier_tx.wire import body as b
from frontier_tx.wire import frame as f
from tests.switch.forwarded import EDGE, Forwarding, with_route
from tests.switch.world import Peer, World
from tests.wire.odd_bodies import OddBodies

TAIL = b.EMPTY_MESSAGE[1:]
CUSTOM = EDGE.to_bytes(8)


@pytest.fixture
def world() -> World:
    world = World()
    world.edge(EDGE)
    world.service("svc", ("t",), (b"m",), 70)
    return world


BAD = {
    "escaped time": (b'{"value":"YQ==",' + TAIL.replace(b'00Z","context"', b'00\\u005a","context"'), b"a"),
    "first value no base64": (
        b'{"value":"' + b"!" * 3000 + b'","value":"' + base64.b64encode(b"b" * 3000) + b'",' + TAIL, b"b" * 3000,
    ),
    "first value no base64, small": (b'{"value":"!","value":"YQ==",' + TAIL, b"a"),
    "zone that nobody writes": (b'{"value":"YQ==","deadline":"2026-01-01T0:00:00,0+24:00"}', b"a"),
    "unknown key": (b'{"value":"YQ==","zzz":[[[]]],' + TAIL, b"a"),
    "empty, otherwise written": (b"null", b""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", [f.RESPONSE, f.MESSAGE_ACK], ids=["response", "ack"])
@pytest.mark.parametrize("answerer", ["edge", "service"])
def test_an_answer_is_written_anew(edge: Peer, service: Peer, name: str, kind: int, answerer: str) -> None:
    body, value = BAD[name]
    asker, other = (service, edge) if answerer == "edge" else (edge, service)
    custom = CUSTOM if asker is service else b""
    if kind == f.RESPONSE:
        asker.call(b"m", custom=custom)
        question = other.request()
    else:
        asker.publish(b"v", topic="t", custom=custom)
        question = other.message()
    other.raw(f.pack_of_session(kind, question.packet_id, 1, body))
    answer = asker.frames[-1].body
    data, canonical = b.decode_message(answer)
    assert answer == canonical and data.payload == value
    assert not edge.closed and not service.closed


@pytest.mark.parametrize("seed", range(4))
def test_what_goes_out_is_canonical_whatever_comes_in(seed: int) -> None:
    odd = OddBodies("message", seed)
    count = 0
    for kind, body, out in Forwarding().bodies(with_route(odd(), number) for number in range(300)):
        assert b.decode_message(out)[1] == out, f"{kind} {body!r}"
        count += 1
    sessions = OddBodies("session", seed)
    routed = (sessions().replace(b'"peer":"', b'"peer":"svc","zzz":"', 1) for _ in range(100))
    for kind, body, out in Forwarding().sessions(routed):
        assert b.encode_data(b.decode_session(out)) == out, f"{kind} {body!r}"
        count += 1
    assert count > 300


# -- too much -------------------------------------------------------------------------------------------------


LONG = b'"' + b"x" * (b.BESIDE_VALUE + 1) + "\U0001f600".encode() + b'"'


@pytest.mark.parametrize("key", [b"topic", b"error", b"zzz"])
def test_a_question_with_too_much_beside_its_value_is_refused_and_nobody_is_cut(
    edge: Peer, service: Peer, key: bytes
) -> None:
    body = b'{"key":"bQ==","custom":"' + base64.b64encode(CUSTOM) + b'",' + key.join((b'"', b'":')) + LONG + b"}"
    for asker, other in ((edge, service), (service, edge)):
        asker.raw(f.pack_of_session(f.REQUEST, asker.next_id(), 1, body))
        assert asker.response().data.error == b.UNFIT
        asker.raw(f.pack_of_session(f.MESSAGE, asker.next_id(), 1, body))
        assert asker.message_ack().data.error == b.UNFIT
        other.nothing()
    assert not edge.closed and not service.closed


def test_an_answer_with_too_much_beside_its_value_is_an_error(edge: Peer, service: Peer) -> None:
    service.call(b"m", custom=CUSTOM)
    edge.raw(f.pack_of_session(f.RESPONSE, edge.request().packet_id, 1, b'{"error":' + LONG + b"}"))
    assert service.response().data.error == b.UNFIT
    edge.publish(b"v", topic="t")
    service.raw(f.pack_of_session(f.MESSAGE_ACK, service.message().packet_id, 1, b'{"error":' + LONG + b"}"))
    assert edge.message_ack().data.error == b.UNFIT
    assert not edge.closed and not service.closed


def test_a_session_with_too_much_beside_its_meta_is_refused(world: World, edge: Peer, service: Peer) -> None:
    edge.open("svc" + "x" * b.BESIDE_META, meta=b"m")
    world.advance(1)
    service.nothing()
    assert not edge.closed and not service.closed
