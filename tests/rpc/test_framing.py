"""Bytes and texts of gRPC, and the guard in front of the HTTP/2 engine."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.rpc.grpc_framing import (
    MAX_STATUS_MESSAGE,
    MessageReader,
    decode_message,
    encode_message,
    format_timeout,
    frame,
    parse_timeout,
)
from frontier_tx.rpc.http2_guard import PREFACE, FrameGuard, GoAway
from frontier_tx.rpc.status import RpcError, Status


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 1000), max_size=10))
def test_messages_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    reader = MessageReader()
    read: list[bytes] = []
    for chunk in chunks(b"".join(map(frame, messages)), cuts):
        read += reader.feed(chunk)
    assert read == messages
    assert reader.held == 0


def test_a_message_over_the_limit_is_refused_by_its_prefix() -> None:
    with pytest.raises(RpcError, match=r"larger than max \(11 vs. 10\)") as caught:
        list(MessageReader(10).feed(b"\0\0\0\0\x0b"))
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert list(MessageReader(10).feed(frame(b"x" * 10))) == [b"x" * 10]


def test_a_compressed_message_is_refused() -> None:
    with pytest.raises(RpcError) as caught:
        list(MessageReader().feed(b"\1\0\0\0\0"))
    assert caught.value.status is Status.INTERNAL


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1S", 1.0), ("250m", 0.25), ("2M", 120.0), ("1H", 3600.0), ("99999999u", 99.999999), ("0n", 0)],
)
def test_timeouts(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "S", "1s", "-1S", "123456789S", "1.5S", "1S ", "１S"])
def test_broken_timeouts(text: str) -> None:
    with pytest.raises(ValueError, match="malformed grpc-timeout"):
        parse_timeout(text)


@given(st.floats(0, 1e9))
def test_a_timeout_is_never_shortened_and_hardly_lengthened(seconds: float) -> None:
    read = parse_timeout(format_timeout(seconds))
    assert seconds <= read <= seconds * 1.02 + 0.001


@given(st.text(max_size=400))
def test_status_messages_pass(text: str) -> None:
    encoded = encode_message(text)
    assert all(32 <= byte < 127 for byte in encoded)
    assert decode_message(encoded) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("character", ["x", "é", "🙂", "\n"])
def test_a_long_status_message_fits_into_the_trailers_that_clients_take(character: str) -> None:
    encoded = encode_message(character * 70_000)
    assert MAX_STATUS_MESSAGE * 3 / 4 < len(encoded) <= MAX_STATUS_MESSAGE
    assert decode_message(encoded).lstrip(character) == "…"


def test_broken_escapes_are_text() -> None:
    assert decode_message(b"50% off %zz %41") == "50% off %zz A"


FRAMES = st.one_of(
    st.builds(lambda size: DataFrame(1, b"x" * size), st.integers(1, 50)),
    st.just(PingFrame(0, b"12345678")),
    st.just(SettingsFrame(0, {1: 100})),
    st.just(HeadersFrame(1, b"abc", flags=["END_HEADERS"])),
    st.builds(lambda text: GoAwayFrame(0, 7, 3, text), st.binary(max_size=20)),
)


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 2000), max_size=12))
def test_the_gate_keeps_goaways_and_passes_the_rest(frames: list[Frame], cuts: list[int]) -> None:
    guard = FrameGuard(len(PREFACE))
    passed, kept = b"", []
    for chunk in chunks(PREFACE + b"".join(each.serialize() for each in frames), cuts):
        guard.feed(chunk)
        while (piece := guard.take()) is not None:
            passed += piece.data
            kept += [piece.goaway] if piece.goaway else []
    rest = [each for each in frames if not isinstance(each, GoAwayFrame)]
    assert passed == PREFACE + b"".join(each.serialize() for each in rest)
    assert kept == [GoAway(7, 3, each.additional_data) for each in frames if isinstance(each, GoAwayFrame)]
    assert guard.weight == sum(isinstance(each, PingFrame | SettingsFrame) for each in frames)


def test_our_goaway_is_a_goaway() -> None:
    parsed, length = Frame.parse_frame_header(memoryview(GoAway(5, 11, b"why").serialize())[:9])
    parsed.parse_body(memoryview(GoAway(5, 11, b"why").serialize()[9:]))
    assert isinstance(parsed, GoAwayFrame)
    assert (length, parsed.last_stream_id, parsed.error_code, parsed.additional_data) == (11, 5, 11, b"why")


def test_weights() -> None:
    guard = FrameGuard()
    guard.feed(RstStreamFrame(1).serialize() + DataFrame(1, b"").serialize() + DataFrame(1, b"x").serialize())
    while guard.take() is not None:
        pass
    assert guard.weight == 2
