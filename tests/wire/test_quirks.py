"""What an end of this wire must do though one would not guess it, and the times that bound everything."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import frontier_tx.wire
from frontier_tx.errors import MultiplexerClosed, TooManyPending
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import ConnData, SessionData, decode_message, message_json
from frontier_tx.wire.events import (
    Closing,
    ConnAccepted,
    ConnReceived,
    ConnRefused,
    HeartbeatReceived,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionRequested,
)
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.session_table import REFUSALS, REMEMBERED_EXPIRED
from frontier_tx.wire.states import Role, State
from frontier_tx.wire.times import parse_time
from tests import packets
from tests.wire.ends import CLIENT_ID, End, frames_of

MESSAGE = f.pack_of_session(f.MESSAGE, 50, 1, message_json(value=b"v"))
BOTH = pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER], ids=lambda role: role.value)


def session(packet_id: int, negotiate_id: int, acquire: bool) -> bytes:
    flags = packets.ACQUIRE_SESSION_ID if acquire else 0
    return packets.encode(packets.Session(packet_id=packet_id, flags=flags, negotiate_id=negotiate_id))


def ack(packet_id: int, negotiate_id: int, session_id: int, error: str = "") -> bytes:
    data = SessionData(error=error)
    return packets.encode(
        packets.SessionAck(packet_id=packet_id, negotiate_id=negotiate_id, session_id=session_id, data=data)
    )


def dismissal(kind: int, packet_id: int, session_id: int) -> bytes:
    return f.pack_of_session(kind, packet_id, session_id, b"{}")


def stream_of(session_id: int, data: bytes = b"raw") -> bytes:
    return f.pack_of_session(f.STREAM, 3, session_id, data)


def accepted(server: End, negotiate_id: int = 88) -> int:
    """Let the server accept a session of its client; return its id."""
    (request,) = server.feed(session(9, negotiate_id, acquire=True))
    made = server.connection.accept_session(request, server.now)
    server.sent()
    return made.id


# -- the handshake (quirks 1, 3, 4) ---------------------------------------------------------------------------


def test_the_server_writes_its_conn_ack_first_and_drops_what_came_before_it() -> None:
    end = End.server()
    told = end.feed(packets.encode(packets.Conn(packet_id=7)) + MESSAGE)
    assert [type(item) for item in told] == [ConnReceived]
    assert end.feed(MESSAGE) == [] and end.sent() == b""
    with pytest.raises(MultiplexerClosed):
        end.connection.open_session(b"", "", end.now)
    end.connection.accept(CLIENT_ID, end.now)
    end.connection.open_session(b"", "", end.now)
    assert end.sent_types() == ["ConnAck", "Session"]


def test_the_client_sends_nothing_after_conn_until_the_answer() -> None:
    end = End.client()
    assert end.sent_types() == ["Conn"]
    with pytest.raises(MultiplexerClosed):
        end.connection.open_session(b"", "", end.now)
    end.feed(MESSAGE + session(5, 6, acquire=False) + dismissal(f.DISMISS, 5, 1))
    end.advance(9.9)
    assert end.sent() == b"" and end.told == []


@pytest.mark.parametrize(
    ("code", "error", "kind"),
    [(0, "", ConnAccepted), (1, "", ConnAccepted), (0, "no", ConnRefused), (1, "no", ConnRefused)],
)
def test_the_client_judges_a_conn_ack_by_its_text(code: int, error: str, kind: type) -> None:
    end = End.client()
    (first, *_) = end.feed(
        packets.encode(packets.ConnAck(packet_id=1000, code=code, client_id=5, data=ConnData(error=error)))
    )
    assert type(first) is kind and end.connection.client_id == 5


def test_a_refusal_carries_code_and_text_and_a_goodbye_follows() -> None:
    end = End.server()
    end.feed(packets.encode(packets.Conn(packet_id=7)))
    assert [type(item) for item in end.connection.refuse("", end.now, 3)] == [Closing]
    first, second = frames_of(end.sent())
    answer = packets.decode(first)
    assert isinstance(answer, packets.ConnAck)
    assert (answer.packet_id, answer.code, answer.client_id, answer.data.error) == (7, 1, 3, "refused")
    assert second.type == f.DIS_CONN
    end.feed(f.pack(f.DIS_CONN, 1) + f.pack(f.DIS_CONN_ACK, second.packet_id, b"\0{}"))
    assert end.reason == ""


def test_a_conn_ack_for_somebody_else_is_no_answer() -> None:
    end = End.client()
    assert end.feed(packets.encode(packets.ConnAck(packet_id=1, client_id=5))) == []
    assert [type(x) for x in end.feed(packets.encode(packets.ConnAck(packet_id=1000)))] == [ConnAccepted]


@BOTH
def test_a_handshake_takes_ten_seconds_at_most(role: Role) -> None:
    end = End.server() if role is Role.SERVER else End.client()
    end.advance(9.99)
    assert not end.closed
    end.advance(0.02)
    assert end.reason == "timeout: no handshake"


def test_an_answer_to_a_client_that_went_away_does_nothing() -> None:
    end = End.server()
    end.feed(packets.encode(packets.Conn(packet_id=7)))
    end.connection.lost()
    end.connection.accept(5, end.now)
    assert end.connection.refuse("late", end.now) == []
    assert end.closed and end.sent() == b"" and not end.connection.sessions.live


def test_no_acquire_bit_means_that_the_wanted_id_is_the_id() -> None:
    end = End.server()
    (told,) = end.feed(packets.encode(packets.Conn(packet_id=7, flags=0x10, client_id=77)))
    assert (told.wanted_id, told.acquire) == (77, False)


def test_our_conn_is_the_one_that_clients_send() -> None:
    end = End.client()
    assert end.sent()[14:] == bytes.fromhex("1800") + bytes(8) + b'{"meta":"bWV0YQ=="}'


# -- bodies (2, 13, 17, 19) -----------------------------------------------------------------------------------


def test_every_message_body_carries_both_deadlines() -> None:
    for fields in ({}, {"value": b"v"}, {"error": "e"}, {"key": b"k", "custom": b"c", "topic": "t"}):
        text = message_json(**fields)  # type: ignore[arg-type]
        assert b'"deadline":"' in text and b'"context":{"deadline":"' in text


def test_keys_are_read_without_regard_to_case() -> None:
    assert decode_message(b'{"VALUE":"dg==","Deadline":"0001-01-01T00:00:00Z"}')[0].payload == b"v"


def test_deadlines_of_every_offset_are_the_same_instant() -> None:
    texts = ["2026-01-01T12:00:00Z", "2026-01-01T14:00:00+02:00", "2026-01-01T06:30:00-05:30"]
    assert len({parse_time(text) for text in texts}) == 1


@pytest.mark.parametrize("version", [0, 2, 9, 255])
def test_any_version_byte_is_accepted(version: int) -> None:
    end = End.connected(Role.SERVER)
    assert len(end.feed(bytes((version,)) + MESSAGE[1:])) == 1


def test_a_response_passes_whatever_it_holds() -> None:
    data, text = decode_message(b'{"custom":"Yw==","value":"dg=="}')
    assert (data.custom, data.payload) == (b"c", b"v") and b"custom" in text


# -- sessions (5, 6, 8, 12, 16) ---------------------------------------------------------------------------------


def test_the_server_chooses_the_id_of_a_session_that_the_client_opens() -> None:
    end = End.connected(Role.SERVER)
    (request,) = end.feed(session(9, 88, acquire=True))
    made = end.connection.accept_session(request, end.now)
    (frame,) = frames_of(end.sent())
    answer = packets.decode(frame)
    assert isinstance(answer, packets.SessionAck)
    assert (answer.packet_id, answer.negotiate_id, answer.session_id) == (9, 88, made.id)
    assert made.id not in (0, 1, 88) and made.id in end.connection.sessions.live


def test_the_id_of_a_session_that_the_server_opens_is_the_negotiate_id() -> None:
    end = End.connected(Role.SERVER)
    negotiate = end.connection.open_session(b"m", "p", end.now)
    (frame,) = frames_of(end.sent())
    packet = packets.decode(frame)
    assert isinstance(packet, packets.Session)
    assert (packet.flags, packet.negotiate_id, packet.data.meta, packet.data.peer) == (0, negotiate, b"m", "p")
    (opened,) = end.feed(ack(frame.packet_id, negotiate, negotiate))
    assert (opened.session.id, opened.session.meta, opened.session.peer) == (negotiate, b"m", "p")
    client = End.connected(Role.CLIENT)
    (request,) = client.feed(session(9, 1234, acquire=False))
    assert client.connection.accept_session(request, client.now).id == 1234


def test_an_ack_is_matched_by_both_ids() -> None:
    end = End.connected(Role.CLIENT)
    negotiate = end.connection.open_session(b"", "", end.now)
    (frame,) = frames_of(end.sent())
    assert end.feed(ack(frame.packet_id + 2, negotiate, 500)) == []
    assert end.feed(ack(frame.packet_id, negotiate + 2, 500)) == []
    assert [type(x) for x in end.feed(ack(frame.packet_id, negotiate, 500))] == [SessionOpened]


def test_the_opener_knows_the_session_as_soon_as_the_ack_is_read() -> None:
    end = End.connected(Role.CLIENT)
    negotiate = end.connection.open_session(b"", "", end.now)
    (frame,) = frames_of(end.sent())
    told = end.feed(ack(frame.packet_id, negotiate, 500) + stream_of(500))
    assert [type(item) for item in told] == [SessionOpened, Frame]


def test_an_error_in_an_ack_is_a_failure() -> None:
    end = End.connected(Role.CLIENT)
    negotiate = end.connection.open_session(b"", "", end.now)
    (frame,) = frames_of(end.sent())
    assert end.feed(ack(frame.packet_id, negotiate, 500, "no")) == [SessionFailed(negotiate, "no")]
    assert list(end.connection.sessions.live) == [1] and not end.connection.sessions.opening


@pytest.mark.parametrize("given", [0, 1])
def test_an_ack_with_an_id_in_use_is_a_failure(given: int) -> None:
    end = End.connected(Role.CLIENT)
    negotiate = end.connection.open_session(b"", "", end.now)
    (frame,) = frames_of(end.sent())
    assert end.feed(ack(frame.packet_id, negotiate, given)) == [SessionFailed(negotiate, "session id in use")]
    assert end.serve(MESSAGE) == ["MessageAck"]


@pytest.mark.parametrize("wanted", [0, 1, 1234])
def test_a_session_id_in_use_is_refused_and_the_live_session_goes_on(wanted: int) -> None:
    end = End.connected(Role.CLIENT)
    end.serve(session(9, 1234, acquire=False))
    told = end.feed(session(11, wanted, acquire=False))
    assert told == []
    (frame,) = frames_of(end.sent())
    answer = packets.decode(frame)
    assert isinstance(answer, packets.SessionAck)
    assert (answer.negotiate_id, answer.session_id, answer.data.error) == (wanted, 0, "session id in use")
    assert sorted(end.connection.sessions.live) == [1, 1234]


def test_an_id_asked_for_twice_at_once_is_given_once() -> None:
    end = End.connected(Role.CLIENT)
    first, second = end.feed(session(9, 1234, acquire=False) + session(11, 1234, acquire=False))
    ids = {end.connection.accept_session(request, end.now).id for request in (first, second)}
    assert len(ids) == 2


def test_an_opening_fails_after_thirty_seconds_and_a_late_ack_is_dismissed() -> None:
    end = End.connected(Role.CLIENT)
    negotiate = end.connection.open_session(b"", "", end.now)
    (frame,) = frames_of(end.sent())
    end.serve(f.pack(f.HEARTBEAT_ACK, 1))
    assert end.advance(29.9) == []
    assert end.advance(0.2) == [SessionFailed(negotiate, "timeout")]
    end.sent()
    assert end.feed(ack(frame.packet_id, negotiate, 500)) == []
    (dismiss,) = frames_of(end.sent())
    assert (dismiss.type, dismiss.session_id) == (f.DISMISS, 500)
    assert end.feed(ack(frame.packet_id, negotiate, 500)) == [] and end.sent() == b""


def test_the_server_holds_its_first_frames_until_the_opener_speaks() -> None:
    end = End.connected(Role.SERVER)
    made = end.connection.sessions.live[accepted(end)]
    end.connection.sessions.write(made, stream_of(made.id, b"1"))
    end.connection.sessions.write(made, stream_of(made.id, b"2"))
    assert end.sent() == b"" and made.held_bytes == 46
    end.feed(stream_of(made.id))
    assert [frame.body for frame in frames_of(end.sent())] == [b"1", b"2"] and made.held_bytes == 0


def test_the_server_holds_its_first_frames_fifteen_milliseconds() -> None:
    end = End.connected(Role.SERVER)
    made = end.connection.sessions.live[accepted(end)]
    end.connection.sessions.write(made, stream_of(made.id))
    end.advance(0.014)
    assert end.sent() == b""
    end.advance(0.002)
    assert end.sent_types() == ["Stream"]
    end.connection.sessions.write(made, stream_of(made.id))
    assert end.sent_types() == ["Stream"]


def test_a_dismiss_waits_behind_what_is_held() -> None:
    end = End.connected(Role.SERVER)
    made = end.connection.sessions.live[accepted(end)]
    end.connection.sessions.write(made, stream_of(made.id))
    end.connection.dismiss(made, end.now)
    assert end.sent() == b""
    end.advance(0.02)
    assert end.sent_types() == ["Stream", "Dismiss"]


def test_what_is_held_leaves_before_the_answer_to_a_dismiss() -> None:
    end = End.connected(Role.SERVER)
    made = end.connection.sessions.live[accepted(end)]
    end.connection.sessions.write(made, stream_of(made.id))
    end.feed(dismissal(f.DISMISS, 70, made.id))
    assert end.sent_types() == ["Stream", "DismissAck", "Dismiss"]


def test_neither_clients_nor_server_openers_hold_anything() -> None:
    client = End.connected(Role.CLIENT)
    (request,) = client.feed(session(9, 1234, acquire=False))
    assert client.connection.accept_session(request, client.now).held is None
    server = End.connected(Role.SERVER)
    negotiate = server.connection.open_session(b"", "", server.now)
    (frame,) = frames_of(server.sent())
    (opened,) = server.feed(ack(frame.packet_id, negotiate, negotiate))
    assert opened.session.held is None


@BOTH
def test_unknown_sessions_and_pending_ids_are_dropped_in_silence(role: Role) -> None:
    end = End.connected(role)
    for kind in f.OF_SESSION - {f.STREAM_CREDIT}:
        body = b"\0\1" if kind == f.REQUEST_CANCEL else b"{}"
        assert end.feed(f.pack_of_session(kind, 5, 12345, body)) == []
    assert end.feed(ack(5, 12345, 6)) == []
    assert end.sent() == b"" and end.connection.connected


def test_to_refuse_a_session_is_to_accept_and_dismiss_it() -> None:
    end = End.connected(Role.CLIENT)
    (request,) = end.feed(session(9, 1234, acquire=False))
    end.connection.refuse_session(request, end.now)
    assert end.sent_types() == ["SessionAck", "Dismiss"]
    end.feed(dismissal(f.DISMISS_ACK, 1000, 1234) + dismissal(f.DISMISS, 5, 1234))
    assert list(end.connection.sessions.live) == [1]


@pytest.mark.parametrize("lost", [True, False])
def test_a_session_accepted_too_late_is_over_already(lost: bool) -> None:
    end = End.connected(Role.CLIENT)
    (request,) = end.feed(session(9, 1234, acquire=False))
    if lost:
        end.connection.lost()
    else:
        end.feed(f.pack(f.DIS_CONN, 5))
    end.sent()
    made = end.connection.accept_session(request, end.now)
    end.connection.refuse_session(request, end.now)
    assert not made.writable and 1234 not in end.connection.sessions.live and end.sent() == b""


def test_only_so_many_late_acks_are_remembered() -> None:
    end = End.connected(Role.SERVER)
    asked = []
    for _ in range(REMEMBERED_EXPIRED + 1):
        asked.append((end.connection.open_session(b"", "", end.now), frames_of(end.sent())[0].packet_id))
    end.advance(30.1)
    (oldest, first), (newest, last) = asked[0], asked[-1]
    end.feed(ack(first, oldest, oldest))
    assert end.sent() == b""
    end.feed(ack(last, newest, newest))
    assert end.sent_types() == ["Dismiss"]


@BOTH
def test_calls_and_registrations_pass_in_any_order_and_number(role: Role) -> None:
    """A cancel takes nothing away, ids may repeat, and nothing needs to be registered: that is the application's."""
    end = End.connected(role)
    request = f.pack_of_session(f.REQUEST, 5, 1, message_json(key=b"m"))
    cancel = f.pack_of_session(f.REQUEST_CANCEL, 5, 1, b"\0\1")
    response = f.pack_of_session(f.RESPONSE, 5, 1, message_json(key=b"m"))
    register = f.pack_of_session(f.REGISTER, 5, 1, b"m")
    told = end.feed(request + request + cancel + response + response + register + register)
    assert [item.type for item in told] == [
        f.REQUEST, f.REQUEST, f.REQUEST_CANCEL, f.RESPONSE, f.RESPONSE, f.REGISTER, f.REGISTER,
    ]  # fmt: skip


def test_ids_are_any_64_bit_numbers() -> None:
    end = End.connected(Role.CLIENT)
    top = 2**64 - 1
    (request,) = end.feed(session(top, top, acquire=False))
    assert end.connection.accept_session(request, end.now).id == top
    (frame,) = frames_of(end.sent())
    assert frame.packet_id == top
    assert len(end.feed(stream_of(top))) == 1


def test_as_many_sessions_as_the_limit_says() -> None:
    end = End.connected(Role.SERVER, Limits(sessions_per_connection=2))
    end.connection.open_session(b"", "", end.now)
    with pytest.raises(TooManyPending):
        end.connection.open_session(b"", "", end.now)
    other = End.connected(Role.CLIENT, Limits(sessions_per_connection=2))
    assert len(other.feed(session(9, 50, acquire=False) + session(9, 52, acquire=False))) == 1
    ack, end_of_it = (packets.decode(frame) for frame in frames_of(other.sent()))
    assert isinstance(ack, packets.SessionAck) and ack.session_id == 52 and not ack.data.error
    assert isinstance(end_of_it, packets.Dismissal) and end_of_it.session_id == 52


def test_beyond_the_places_for_refusals_a_session_is_refused_in_its_ack() -> None:
    end = End.connected(Role.CLIENT, Limits(sessions_per_connection=2))
    told = end.feed(b"".join(session(9, number, acquire=False) for number in range(50, 50 + 2 * REFUSALS)))
    assert len(told) == 1
    acks = [ack for frame in frames_of(end.sent()) if isinstance(ack := packets.decode(frame), packets.SessionAck)]
    assert [ack.data.error for ack in acks] == [""] * REFUSALS + ["too many pending"] * (REFUSALS - 1)


def test_what_waits_for_its_time_is_not_looked_at_before() -> None:
    end = End.connected(Role.SERVER)
    for number in range(50, 55):
        (request,) = end.feed(session(9, number, acquire=True))
        assert isinstance(request, SessionRequested)
        end.connection.refuse_session(request, end.now)
        end.advance(0.005)
    sent = end.sent_types()
    assert sent.count("Dismiss") == 2
    end.advance(0.015)
    assert end.sent_types().count("Dismiss") == 3
    assert len(end.connection.sessions.live) == 6
    end.advance(29.9)
    end.feed(f.pack(f.HEARTBEAT, 5))
    end.advance(0.1)
    assert list(end.connection.sessions.live) == [1]


# -- goodbyes (7, 8, 9, 20) ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("acks_first", [True, False])
def test_a_session_is_dismissed_in_any_order(role: Role, acks_first: bool) -> None:
    end = End.connected(role)
    end.connection.dismiss(end.connection.sessions.live[1], end.now)
    (mine,) = frames_of(end.sent())
    theirs = [dismissal(f.DISMISS_ACK, mine.packet_id, 1), dismissal(f.DISMISS, 77, 1)]
    told = end.feed(b"".join(theirs if acks_first else theirs[::-1]))
    assert [type(item) for item in told] == [SessionEnded]
    assert end.sent_types() == ["DismissAck"]
    assert end.connection.connected and not end.connection.sessions.live


def test_a_dismiss_is_answered_for_a_session_that_is_closing() -> None:
    end = End.connected(Role.SERVER)
    end.connection.dismiss(end.connection.sessions.live[1], end.now)
    end.sent()
    end.feed(dismissal(f.DISMISS, 77, 1) + dismissal(f.DISMISS, 78, 1))
    assert end.sent_types() == ["DismissAck", "DismissAck"]


def test_an_unasked_dismiss_ack_changes_nothing() -> None:
    end = End.connected(Role.SERVER)
    assert end.feed(dismissal(f.DISMISS_ACK, 5, 1)) == []
    assert end.serve(MESSAGE) == ["MessageAck"]
    assert end.feed(f.pack(f.DIS_CONN_ACK, 5, b"\0{}")) == [] and end.connection.connected


def test_frames_of_a_session_that_is_being_dismissed_still_arrive() -> None:
    end = End.connected(Role.SERVER)
    end.connection.dismiss(end.connection.sessions.live[1], end.now)
    assert [type(item) for item in end.feed(MESSAGE)] == [Frame]


def test_a_peer_may_dismiss_session_1_and_keep_the_connection() -> None:
    end = End.connected(Role.SERVER)
    assert end.serve(dismissal(f.DISMISS, 5, 1)) == ["DismissAck", "Dismiss"]
    end.serve(dismissal(f.DISMISS_ACK, 1000, 1))
    assert end.connection.connected and not end.connection.sessions.live
    assert end.serve(session(9, 88, acquire=True)) == ["SessionAck"]


def test_an_unanswered_dismiss_is_given_up_after_thirty_seconds() -> None:
    end = End.connected(Role.SERVER)
    end.connection.dismiss(end.connection.sessions.live[1], end.now)
    end.advance(29.9)
    assert list(end.connection.sessions.live) == [1]
    assert [type(item) for item in end.advance(0.2)] == [SessionEnded]
    assert not end.connection.sessions.live


def test_closing_dismisses_every_session_before_the_connection() -> None:
    end = End.connected(Role.SERVER)
    made = accepted(end)
    assert end.connection.close(end.now) == []
    mine = frames_of(end.sent())
    assert [(frame.type, frame.session_id) for frame in mine] == [(f.DISMISS, 1), (f.DISMISS, made)]
    for frame in mine:
        end.feed(dismissal(f.DISMISS_ACK, frame.packet_id, frame.session_id))
        assert end.sent_types() == []
        end.feed(dismissal(f.DISMISS, 70, frame.session_id))
        assert end.sent_types() == ["DismissAck"] + ["DisConn"] * (frame.session_id == made)
    end.feed(f.pack(f.DIS_CONN, 5))
    assert end.sent_types() == ["DisConnAck"] and not end.closed
    end.feed(f.pack(f.DIS_CONN_ACK, 5, b"\0{}"))
    assert end.reason == ""
    assert [type(item) for item in end.told].count(Closing) == 1
    assert end.connection.close(end.now) == []


@BOTH
def test_a_goodbye_that_nobody_answers_is_bounded(role: Role) -> None:
    end = End.connected(role)
    end.connection.close(end.now)
    end.advance(2.4)
    assert end.sent_types() == ["Dismiss"]
    end.advance(0.2)
    assert end.sent_types() == ["DisConn"]
    end.advance(2.3)
    assert not end.connection.closed
    end.advance(0.2)
    assert end.reason == "goodbye was not answered"


@BOTH
def test_nothing_new_opens_while_closing(role: Role) -> None:
    end = End.connected(role)
    negotiate = end.connection.open_session(b"", "", end.now)
    (asked,) = frames_of(end.sent())
    end.feed(session(9, 88, acquire=role is Role.SERVER))
    request = end.told.pop()
    assert isinstance(request, SessionRequested)
    end.connection.close(end.now)
    with pytest.raises(MultiplexerClosed):
        end.connection.open_session(b"", "", end.now)
    assert not end.connection.accept_session(request, end.now).writable
    (opened,) = end.feed(ack(asked.packet_id, negotiate, negotiate))
    assert not opened.session.writable
    end.sent()
    assert end.feed(session(11, 90, acquire=True)) == [] and end.sent() == b""


def test_a_broken_frame_closes_without_a_goodbye() -> None:
    end = End.connected(Role.SERVER)
    end.feed(MESSAGE + b"\x01\x99" + bytes(12))
    assert type(end.told[0]) is Frame
    assert end.reason == "unsupported packet" and end.sent() == b""


# -- heartbeats (10) ------------------------------------------------------------------------------------------------


def test_only_the_client_sends_heartbeats_and_only_the_server_answers() -> None:
    client, server = End.connected(Role.CLIENT), End.connected(Role.SERVER)
    client.advance(20.0)
    assert client.sent_types() == ["Heartbeat"]
    assert client.feed(f.pack(f.HEARTBEAT, 5)) == [] and client.sent() == b""
    (told,) = server.feed(f.pack(f.HEARTBEAT, 5))
    assert isinstance(told, HeartbeatReceived)
    (frame,) = frames_of(server.sent())
    assert (frame.type, frame.packet_id) == (f.HEARTBEAT_ACK, 5)
    server.advance(39.0)
    assert server.sent() == b""


@pytest.mark.parametrize(("exponent", "seconds"), [(0, 5), (1, 20), (2, 80), (3, 320)])
def test_the_server_watches_for_twice_the_interval_and_any_frame_feeds_it(exponent: int, seconds: int) -> None:
    end = End.server()
    end.feed(packets.encode(packets.Conn(packet_id=7, flags=8 | exponent << 4)))
    end.connection.accept(5, end.now)
    end.sent()
    end.advance(2 * seconds - 0.1)
    end.feed(stream_of(1))
    end.advance(2 * seconds - 0.1)
    assert end.sent() == b""
    end.advance(0.2)
    assert end.sent_types() == ["DisConn"]
    end.advance(5.0)
    assert end.reason == "goodbye was not answered"


def test_two_unanswered_heartbeats_are_a_loss() -> None:
    end = End.connected(Role.CLIENT)
    end.advance(39.0)
    end.feed(f.pack(f.HEARTBEAT_ACK, 5))
    end.advance(40.9)
    assert not end.closed
    end.advance(0.2)
    assert end.reason == "timeout: two heartbeats were not answered"


@BOTH
def test_a_goodbye_is_not_disturbed_by_older_timers(role: Role) -> None:
    end = End.connected(role)
    end.advance(18.0)
    end.feed(f.pack(f.DIS_CONN, 5))
    assert end.connection.state is State.CLOSING
    end.advance(4.9)
    assert not end.closed
    end.advance(0.2)
    assert end.reason == "goodbye was not answered"


# -- a peer that stops in the middle ----------------------------------------------------------------------------------


def test_a_peer_in_the_middle_of_a_frame_must_go_on() -> None:
    end = End.connected(Role.SERVER, Limits(frame_stall_seconds=10.0, frame_stall_bytes=100))
    whole = f.pack_of_session(f.MESSAGE, 5, 1, message_json(value=bytes(3000)))
    for at in range(0, 1000, 100):
        end.feed(whole[at : at + 100])
        end.advance(9.0)
        assert not end.closed
    for at in range(1000, 1050, 10):
        end.feed(whole[at : at + 10])
        end.advance(1.5)
    end.advance(3.0)
    assert end.reason == "timeout: the peer stopped in the middle of a frame"


def test_a_raw_block_stalls_like_any_frame() -> None:
    end = End.connected(Role.SERVER)
    end.feed(stream_of(1, bytes(500))[:-1])
    end.advance(20.1)
    assert end.reason == "timeout: the peer stopped in the middle of a frame"


def test_a_peer_that_is_not_listened_to_is_not_late() -> None:
    end = End.connected(Role.SERVER)
    end.feed(MESSAGE[:20])
    end.connection.reading(False, end.now)
    end.advance(500.0)
    assert not end.closed and end.sent() == b""
    end.connection.reading(True, end.now)
    end.advance(19.9)
    assert not end.closed
    end.advance(0.2)
    assert end.reason == "timeout: the peer stopped in the middle of a frame"
    client = End.connected(Role.CLIENT)
    client.connection.reading(False, client.now)
    client.advance(500.0)
    assert set(client.sent_types()) == {"Heartbeat"} and not client.closed
    client.connection.reading(True, client.now)
    client.advance(70.0)
    assert client.reason == "timeout: two heartbeats were not answered"


# -- frame_limit, the extension ---------------------------------------------------------------------------------------

LARGE = 16_777_216


def conn_frame(limit: int) -> bytes:
    return packets.encode(packets.Conn(packet_id=7, data=ConnData(frame_limit=limit)))


@pytest.mark.parametrize(
    ("declared", "taken", "answered"),
    [(0, 10_485_760, 0), (5, 10_485_760, 0), (12_000_000, 12_000_000, 12_000_000), (2**40, LARGE, LARGE)],
)
def test_the_server_takes_larger_frames_from_a_client_that_takes_them(declared: int, taken: int, answered: int) -> None:
    end = End.server()
    end.feed(conn_frame(declared))
    end.connection.accept(5, end.now)
    (frame,) = frames_of(end.sent())
    answer = packets.decode(frame)
    assert isinstance(answer, packets.ConnAck) and answer.data.frame_limit == answered
    assert end.connection.reader.limit == taken
    assert end.connection.fits(max(10_485_760, declared))
    assert not end.connection.fits(max(10_485_760, declared) + 1)
    end.feed(f.HEADER.pack(1, f.MESSAGE, 5, taken))
    assert not end.closed
    other = End.connected(Role.SERVER)
    other.connection.reader.limit = taken
    other.feed(f.HEADER.pack(1, f.MESSAGE, 5, taken + 1))
    assert other.closed


def test_the_client_declares_its_limit_and_learns_the_servers() -> None:
    end = End.client(frame_limit=LARGE)
    assert b'"frame_limit":16777216' in end.sent()
    assert end.connection.reader.limit == LARGE
    end.feed(packets.encode(packets.ConnAck(packet_id=1000, client_id=5, data=ConnData(frame_limit=LARGE))))
    assert end.connection.fits(LARGE) and not end.connection.fits(LARGE + 1)
    plain = End.connected(Role.CLIENT)
    assert not plain.connection.fits(10_485_761)


def test_before_the_handshake_a_frame_is_small() -> None:
    end = End.server(Limits(handshake_bytes=1000))
    end.feed(packets.encode(packets.Conn(packet_id=7, data=ConnData(meta=bytes(1000)))))
    assert end.reason.startswith("packet declared length exceeds")


# -- purity ---------------------------------------------------------------------------------------------------

PURE = [
    "frame",
    "body",
    "gojson",
    "times",
    "ids",
    "errors",
    "events",
    "closing",
    "fixed",
    "session",
    "session_table",
    "limits",
    "states",
]
PURE.append("connection")


def test_the_pure_modules_load_without_twisted() -> None:
    loads = "; ".join(f"import frontier_tx.wire.{name}" for name in PURE)
    check = f"import sys; {loads}; print([name for name in sys.modules if name.startswith('twisted')])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_names_no_input_or_output(name: str) -> None:
    source = Path(frontier_tx.wire.__file__).with_name(f"{name}.py").read_text("utf-8")
    named = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add((node.module or "").split(".")[0])
    assert not named & {"twisted", "socket", "asyncio", "threading", "select", "ssl"}
