"""Recorded frames: every good one is read and written again byte for byte; cutting does not depend on the chunks."""

import gc
import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_tx.wire import frame as f
from frontier_tx.wire.body import ConnData, MessageData, RegisterData, SessionData
from frontier_tx.wire.errors import IllegalPacket, OversizedPacket, UnsupportedPacket
from frontier_tx.wire.frame import Frame, FrameReader
from frontier_tx.wire.times import UNSET
from tests import packets
from tests.wire.ends import bytes_of, frames_of, large_payload, type_of, vectors

GOOD = vectors("frames")["frames"]
SMALL = [v for v in GOOD if "hex" in v]
BY_NAME = {v["name"]: v for v in GOOD}


def value_of(text: Any) -> bytes:
    """The bytes of a ``*_hex`` field; an object stands for the large payload."""
    if isinstance(text, dict):
        return large_payload(text["len"])
    return bytes.fromhex(text or "")


@pytest.mark.parametrize("vector", GOOD, ids=lambda v: v["name"])
def test_a_recorded_frame_is_read_and_written_again(vector: dict[str, Any]) -> None:
    whole = bytes_of(vector)
    (frame,) = frames_of(whole)
    assert frame.type == type_of(vector["type"]) == vector["fields"]["type_code"]
    assert frame.packet_id == int(vector["fields"]["packet_id"])
    written = packets.encode(packets.decode(frame))
    if vector["name"] == "connack_err_invalid_utf8":
        # The bytes that were no UTF-8 are lost in reading; what replaces them is written as itself.
        assert written[14:] == whole[14:].replace(b"\\ufffd", "\ufffd".encode())
    else:
        assert written == whole


@pytest.mark.parametrize("vector", GOOD, ids=lambda v: v["name"])
def test_the_fields_of_a_recorded_frame(vector: dict[str, Any]) -> None:
    (frame,) = frames_of(bytes_of(vector))
    packet = packets.decode(frame)
    fields = vector["fields"]
    data = getattr(packet, "data", None)
    if isinstance(data, ConnData | SessionData | RegisterData | MessageData):
        assert data.error == fields.get("error", "")
    if isinstance(data, ConnData | SessionData):
        assert data.meta == value_of(fields["meta_hex"])
    match packet:
        case packets.Conn():
            assert packet.client_id == int(fields["client_id"])
            assert packet.heartbeat == fields["heartbeat_s"]
            assert bool(packet.flags & packets.RETAIN) is fields["retain"]
            assert bool(packet.flags & packets.CLEAR) is fields["clear"]
            assert bool(packet.flags & packets.ACQUIRE_PACKET_ID) is fields["packet_id_acquire"]
            assert bool(packet.flags & packets.ACQUIRE_CLIENT_ID) is fields["client_id_acquire"]
        case packets.ConnAck():
            assert (packet.code, packet.client_id) == (fields["ret_code"], int(fields["client_id"]))
        case packets.DisConnAck():
            assert packet.code == fields["ret_code"]
        case packets.Session():
            assert packet.negotiate_id == int(fields["negotiate_id"])
            assert packet.priority == fields["priority"] and packet.flags & 15 == fields["qos"]
            assert bool(packet.flags & packets.ACQUIRE_SESSION_ID) is fields["session_id_acquire"]
            assert packet.data.peer == fields["peer"]
        case packets.SessionAck():
            assert packet.negotiate_id == int(fields["negotiate_id"])
            assert packet.session_id == int(fields["session_id"])
        case packets.Dismissal() | packets.RegisterAck():
            assert packet.session_id == int(fields["session_id"])
        case packets.Message(data=body):
            assert packet.session_id == int(fields["session_id"])
            assert body.key == value_of(fields["key_hex"])
            assert body.payload == value_of(fields["value_hex"])
            assert body.custom == value_of(fields["custom_hex"])
            assert (body.topic, body.timeout) == (fields["topic"], fields["timeout_ns"])
            assert (body.deadline == UNSET) is (fields["deadline"] is None)
            assert (body.context.deadline == UNSET) is (fields["context_deadline"] is None)
        case packets.Stream():
            assert packet.session_id == int(fields["session_id"])
            assert packet.data == value_of(fields["data_hex"])
        case packets.RequestCancel():
            assert (packet.session_id, packet.reason) == (int(fields["session_id"]), fields["cancel_type"])
        case packets.Register():
            assert packet.session_id == int(fields["session_id"])
            assert packet.method == value_of(fields["method_hex"])
        case packets.Bare():
            assert frame.body == b""


# -- cutting ----------------------------------------------------------------------------------------------


def joined(frames: list[Frame]) -> list[tuple[int, int, int, bytes]]:
    """Frames with the pieces of one raw block put together again."""
    result: list[tuple[int, int, int, bytes]] = []
    for frame in frames:
        ids = (frame.type, frame.packet_id, frame.session_id)
        if frame.type == f.STREAM and result and result[-1][:3] == ids:
            result[-1] = (*ids, result[-1][3] + frame.body)
        else:
            result.append((*ids, frame.body))
    return result


WANTED = joined([frames_of(bytes_of(v))[0] for v in SMALL])
ALL_SMALL = b"".join(bytes_of(v) for v in SMALL)


@pytest.mark.parametrize("vector", SMALL, ids=lambda v: v["name"])
def test_a_frame_cut_anywhere_is_the_same_frame(vector: dict[str, Any]) -> None:
    whole = bytes_of(vector)
    wanted = joined(frames_of(whole))
    for at in range(1, len(whole)):
        reader = FrameReader()
        frames = reader.feed(whole[:at])
        assert reader.in_frame
        frames += reader.feed(whole[at:])
        assert joined(frames) == wanted and not reader.in_frame


def test_bytes_one_by_one_give_every_frame() -> None:
    reader = FrameReader()
    frames: list[Frame] = []
    for at in range(len(ALL_SMALL)):
        frames += reader.feed(ALL_SMALL[at : at + 1])
    assert [x for x in joined(frames) if x[3] or x[0] != f.STREAM] == [x for x in WANTED if x[3] or x[0] != f.STREAM]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(ALL_SMALL)), max_size=12))
def test_any_chunks_give_the_same_frames(cuts: list[int]) -> None:
    reader = FrameReader()
    frames: list[Frame] = []
    edges = [0, *sorted(cuts), len(ALL_SMALL)]
    for start, end in itertools.pairwise(edges):
        frames += reader.feed(ALL_SMALL[start:end])
    assert joined(frames) == WANTED and reader.held == 0


def test_raw_bytes_pass_through_without_being_held() -> None:
    whole = bytes_of(BY_NAME["stream_big_70000"])
    reader = FrameReader()
    assert reader.feed(whole[:21]) == []
    (first,) = reader.feed(whole[21:1000])
    assert reader.held == 0 and reader.in_frame
    (second,) = reader.feed(whole[1000:] + bytes_of(BY_NAME["heartbeat"])[:5])
    assert first.body + second.body == large_payload()
    assert (first.packet_id, first.session_id) == (second.packet_id, second.session_id)
    assert reader.held == 5


def test_raw_bytes_of_several_mebibytes_need_no_room() -> None:
    reader = FrameReader()
    total = 8_000_000
    got = len(reader.feed(f.SESSION_HEADER.pack(1, f.STREAM, 5, total + 8, 1)))
    piece = bytes(65_536)
    left = total
    while left:
        (frame,) = reader.feed(piece[: min(left, len(piece))])
        got += len(frame.body)
        left -= len(frame.body)
        assert reader.held == 0
    assert got == total and not reader.in_frame


def test_a_frame_in_tiny_pieces_costs_what_it_holds() -> None:
    """Each piece that came used to be kept as an object of its own, at 28 times its size."""
    whole = f.pack_of_session(f.REQUEST, 1, 1, bytes(50_000))
    reader = FrameReader()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for at in range(0, len(whole) - 2, 2):
            assert reader.feed(whole[at : at + 2]) == []
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 1.3 * len(whole)
    assert reader.held == len(whole) - 2
    (frame,) = reader.feed(whole[-2:])
    assert frame.body == bytes(50_000) and reader.held == 0 and not reader.in_frame


def test_a_body_that_was_only_declared_holds_nothing() -> None:
    for kind in f.MIN_BODY:
        reader = FrameReader()
        reader.feed(f.HEADER.pack(1, kind, 1, f.DEFAULT_BODY_LIMIT))
        assert reader.held == f.HEADER_SIZE and reader.in_frame


@pytest.mark.parametrize("at", [5, 14, 21, 30])
def test_a_bad_header_in_pieces_ends_the_reading_and_holds_nothing(at: int) -> None:
    bad = f.SESSION_HEADER.pack(1, f.REQUEST, 1, 101, 1) + bytes(93)
    reader = FrameReader(limit=100)
    assert reader.feed(bad[:at]) == []
    assert reader.feed(bad[at:]) == []
    assert isinstance(reader.failure, OversizedPacket) and reader.held == 0
    assert reader.feed(bytes_of(BY_NAME["heartbeat"])) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(ALL_SMALL)), max_size=8), st.integers(1, 5))
def test_few_frames_at_a_time_are_the_same_frames(cuts: list[int], most: int) -> None:
    reader = FrameReader()
    frames: list[Frame] = []
    edges = [0, *sorted(cuts), len(ALL_SMALL)]
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        cut = reader.feed(ALL_SMALL[start:end], most)
        assert len(cut) <= most + 1
        frames += cut
        # Bytes that come although something is left are put behind it.
        while reader.more and number % 2:
            frames += reader.feed(b"", most)
    while reader.more:
        assert reader.held > 0
        frames += reader.feed(b"", most)
    assert joined(frames) == WANTED and reader.held == 0 and not reader.in_frame


def test_few_frames_at_a_time_are_few_bytes_too() -> None:
    large = f.pack_of_session(f.REQUEST, 1, 1, bytes(40_000))
    reader = FrameReader()
    assert [len(reader.feed(large * 5, 9)), len(reader.feed(b"", 9)), len(reader.feed(b"", 9))] == [2, 2, 1]
    assert not reader.more
    assert len(reader.feed(large * 5)) == 5


def test_frames_left_to_cut_are_counted_as_held_and_are_no_stop_in_a_frame() -> None:
    beat = bytes_of(BY_NAME["heartbeat"])
    reader = FrameReader()
    assert len(reader.feed(beat * 10, 4)) == 4
    assert reader.more and reader.held == 10 * len(beat) and not reader.in_frame
    assert len(reader.feed(b"", 4)) == 4 and len(reader.feed(b"", 4)) == 2
    assert not reader.more and reader.held == 0


def test_an_empty_raw_block_is_one_empty_frame() -> None:
    (frame,) = frames_of(bytes_of(BY_NAME["stream_empty"]))
    assert frame.type == f.STREAM and frame.body == b""


@pytest.mark.parametrize("kind", sorted(f.MIN_BODY), ids=lambda k: f.FrameType(k).name)
def test_a_body_shorter_than_its_fixed_part_ends_the_reading(kind: int) -> None:
    shortest = f.MIN_BODY[kind]
    if not shortest:
        return
    for length in range(shortest):
        reader = FrameReader()
        assert reader.feed(f.HEADER.pack(1, kind, 1, length)) == []
        assert isinstance(reader.failure, IllegalPacket)


def test_length_is_judged_before_type() -> None:
    reader = FrameReader()
    reader.feed(f.HEADER.pack(1, 0x99, 1, f.DEFAULT_BODY_LIMIT + 1))
    assert isinstance(reader.failure, OversizedPacket)
    reader = FrameReader()
    reader.feed(f.HEADER.pack(1, 0x99, 1, f.DEFAULT_BODY_LIMIT))
    assert isinstance(reader.failure, UnsupportedPacket)


def test_the_limit_itself_is_accepted() -> None:
    reader = FrameReader(limit=100)
    (frame,) = reader.feed(f.pack_of_session(f.MESSAGE, 1, 1, b"x" * 92))
    assert len(frame.body) == 92
    reader.feed(f.pack_of_session(f.MESSAGE, 1, 1, b"x" * 93))
    assert isinstance(reader.failure, OversizedPacket)


def test_frames_before_a_fault_are_given_out_and_none_after_it() -> None:
    beat = bytes_of(BY_NAME["heartbeat"])
    reader = FrameReader()
    assert len(reader.feed(beat + beat + b"\x01\x00" + bytes(12) + beat)) == 2
    assert reader.failure is not None
    assert reader.feed(beat) == []


@pytest.mark.parametrize("kind", [f.DIS_CONN, f.HEARTBEAT, f.HEARTBEAT_ACK])
def test_a_body_where_none_belongs_is_skipped(kind: int) -> None:
    first, second = frames_of(f.pack(kind, 1, b"abc") + f.pack(kind, 2))
    assert (first.packet_id, second.packet_id) == (1, 2)


# -- writing and reading what we make ----------------------------------------------------------------------

IDS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
BYTES = st.binary(max_size=60)
CONN_DATA = st.builds(ConnData, meta=BYTES, error=TEXTS)
SESSION_DATA = st.builds(SessionData, meta=BYTES, error=TEXTS, peer=TEXTS)
KINDS = st.sampled_from
PACKETS = st.one_of(
    st.builds(packets.Conn, packet_id=IDS, flags=st.integers(0, 255), client_id=IDS, data=CONN_DATA),
    st.builds(packets.ConnAck, packet_id=IDS, code=st.integers(0, 255), client_id=IDS, data=CONN_DATA),
    st.builds(packets.Bare, type=KINDS([f.FrameType.DIS_CONN, f.FrameType.HEARTBEAT]), packet_id=IDS),
    st.builds(packets.DisConnAck, packet_id=IDS, data=CONN_DATA),
    st.builds(packets.Session, packet_id=IDS, flags=st.integers(0, 255), negotiate_id=IDS, data=SESSION_DATA),
    st.builds(packets.SessionAck, packet_id=IDS, negotiate_id=IDS, session_id=IDS, data=SESSION_DATA),
    st.builds(
        packets.Dismissal,
        type=KINDS([f.FrameType.DISMISS, f.FrameType.DISMISS_ACK]),
        packet_id=IDS,
        session_id=IDS,
        data=SESSION_DATA,
    ),
    st.builds(packets.Stream, packet_id=IDS, session_id=IDS, data=BYTES),
    st.builds(packets.RequestCancel, packet_id=IDS, session_id=IDS, reason=st.integers(0, 65535)),
    st.builds(packets.Register, packet_id=IDS, session_id=IDS, method=BYTES),
    st.builds(packets.RegisterAck, packet_id=IDS, session_id=IDS, data=st.builds(RegisterData, error=TEXTS)),
)


@settings(max_examples=200, deadline=None)
@given(PACKETS)
def test_what_is_written_is_read_again(packet: packets.Packet) -> None:
    whole = packets.encode(packet)
    (frame,) = frames_of(whole)
    assert packets.decode(frame) == packet
    assert packets.encode(packets.decode(frame)) == whole


def test_a_slice_is_bounded_in_bytes_of_all_but_raw_ones() -> None:
    request = f.pack_of_session(f.REQUEST, 1, 1, bytes(40_000))
    block = f.pack_of_session(f.STREAM, 2, 3, bytes(30_000))
    kinds = [f.REQUEST, f.REQUEST, f.STREAM, f.STREAM, f.REQUEST, f.REQUEST, f.STREAM]
    data = b"".join(block if kind == f.STREAM else request for kind in kinds)
    reader, sizes, got = FrameReader(), [], []
    rest = data
    while rest or reader.more:
        frames = reader.feed(rest, 32)
        rest = b""
        sizes.append(len(frames))
        got += [frame.type for frame in frames]
    # A Request that goes beyond the bound ends the slice; blocks that go beyond it do not.
    assert got == kinds and sizes == [2, 3, 2]
    assert [len(frames) for frames in (reader.feed(block * 40, 32), reader.feed(b"", 32))] == [32, 8]
    assert not reader.busy
