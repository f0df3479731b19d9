"""What a gateway passes on untouched must not harm the Go program that it is passed to.

The sender is a socket with hand-made frames, the receiver a Go end, which ends its connection on JSON that it cannot
read. Whatever happens to the sender: the receiver stays, and takes the next good one.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from benchmarks.gateways import StartedGateway
from tests.interop.ends import End, EndError, Ends, unique
from tests.interop.raw_peer import (
    MESSAGE,
    MESSAGE_ACK,
    REQUEST,
    RESPONSE,
    SERVICE_META,
    SESSION,
    SESSION_ACK,
    UNSET,
    Closed,
    RawPeer,
    b64,
    connected,
    on_session,
)

pytestmark = pytest.mark.timeout(20)

#: Members of a JSON object that go beside the ones needed for routing; a later key wins over an earlier one.
BROKEN = {
    "value_not_base64": b'"value":"@@@"',
    "value_not_padded": b'"value":"YQ"',
    "value_url_safe": b'"value":"-_8="',
    "value_with_newline": b'"value":"YW\\nE="',
    "value_escaped": b'"value":"\\u0059Q=="',
    "value_trailing_bits": b'"value":"YR=="',
    "value_number": b'"value":5',
    "value_object": b'"value":{"a":1}',
    "value_bool": b'"value":true',
    "value_numbers": b'"value":[1,2,255]',
    "value_numbers_too_large": b'"value":[256]',
    "value_null": b'"value":null',
    "value_twice": b'"value":"YQ==","value":"@@"',
    "value_twice_large": b'"value":"' + b"!" * 3000 + b'","value":"' + b"QUJD" * 1000 + b'"',
    "value_escaped_large": b'"value":"' + b"\\u0051UJD" * 1000 + b'"',
    "value_lines_large": b'"value" : "' + b"QUJD\\r\\n" * 1000 + b'"',
    "value_in_capitals": b'"VALUE":"@@"',
    "value_in_kelvin": '"value":"YQ==","\u212aEY":"@@"'.encode(),
    "error_number": b'"error":5',
    "deadline_text": b'"deadline":"soon"',
    "deadline_escaped": b'"deadline":"0001-01-01T00:00:00\\u005a"',
    "deadline_zone": b'"deadline":"2036-01-01T0:00:00,0+24:60"',
    "deadline_twice": b'"deadline":"soon","deadline":"0001-01-01T00:00:00Z"',
    "deadline_number": b'"deadline":5',
    "deadline_year_10000": b'"deadline":"10000-01-01T00:00:00Z"',
    "deadline_comma": b'"deadline":"2036-01-01T00:00:00,5Z"',
    "deadline_lower": b'"deadline":"2036-01-01t00:00:00z"',
    "deadline_leap": b'"deadline":"2036-01-01T00:00:60Z"',
    "context_text": b'"context":"x"',
    "context_array": b'"context":[]',
    "context_deadline_escaped": b'"context":{"deadline":"0001-01-01T00:00:00\\u005a"}',
    "context_twice": b'"context":5,"context":{}',
    "context_deadline": b'"context":{"deadline":"x"}',
    "timeout_float": b'"timeout":1.5',
    "timeout_huge": b'"timeout":99999999999999999999',
    "unknown_key": b'"zzz":{"a":[1,{"b":null}]}',
    "unknown_deep": b'"zzz":' + b"[" * 10_001 + b"]" * 10_001,
    "control_character": b'"zzz":"a\x01b"',
    "invalid_utf8": b'"zzz":"a\xff\xfeb"',
    "lone_surrogate": b'"zzz":"\\ud800"',
    "bad_escape": b'"zzz":"\\x41"',
    "literal": b'"zzz":nul',
    "number": b'"zzz":01',
}


@pytest.fixture(params=list(BROKEN))
def broken(request: pytest.FixtureRequest) -> bytes:
    return BROKEN[request.param]


def members(fields: dict[str, Any], broken: bytes) -> bytes:
    """Broken members last, so that they win; times first, as some of them are what is broken."""
    good = {"deadline": UNSET, "context": {"deadline": UNSET}, **fields}
    return json.dumps(good).encode()[:-1] + b"," + broken + b"}"


def send(peer: RawPeer, kind: int, body: bytes, packet_id: int | None = None) -> None:
    with contextlib.suppress(Closed):
        peer.send_frame(kind, body, packet_id)
        # the answer, if any, says that the receiver has had it
        peer.answers()


@pytest.fixture
def go_edge(ends: Ends) -> End:
    edge = ends.edge()
    edge.register("echo", echo=True)
    edge.drain()
    return edge


@pytest.fixture
def go_service(ends: Ends) -> End:
    return ends.service(unique("service"), ["payloads"])


def still_there(ends: Ends, edge: End) -> None:
    service = ends.service("any")
    assert service.call("echo", b"x", edge_id=edge.client_id) == b"x"
    service.publish(b"last", edge_id=edge.client_id)


def test_request_to_an_edge(ends: Ends, gateway: StartedGateway, go_edge: End, broken: bytes) -> None:
    with connected(gateway.service, SERVICE_META) as peer:
        fields = {"key": b64(b"echo"), "custom": b64(go_edge.client_id.to_bytes(8, "big"))}
        send(peer, REQUEST, on_session(1, members(fields, broken)))
    still_there(ends, go_edge)


def test_message_to_an_edge(ends: Ends, gateway: StartedGateway, go_edge: End, broken: bytes) -> None:
    with connected(gateway.service, SERVICE_META) as peer:
        fields = {"value": b64(b"x"), "custom": b64(go_edge.client_id.to_bytes(8, "big"))}
        send(peer, MESSAGE, on_session(1, members(fields, broken)))
    still_there(ends, go_edge)


def test_request_and_message_to_a_service(ends: Ends, gateway: StartedGateway, go_service: End, broken: bytes) -> None:
    method = unique("echo")
    go_service.register(method, echo=True)
    with connected(gateway.edge) as peer:
        send(peer, REQUEST, on_session(1, members({"key": b64(method.encode())}, broken)))
    with connected(gateway.edge) as peer:
        send(peer, MESSAGE, on_session(1, members({"topic": "payloads"}, broken)))
    assert ends.edge().call(method, b"x") == b"x"


def test_answer_to_a_service(ends: Ends, gateway: StartedGateway, go_service: End, broken: bytes) -> None:
    """The call ends, with an error or with what could be read; the service that made it stays."""
    with connected(gateway.edge) as peer:
        calling = go_service.start_call("m", edge_id=peer.client_id)
        _, asked, _ = peer.read()
        send(peer, RESPONSE, on_session(1, members({"key": b64(b"m")}, broken)), asked)
        error = calling.exception(3)
        assert error is None or isinstance(error, EndError)
    edge = ends.edge()
    edge.register("echo", echo=True)
    assert go_service.call("echo", b"x", edge_id=edge.client_id) == b"x"


def test_acknowledgement_to_a_service(ends: Ends, gateway: StartedGateway, go_service: End, broken: bytes) -> None:
    with connected(gateway.edge) as peer:
        publishing = go_service.start_publish(b"v", edge_id=peer.client_id)
        _, asked, _ = peer.read()
        send(peer, MESSAGE_ACK, on_session(1, members({}, broken)), asked)
        error = publishing.exception(3)
        assert error is None or isinstance(error, EndError)
    edge = ends.edge()
    edge.register("echo", echo=True)
    assert go_service.call("echo", b"x", edge_id=edge.client_id) == b"x"


def test_frames_on_a_stream(ends: Ends, gateway: StartedGateway, broken: bytes) -> None:
    name, method = unique("service"), unique("echo")
    service = ends.service(name)
    with connected(gateway.edge) as peer:
        peer.send_frame(SESSION, b"\0\x10" + (5).to_bytes(8, "big") + json.dumps({"peer": name}).encode())
        accepted = service.accept()
        session = int.from_bytes(peer.read_kind(SESSION_ACK)[10:18], "big")
        accepted.register("echo", echo=True)
        send(peer, REQUEST, on_session(session, members({"key": b64(b"echo")}, broken)))
    with connected(gateway.edge) as peer:
        peer.send_frame(SESSION, b"\0\x10" + (5).to_bytes(8, "big") + json.dumps({"peer": name}).encode())
        service.accept()
        session = int.from_bytes(peer.read_kind(SESSION_ACK)[10:18], "big")
        send(peer, MESSAGE, on_session(session, members({"topic": "t"}, broken)))
    service.register(method, echo=True)
    assert ends.edge().call(method, b"x") == b"x"
