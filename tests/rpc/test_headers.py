"""Headers that are too large or malformed end their call, and what both ends know of each other stays the same."""

from __future__ import annotations

from typing import Any

import pytest
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from hpack import Decoder, Encoder, HPACKDecodingError
from hpack.exceptions import HPACKError
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_tx.rpc.header_block import TOO_LARGE, BlockReader, HeaderDecoder, plain_block
from frontier_tx.rpc.http2_guard import FrameGuard
from tests.rpc.support import CLUSTER, Memory
from tests.rpc.test_hostile import HEADERS, REQUEST, SLOW, Peer, clean, works

NAMES = st.sampled_from([b"x-a", b"x-b", b"content-type", b":path", b"cookie", b"x-" + b"n" * 300])
VALUES = st.one_of(
    st.binary(max_size=20),
    st.integers(0, 30_000).map(lambda size: b"v" * size),
    st.integers(0, 5_000).map(lambda size: b"\xff" * size),
)
BLOCKS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=12), min_size=1, max_size=6)


def unlimited() -> Decoder:
    """The library's own."""
    decoder = Decoder()
    decoder.max_header_list_size = 10**9
    return decoder


@given(BLOCKS, st.lists(st.booleans(), min_size=6, max_size=6), st.integers(1, 3000))
@settings(max_examples=150, deadline=None)
def test_the_table_stays_the_same_whatever_is_left_out(
    blocks: list[list[tuple[bytes, bytes]]], huffman: list[bool], step: int
) -> None:
    encoder, ours, theirs = Encoder(), HeaderDecoder(), unlimited()
    ours.max_header_list_size = 1000
    for fields, squeezed in zip(blocks, huffman, strict=False):
        data = encoder.encode(fields, huffman=squeezed)
        expected = [tuple(field) for field in theirs.decode(data, raw=True)]
        reader = BlockReader(ours)
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
            assert len(reader._rest) <= 31_000 + step
        got = [tuple(field) for field in reader.end()]
        size = sum(len(name) + len(value) + 32 for name, value in expected)
        if size <= 1000:
            assert got == expected
        else:
            assert got[-1][0] == TOO_LARGE
            assert sum(len(name) + len(value) for name, value in got) < 5000
        assert list(ours.header_table.dynamic_entries) == list(theirs.header_table.dynamic_entries)
        assert ours.header_table._current_size == theirs.header_table._current_size


@given(st.binary(max_size=200), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_decoded_as_the_library_does(data: bytes, step: int) -> None:
    ours, theirs = HeaderDecoder(), unlimited()
    ours.max_header_list_size = 10**9
    try:
        expected: Any = [tuple(field) for field in theirs.decode(data, raw=True)]
    except (HPACKError, IndexError, UnicodeDecodeError):
        expected = None
    try:
        reader = BlockReader(ours)
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
        got: Any = [tuple(field) for field in reader.end()]
    except HPACKError:
        got = None
    assert got == expected


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=10))
def test_a_plain_block_is_what_it_says(fields: list[tuple[bytes, bytes]]) -> None:
    decoder = unlimited()
    assert [tuple(field) for field in decoder.decode(plain_block(fields), raw=True)] == fields
    assert not decoder.header_table.dynamic_entries


def test_a_block_of_references_is_short_work() -> None:
    decoder = HeaderDecoder()
    decoder.max_header_list_size = 16_384
    block = b"\x40\x01a" + b"\x7f\x80\x1e" + b"b" * 3967 + b"\xbe" * 500_000
    reader = BlockReader(decoder)
    reader.feed(block)
    assert reader.end()[-1][0] == TOO_LARGE
    with pytest.raises(HPACKDecodingError):
        BlockReader(decoder).feed(b"\x82" * 1000 + b"\xff\xff\x7f" + b"\x82" * 1000)


def test_a_reference_to_nothing_is_seen_also_in_what_is_left_out() -> None:
    decoder = HeaderDecoder()
    decoder.max_header_list_size = 100
    reader = BlockReader(decoder)
    with pytest.raises(HPACKError):
        reader.feed(b"\x82" * 1000 + b"\xbe")


@pytest.fixture
def memory() -> Memory:
    return Memory()


def status(peer: Peer, stream: int) -> Any:
    """The gRPC status of a call, or of what a stream was reset with."""
    answers = peer.of(ResponseReceived, stream)
    if answers:
        fields = dict(answers[0].headers)
        return fields.get(b"grpc-status", fields[b":status"])
    return peer.of(StreamReset, stream)[0].error_code


def other(name: str, value: str) -> list[tuple[str, str]]:
    """The usual headers with one that is not."""
    return [(key, value if key == name else text) for key, text in HEADERS]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([*HEADERS, ("x", "y" * 17_000)], b"8"),
        ([*HEADERS, *((f"x-{n}", "y") for n in range(2000))], b"8"),
        ([*HEADERS, ("x" * 20_000, "y")], b"8"),
        ([*HEADERS, ("x" * 40_000, "y" * 40_000), ("z", "1")], b"8"),
        (other(":path", "/" + "p" * 40_000), b"8"),
        (other(":path", f"/{CLUSTER}/" + "p" * 9_000), b"12"),
        (other(":path", "no slash"), b"12"),
        (other(":authority", "a" * 17_000), b"8"),
        (other("content-type", "text/" + "a" * 17_000), b"431"),
        ([*HEADERS, ("x-bin", "\xff\xfe")], b"0"),
        ([*HEADERS, ("grpc-timeout", "9" * 3000)], b"13"),
        ([*HEADERS, ("grpc-timeout", "-1S")], b"13"),
        ([*HEADERS, ("grpc-timeout", "")], b"13"),
        ([*HEADERS, ("grpc-encoding", "gzip")], b"12"),
        ([*HEADERS, ("X-Upper", "1")], 1),
        ([*HEADERS, ("connection", "close")], 1),
        (other("te", "gzip"), 1),
        ([field for field in HEADERS if field[0] != ":path"], 1),
        ([*HEADERS, (":path", "/again")], 1),
        ([*HEADERS, (":made-up", "1")], 1),
        ([*HEADERS, ("", "1")], 1),
        ([*HEADERS, ("content-length", "x")], 1),
        ([*HEADERS, ("content-length", "5")], 1),
        ([*HEADERS, ("content-length", "500000")], 1),
    ],
)
def test_what_is_wrong_with_a_call_is_the_end_of_that_call(
    memory: Memory, headers: list[tuple[str, str]], expected: bytes | int
) -> None:
    peer = Peer(memory)
    peer.h2.config.normalize_outbound_headers = False
    waiting = peer.call(SLOW)
    for _ in range(3):
        assert status(peer, peer.call(headers)) in (expected, b"200" if expected == b"0" else expected)
        assert peer.of(DataReceived, peer.call([*HEADERS, ("x-kept", "1" * 100)]))
    memory.handlers.waiting[0].callback(None)
    peer.turn()
    assert peer.of(StreamEnded, waiting)
    assert works(memory)
    clean(memory, peer)


@pytest.mark.parametrize("body", [b"\x01" + REQUEST[1:], b"\x00\xff\xff\xff\xff", b"\x00\x00\x00\x00\x03\xff\xff\xff"])
def test_what_is_wrong_with_a_message_is_the_end_of_its_call(memory: Memory, body: bytes) -> None:
    peer = Peer(memory)
    waiting = peer.call(SLOW)
    for _ in range(200):
        assert status(peer, peer.call(body=body)) in (b"8", b"13")
    memory.handlers.waiting[0].callback(None)
    peer.turn()
    assert peer.of(StreamEnded, waiting)
    clean(memory, peer)


def test_bodies_that_lie_about_their_length_take_no_window_for_good(memory: Memory) -> None:
    peer = Peer(memory)
    waiting = peer.call(SLOW)
    for _ in range(150):
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, [*HEADERS, ("content-length", "5")])
        peer.h2.send_data(stream, b"x" * 16_000)
        peer.turn()
        assert status(peer, stream) == 1
    memory.handlers.waiting[0].callback(None)
    peer.turn()
    assert peer.of(StreamEnded, waiting)
    clean(memory, peer)


def test_trailers_of_a_request_that_are_too_large(memory: Memory) -> None:
    peer = Peer(memory)
    for size in (10, 17_000, 90_000):
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, HEADERS)
        peer.h2.send_data(stream, REQUEST)
        peer.h2.send_headers(stream, [("x", "y" * size), ("x-kept", str(size))], end_stream=True)
        peer.turn()
        assert peer.of(StreamEnded, stream)
        assert peer.of(StreamEnded, peer.call([*HEADERS, ("x-kept", str(size))]))
    clean(memory, peer)


def test_blocks_in_pieces_and_what_stands_between_them(memory: Memory) -> None:
    peer = Peer(memory)
    block = Encoder().encode(HEADERS)
    frames = HeadersFrame(1, block[:3]).serialize()
    frames += b"".join(ContinuationFrame(1, bytes((byte,))).serialize() for byte in block[3:-1])
    peer.raw_frames(frames)
    assert not peer.raw.over
    peer.h2.send_headers(1, HEADERS)
    peer.h2.data_to_send()
    peer.raw_frames(ContinuationFrame(1, block[-1:], flags=["END_HEADERS"]).serialize())
    peer.raw_frames(DataFrame(1, REQUEST, flags=["END_STREAM"]).serialize())
    assert peer.of(DataReceived, 1)
    peer.raw_frames(HeadersFrame(3, block[:3]).serialize() + DataFrame(1, b"x").serialize())
    assert peer.raw.over
    assert works(memory)
    clean(memory, peer)


def test_a_block_that_never_ends_is_given_up(memory: Memory) -> None:
    peer = Peer(memory)
    peer.raw_frames(HeadersFrame(1, b"\x82").serialize())
    for _ in range(45):
        if peer.raw.over:
            break
        memory.clock.advance(1)
        peer.raw_frames(ContinuationFrame(1, b"\x82").serialize())
    assert peer.raw.over
    assert works(memory)
    clean(memory, peer)


@pytest.mark.parametrize("flags", [[], ["PADDED"], ["PRIORITY"], ["PADDED", "PRIORITY"]])
def test_padding_and_priority_of_large_headers(memory: Memory, flags: list[str]) -> None:
    peer = Peer(memory)
    block = peer.h2.encoder.encode([*HEADERS, ("x", "y" * 3000)], huffman=False)
    opening = HeadersFrame(1, block, flags=["END_HEADERS", *flags], pad_length=7 if "PADDED" in flags else 0)
    peer.h2.send_headers(1, HEADERS)
    peer.h2.data_to_send()
    peer.raw_frames(opening.serialize() + DataFrame(1, REQUEST, flags=["END_STREAM"]).serialize())
    assert peer.of(DataReceived, 1)
    clean(memory, peer)


def test_the_gate_takes_large_headers_slice_by_slice() -> None:
    guard = FrameGuard()
    block = plain_block([(b"x", b"y")] * 4000)
    frames = (
        HeadersFrame(1, block[:16_000]).serialize()
        + ContinuationFrame(1, block[16_000:], flags=["END_HEADERS"]).serialize()
    )
    guard.feed(frames)
    pieces = []
    while (piece := guard.take()) is not None:
        pieces.append(piece)
    assert len(pieces) >= len(block) // 2048
    assert [piece.opens for piece in pieces].count(True) == 1
    assert not guard.inside
