"""The tables of the machines: each state, each frame, each command, against the code."""

import runpy
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from frontier_tx.wire import frame as f
from frontier_tx.wire.body import ConnData, SessionData
from frontier_tx.wire.closing import CLOSING, ClosingHandshake, Input, Stage
from frontier_tx.wire.events import (
    Closing,
    ConnAccepted,
    ConnReceived,
    CreditGranted,
    SessionDismissed,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionRequested,
)
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.session import Session
from frontier_tx.wire.states import (
    COMMANDS,
    CONNECTION,
    SESSION,
    SESSION_COMMANDS,
    STATES_OF,
    Action,
    Role,
    SessionAction,
    SessionState,
    State,
)
from tests import packets as p
from tests.wire.ends import End, name_of

ROOT = Path(__file__).resolve().parents[2]
WINDOW = 4096


def of_session(session_id: int) -> dict[int, bytes]:
    """A good frame of each type that belongs to a session."""
    no_json = {f.STREAM, f.STREAM_CREDIT, f.REGISTER, f.REQUEST_CANCEL}
    return {
        **{kind: f.pack_of_session(kind, 9, session_id, b"{}") for kind in f.OF_SESSION - no_json},
        f.STREAM: f.pack_of_session(f.STREAM, 9, session_id, b"raw"),
        f.STREAM_CREDIT: f.pack_of_session(f.STREAM_CREDIT, 9, session_id, bytes(8)),
        f.REGISTER: f.pack_of_session(f.REGISTER, 9, session_id, b"method"),
        f.REQUEST_CANCEL: f.pack_of_session(f.REQUEST_CANCEL, 9, session_id, b"\0\1"),
    }


#: A good frame of every type, for session 1 where it has one.
FRAMES = {
    f.CONN: p.encode(p.Conn(packet_id=9)),
    f.CONN_ACK: p.encode(p.ConnAck(packet_id=1000, client_id=5)),
    f.DIS_CONN: f.pack(f.DIS_CONN, 9),
    f.DIS_CONN_ACK: f.pack(f.DIS_CONN_ACK, 9, b"\0{}"),
    f.HEARTBEAT: f.pack(f.HEARTBEAT, 9),
    f.HEARTBEAT_ACK: f.pack(f.HEARTBEAT_ACK, 9),
    f.SESSION: p.encode(p.Session(packet_id=9, negotiate_id=77)),
    f.SESSION_ACK: p.encode(p.SessionAck(packet_id=9, negotiate_id=77, session_id=77)),
    **of_session(1),
}


def test_the_frames_are_of_every_type() -> None:
    assert set(FRAMES) == set(f.MIN_BODY)


# -- the connection -------------------------------------------------------------------------------------------

GOODBYE = ["DisConnAck", "DisConn"]
TOLD_AND_SENT: dict[tuple[Role, State, int], tuple[list[type], list[str]]] = {
    (Role.SERVER, State.INIT, f.CONN): ([ConnReceived], []),
    (Role.CLIENT, State.CONN_SENT, f.CONN_ACK): ([ConnAccepted], []),
    (Role.CLIENT, State.CONN_SENT, f.DIS_CONN): ([Closing], GOODBYE),
}
for _role in Role:
    TOLD_AND_SENT |= {(_role, State.CONNECTED, kind): ([Frame], []) for kind in f.OF_APPLICATION}
    TOLD_AND_SENT |= {
        (_role, State.CONNECTED, f.SESSION): ([SessionRequested], []),
        (_role, State.CONNECTED, f.DISMISS): ([SessionDismissed], ["DismissAck", "Dismiss"]),
        (_role, State.CONNECTED, f.DIS_CONN): ([Closing], GOODBYE),
        (_role, State.CLOSING, f.DIS_CONN): ([], ["DisConnAck"]),
    }


def end_in(role: Role, state: State) -> End:
    """An end in the given state, output taken."""
    if state in (State.CONNECTED, State.CLOSING):
        end = End.connected(role)
        if state is State.CLOSING:
            end.connection._say_goodbye(end.now)
    else:
        end = End.server() if role is Role.SERVER else End(Role.CLIENT)
        if state is State.CONN_SENT:
            end.connection.connect()
        elif state is State.CONN_RECEIVED:
            end.feed(p.encode(p.Conn(packet_id=7)))
        elif state is State.CLOSED:
            end.connection.lost()
    end.sent()
    end.told.clear()
    assert end.connection.state is state
    return end


@pytest.mark.parametrize("key", CONNECTION, ids=lambda key: f"{key[0].value}-{key[1].value}-{name_of(key[2])}")
def test_every_frame_in_every_state(key: tuple[Role, State, int]) -> None:
    role, state, kind = key
    row = CONNECTION[key]
    end = end_in(role, state)
    told = end.feed(FRAMES[kind])
    assert end.connection.state in row.to
    if end.closed and state is not State.CLOSED:
        assert row.action is Action.ILLEGAL or kind == f.STREAM_CREDIT
        assert end.reason.startswith("illegal state for event: ")
        assert end.sent() == b""
        return
    wanted_told, wanted_sent = TOLD_AND_SENT.get(key, ([], []))
    if row.action is Action.GOT_HEARTBEAT:
        wanted_sent = ["HeartbeatAck"]
        told.clear()
    assert [type(item) for item in told] == wanted_told
    assert end.sent_types() == wanted_sent
    assert (row.action is Action.DROP) <= (not told and end.connection.state is state)


def test_the_table_is_complete_and_says_no_more_than_is_so() -> None:
    """Each row leads to all of the states that it names, and to no other: here are the frames that are not ordinary."""
    reached: dict[tuple[Role, State, int], set[State]] = defaultdict(set)

    def feed(end: End, *frames: bytes) -> None:
        for data in frames:
            before = end.connection.state
            end.feed(data)
            reached[end.connection.role, before, data[1]].add(end.connection.state)

    for role, states in STATES_OF.items():
        for state in states:
            for data in FRAMES.values():
                feed(end_in(role, state), data)
        for order in ((f.DIS_CONN, f.DIS_CONN_ACK), (f.DIS_CONN_ACK, f.DIS_CONN)):
            feed(end_in(role, State.CLOSING), *(FRAMES[kind] for kind in order))
        for order in ((f.DISMISS, f.DISMISS_ACK), (f.DISMISS_ACK, f.DISMISS)):
            end = end_in(role, State.CONNECTED)
            end.connection.close(end.now)
            feed(end, *(FRAMES[kind] for kind in order))
        feed(with_credit(role), FRAMES[f.STREAM_CREDIT])
    client = end_in(Role.CLIENT, State.CONN_SENT)
    feed(client, p.encode(p.ConnAck(packet_id=1, client_id=5)))
    feed(client, p.encode(p.ConnAck(packet_id=1000, code=1, data=ConnData(error="no"))))
    assert {key: set(row.to) for key, row in CONNECTION.items()} == reached


def with_credit(role: Role) -> End:
    """An end that is connected to one that speaks credit, as it does."""
    limits = Limits(stream_window_bytes=WINDOW)
    end = End.server(limits) if role is Role.SERVER else End.client(limits)
    data = ConnData(stream_window=WINDOW)
    if role is Role.SERVER:
        end.feed(p.encode(p.Conn(packet_id=7, data=data)))
        end.connection.accept(5, end.now)
    else:
        end.feed(p.encode(p.ConnAck(packet_id=1000, client_id=5, data=data)))
    end.sent()
    end.told.clear()
    return end


def command(end: End, what: str) -> None:
    """What the owner of a connection, or the clock, does."""
    connection, now = end.connection, end.now
    match what:
        case "connect":
            connection.connect()
        case "accept":
            connection.accept(5, now)
        case "refuse":
            connection.refuse("no", now)
        case "close":
            connection.close(now)
            if connection.connected:
                # Its session says goodbye first.
                end.feed(FRAMES[f.DISMISS] + FRAMES[f.DISMISS_ACK])
        case "silence":
            while connection.connected:
                connection.advance(connection.due)
        case "no handshake" | "no answer to DisConn":
            connection.advance(connection.due)
        case "lost":
            connection.lost()


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize(("who", "what", "froms", "to"), COMMANDS, ids=str)
def test_every_command(role: Role, who: str, what: str, froms: tuple[State, ...], to: State) -> None:
    for state in froms:
        if who in (role.value, "both") and state in STATES_OF[role]:
            end = end_in(role, state)
            command(end, what)
            assert end.connection.state is to


# -- sessions -------------------------------------------------------------------------------------------------

ID = 77


class Opened:
    """An end with a session in the given state; credit is spoken."""

    def __init__(self, role: Role, state: SessionState) -> None:
        self.end = end = with_credit(role)
        self.sessions = end.connection.sessions
        self.negotiate_id = self.packet_id = ID
        if state is not SessionState.UNKNOWN:
            self.negotiate_id = end.connection.open_session(b"", "", end.now)
            self.packet_id = self.sessions.opening[self.negotiate_id].packet_id
        if state not in (SessionState.UNKNOWN, SessionState.OPENING):
            end.feed(self.frames()[f.SESSION_ACK])
            frames = self.frames()
            if state in (SessionState.SENT, SessionState.ACKED):
                end.connection.dismiss(self.session, end.now)
            if state is SessionState.ACKED:
                end.feed(frames[f.DISMISS_ACK])
            elif state is SessionState.CROSSED:
                end.feed(frames[f.DISMISS])
        end.sent()
        end.told.clear()
        assert self.state is state

    @property
    def session(self) -> Session:
        return self.sessions.live[ID]

    @property
    def state(self) -> SessionState:
        if self.negotiate_id in self.sessions.opening:
            return SessionState.OPENING
        session = self.sessions.live.get(ID)
        return SessionState.UNKNOWN if session is None else SessionState(session.closing.stage.value)

    def frames(self, error: str = "") -> dict[int, bytes]:
        """A good frame of every type for this session."""
        ack = p.SessionAck(
            packet_id=self.packet_id, negotiate_id=self.negotiate_id, session_id=ID, data=SessionData(error=error)
        )
        asked = self.negotiate_id if self.state is SessionState.OPENING else ID
        return {
            f.SESSION: p.encode(p.Session(packet_id=9, negotiate_id=asked)),
            f.SESSION_ACK: p.encode(ack),
            **of_session(ID),
        }


DONE: dict[SessionAction, tuple[list[type], list[str]]] = {
    SessionAction.DROP: ([], []),
    SessionAction.ASK_OWNER: ([SessionRequested], []),
    SessionAction.IN_USE: ([], ["SessionAck"]),
    SessionAction.OPENED: ([SessionOpened], []),
    SessionAction.TAKE: ([Frame], []),
    SessionAction.TAKE_STREAM: ([Frame], []),
    SessionAction.CREDIT: ([CreditGranted], []),
    SessionAction.CLOSE: ([SessionDismissed], ["DismissAck", "Dismiss"]),
    SessionAction.CLOSE_TOO: ([], ["DismissAck"]),
    SessionAction.ACKNOWLEDGED: ([], []),
}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize("key", SESSION, ids=lambda key: f"{key[0].value}-{name_of(key[1])}")
def test_every_frame_in_every_state_of_a_session(role: Role, key: tuple[SessionState, int]) -> None:
    state, kind = key
    row = SESSION[key]
    opened = Opened(role, state)
    told = [type(item) for item in opened.end.feed(opened.frames()[kind])]
    assert opened.state in row.to
    wanted_told, wanted_sent = DONE[row.action]
    if row.action is SessionAction.CREDIT and state is not SessionState.OPEN:
        # It is counted; nothing more can be sent.
        wanted_told = []
    if opened.state is SessionState.UNKNOWN and state not in (SessionState.UNKNOWN, SessionState.OPENING):
        wanted_told = [*wanted_told, SessionEnded]
    assert told == wanted_told
    assert opened.end.sent_types() == wanted_sent
    assert opened.end.connection.connected


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_the_table_of_sessions_is_complete_and_says_no_more_than_is_so(role: Role) -> None:
    reached: dict[tuple[SessionState, int], set[SessionState]] = defaultdict(set)

    def feed(opened: Opened, data: bytes) -> None:
        before = opened.state
        opened.end.feed(data)
        reached[before, data[1]].add(opened.state)

    for state, kind in SESSION:
        opened = Opened(role, state)
        feed(opened, opened.frames()[kind])
    opening = Opened(role, SessionState.OPENING)
    feed(opening, opening.frames("no")[f.SESSION_ACK])
    feed(Opened(role, SessionState.OPEN), f.pack_of_session(f.STREAM, 9, ID, bytes(WINDOW + 1)))
    assert {key: set(row.to) for key, row in SESSION.items()} == reached


def session_command(opened: Opened, what: str) -> None:
    """What the owner of a session, or the clock, does."""
    connection, now = opened.end.connection, opened.end.now
    match what:
        case "open":
            opened.negotiate_id = connection.open_session(b"", "", now)
        case "accept":
            (request,) = opened.end.feed(opened.frames()[f.SESSION])
            assert connection.accept_session(request, now).id == ID
        case "dismiss":
            connection.dismiss(opened.session, now)
        case "no SessionAck" | "no answer to Dismiss":
            (told,) = connection.sessions.advance(now + 30)
            assert isinstance(told, SessionFailed | SessionEnded)


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
@pytest.mark.parametrize(("what", "froms", "to"), SESSION_COMMANDS, ids=str)
def test_every_command_to_a_session(role: Role, what: str, froms: tuple[SessionState, ...], to: SessionState) -> None:
    for state in froms:
        opened = Opened(role, state)
        session_command(opened, what)
        assert opened.state is to


# -- the closing handshake ------------------------------------------------------------------------------------

STEPS: dict[Input, Any] = {
    Input.SEND: ClosingHandshake.send,
    Input.REQUEST: ClosingHandshake.got_request,
    Input.ACK: ClosingHandshake.got_ack,
}


@pytest.mark.parametrize(("start", "step"), [(x, y) for x in Stage for y in Input], ids=lambda x: x.value)
def test_every_step_of_a_closing_handshake(start: Stage, step: Input) -> None:
    handshake = ClosingHandshake()
    handshake.stage = start
    said = {Input.SEND: start in (Stage.OPEN, Stage.RECEIVED)}.get(step)
    assert STEPS[step](handshake) is said
    assert handshake.stage is CLOSING[start, step]


@pytest.mark.parametrize("order", ["SRA", "SAR", "RSA"])
def test_it_is_done_when_both_asked_and_were_acknowledged(order: str) -> None:
    handshake = ClosingHandshake()
    steps = {"S": handshake.send, "R": handshake.got_request, "A": handshake.got_ack}
    for letter in order:
        assert not handshake.done
        steps[letter]()
    assert handshake.done


def test_the_drawing_is_current() -> None:
    for path, text in runpy.run_path(str(ROOT / "scripts" / "draw-state-tables"))["written"]().items():
        assert path.read_text() == text, f"{path.name} is stale; run scripts/draw-state-tables"
