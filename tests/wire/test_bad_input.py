"""Recorded bad input: what each end does with it, and that no bytes at all do more than end one connection."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_tx.wire import frame as f
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.errors import ProtocolError
from frontier_tx.wire.events import Closed, ConnReceived, ConnRefused
from frontier_tx.wire.frame import FrameReader
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.states import Role, State
from tests import packets
from tests.wire.ends import End, bytes_of, type_of, types_of, vectors

BAD = vectors("frames")["negative"]
REQUEST = f.pack_of_session(f.REQUEST, 99, 1, b'{"key":"ZWNobw=="}')
CONN = packets.encode(packets.Conn(packet_id=7))

#: Where the recorded end was at fault: what is wanted instead.
MENDED: dict[str, dict[str, Any]] = {
    "conn_len_0": {"outcome": "connection_closed"},
    "disconn_with_body": {"frames_received": ["DisConn", "DisConnAck"], "later_request_answered": False},
    "heartbeat_with_body": {
        "outcome": "connection_stays_open",
        "frames_received": ["HeartbeatAck", "HeartbeatAck"],
        "later_request_answered": True,
    },
    "dismissack_session1_unasked": {"later_request_answered": True},
    "client_session_by_server_id1": {"later_request_answered": True},
    # The recorded client closed its socket before its goodbye was out.
    "client_connack_ret0_text": {"frames_received": ["DisConn"]},
}


def wanted(vector: dict[str, Any], end: str, when: str) -> dict[str, Any]:
    """The outcome that this implementation owes."""
    outcome = {**vector[end][when], **MENDED.get(vector["name"], {})}
    if outcome["outcome"] == "process_crash":
        outcome = {"outcome": "connection_closed", "frames_received": []}
    # What the recorded applications registered of their own accord is not an answer.
    answers = [name for name in outcome.get("frames_received", []) if name != "Register"]
    return {**outcome, "frames_received": sorted(answers)}


def cases(end: str, when: str) -> list[Any]:
    return [pytest.param(v, id=v["name"]) for v in BAD if when in v.get(end, {})]


def check(end: End, answers: list[str], outcome: dict[str, Any]) -> None:
    failed = end.closed or any(isinstance(item, ProtocolError) for item in end.told)
    refused = any(isinstance(item, ConnRefused) for item in end.told)
    assert (failed or refused) is (outcome["outcome"] == "connection_closed")
    assert sorted(answers) == outcome["frames_received"]
    if end.closed and not any(isinstance(item, ProtocolError) for item in end.told):
        assert end.reason


@pytest.mark.parametrize("vector", cases("server_end", "after_handshake"))
def test_server_after_the_handshake(vector: dict[str, Any]) -> None:
    end = End.connected(Role.SERVER)
    outcome = wanted(vector, "server_end", "after_handshake")
    answers = end.serve(bytes_of(vector))
    check(end, answers, outcome)
    if "later_request_answered" in outcome and not vector["name"].startswith("truncated"):
        assert ("Response" in end.serve(REQUEST)) is outcome["later_request_answered"]


@pytest.mark.parametrize("vector", cases("server_end", "before_handshake"))
def test_server_before_the_handshake(vector: dict[str, Any]) -> None:
    end = End.server()
    outcome = wanted(vector, "server_end", "before_handshake")
    if vector["name"] == "conn_refused":
        assert [type(item) for item in end.feed(bytes_of(vector))] == [ConnReceived]
        end.connection.refuse("no", end.now)
        assert types_of(end.sent()) == ["ConnAck", "DisConn"]
        return
    check(end, end.serve(bytes_of(vector)), outcome)
    if outcome.get("later_request_answered"):
        assert end.serve(CONN) == ["ConnAck"]
        assert end.serve(REQUEST) == ["Response"]


@pytest.mark.parametrize("vector", cases("client_end", "during_handshake"))
def test_client_during_the_handshake(vector: dict[str, Any]) -> None:
    end = End(Role.CLIENT, first_id=1)
    end.connection.connect()
    end.sent()
    outcome = wanted(vector, "client_end", "during_handshake")
    answers = end.serve(bytes_of(vector))
    check(end, answers, outcome)
    refused = [item for item in end.told if isinstance(item, ConnRefused)]
    if refused:
        assert refused[0].error == outcome["constructor_error"]


@pytest.mark.parametrize("vector", cases("client_end", "after_handshake"))
def test_client_after_the_handshake(vector: dict[str, Any]) -> None:
    end = End.connected(Role.CLIENT)
    outcome = wanted(vector, "client_end", "after_handshake")
    check(end, end.serve(bytes_of(vector)), outcome)
    if "later_request_answered" in outcome:
        assert ("Response" in end.serve(REQUEST)) is outcome["later_request_answered"]


@pytest.mark.parametrize("vector", [v for v in BAD if "decoder" in v], ids=lambda v: v["name"])
def test_reader_and_decoder(vector: dict[str, Any]) -> None:
    reader = FrameReader()
    frames = reader.feed(bytes_of(vector))
    failure: ProtocolError | None = reader.failure
    for frame in frames:
        try:
            packets.decode(frame)
        except ProtocolError as error:
            failure = error
    incomplete = failure is None and reader.in_frame
    good = vector["decoder"]["result"] == "ok"
    assert (failure is None and not incomplete) is good
    assert incomplete is vector["name"].startswith("truncated")


@pytest.mark.parametrize("name", ["truncated_header_7_bytes", "truncated_body"])
def test_half_a_frame_ends_the_connection_in_time(name: str) -> None:
    (vector,) = [v for v in BAD if v["name"] == name]
    before = End.server()
    before.feed(bytes_of(vector))
    before.advance(10.0)
    assert before.reason == "timeout: no handshake"
    after = End.connected(Role.SERVER)
    after.feed(bytes_of(vector))
    after.advance(19.9)
    assert not after.closed
    after.advance(0.2)
    assert after.reason == "timeout: the peer stopped in the middle of a frame"


# -- any bytes at all ---------------------------------------------------------------------------------------

LIMITS = Limits(frame_bytes=2000, handshake_bytes=500)
TYPES = sorted(f.MIN_BODY)
#: Bytes that look like the protocol often enough to get past its first checks.
FRAMES = st.builds(
    lambda kind, packet_id, session, body, cut: f.pack(
        kind, packet_id, (session.to_bytes(8, "big") + body)[: cut or None]
    ),
    st.sampled_from([*TYPES, 0, 0x99]),
    st.sampled_from([0, 1, 5, 7, 1000, 2**64 - 1]),
    st.sampled_from([0, 1, 2, 1002, 2**64 - 1]),
    st.sampled_from(
        [b"", b"{}", b"\0\0{}", b"\0" * 10 + b"{}", b"null", b"[", b'{"meta":"YQ=="}', b'{"error":"x"}', b"\xff\xfe"]
    )
    | st.binary(max_size=30),
    st.sampled_from([0, 0, 0, 1, 7, 8, 9, 10]),
)
CHUNKS = st.lists(FRAMES | st.binary(max_size=40), max_size=12)


def survives(end: End, chunks: list[bytes], size: int) -> None:
    data = b"".join(chunks)
    for at in range(0, len(data), size):
        end.serve(data[at : at + size])
        assert end.connection.reader.held <= max(LIMITS.frame_bytes, LIMITS.handshake_bytes) + f.HEADER_SIZE
        end.advance(0.5)
        end.sent()
    end.advance(200.0)
    if not end.closed:
        # Only a client whose heartbeats are answered, or a server that is fed, stays; here nobody does it.
        pytest.fail(f"still {end.connection.state}")
    assert len([item for item in end.told if isinstance(item, Closed)]) <= 1


@settings(max_examples=150, deadline=None)
@given(CHUNKS, st.integers(1, 60), st.sampled_from(["server", "client"]), st.booleans())
def test_no_bytes_do_more_than_end_the_connection(chunks: list[bytes], size: int, who: str, greeted: bool) -> None:
    role = Role(who)
    if greeted:
        end = End.connected(role, LIMITS)
    else:
        end = End.server(LIMITS) if role is Role.SERVER else End.client(LIMITS)
    survives(end, chunks, size)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(TYPES))
def test_a_body_of_any_bytes_is_read_or_refused(body: bytes, kind: int) -> None:
    reader = FrameReader()
    for frame in reader.feed(f.pack(kind, 1, body)):
        try:
            packet = packets.decode(frame)
        except ProtocolError:
            continue
        (again,) = FrameReader().feed(packets.encode(packet))
        assert packets.decode(again) == packet


def test_a_length_that_lies_costs_nothing() -> None:
    end = End.server(LIMITS)
    end.feed(f.HEADER.pack(1, f.CONN, 1, LIMITS.handshake_bytes))
    assert end.connection.reader.held == f.HEADER_SIZE
    end = End.server(LIMITS)
    end.feed(f.HEADER.pack(1, f.CONN, 1, LIMITS.handshake_bytes + 1))
    assert end.connection.state is State.CLOSED


def test_every_recorded_type_name_is_known() -> None:
    assert {type_of(v["type"]) for v in vectors("frames")["frames"]} == set(TYPES) - {f.STREAM_CREDIT}


@pytest.mark.parametrize(("data", "name"), [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
    (bytes.fromhex("16030100c8010000c40303aabb"), "TLS"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "the PROXY protocol"),
])  # fmt: skip
def test_who_speaks_another_protocol_is_named(data: bytes, name: str) -> None:
    end = Connection(Role.SERVER, 0.0)
    told = end.receive(data + bytes(40), 0.0)
    assert told == [Closed(f"it speaks {name}, this port does not")]
