"""The machines of a connection and of a session as tables: what a frame does in each state (docs/state-machines.md).

``connection`` runs on ``CONNECTION``, and ``session_table`` does what ``SESSION`` says. Both are complete: each state,
each type of frame.
"""

from enum import Enum
from typing import NamedTuple

from frontier_tx.wire import frame as f


class Role(Enum):
    """Who dialled is the client."""

    CLIENT = "client"
    SERVER = "server"


class State(Enum):
    """Where a connection stands; its ``closing`` handshake has states of its own."""

    INIT = "init"
    CONN_SENT = "conn_sent"
    CONN_RECEIVED = "conn_received"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"


class Action(Enum):
    """What is done with a frame."""

    DROP = "drop"
    ILLEGAL = "protocol error"
    TAKE = "pass on, if its session is live"
    GOT_CONN = "ask the owner"
    GOT_CONN_ACK = "accepted, or refused: send DisConn"
    GOT_HEARTBEAT = "send HeartbeatAck"
    GOT_HEARTBEAT_ACK = "the peer is alive"
    GOT_SESSION = "to the session machine: Session"
    GOT_SESSION_ACK = "to the session machine: SessionAck"
    GOT_DISMISS = "to the session machine: Dismiss"
    GOT_DISMISS_ACK = "to the session machine: DismissAck"
    GOT_CREDIT = "to the session machine; protocol error where no credit is spoken"
    GOT_DIS_CONN = "send DisConnAck, and DisConn if not sent yet"
    GOT_DIS_CONN_ACK = "acknowledged"
    GOT_STRAY_ACK = "read, of no account"


class Row(NamedTuple):
    """An action, and the states that it may lead to.

    A body that the action cannot read leads to CLOSED; that is not repeated here.
    """

    action: Action
    to: tuple[State, ...]


_C, _S = Role.CLIENT, Role.SERVER
_INIT, _CONN_SENT, _CONN_RECEIVED, _CONNECTED, _CLOSING, _CLOSED = State
#: The states in which each end may be.
STATES_OF: dict[Role, tuple[State, ...]] = {
    _C: (_INIT, _CONN_SENT, _CONNECTED, _CLOSING, _CLOSED),
    _S: (_INIT, _CONN_RECEIVED, _CONNECTED, _CLOSING, _CLOSED),
}
_DIS_CONN, _DIS_CONN_ACK = Row(Action.GOT_DIS_CONN, (_CLOSING,)), Row(Action.GOT_DIS_CONN_ACK, (_CLOSING, _CLOSED))
_ILLEGAL = Row(Action.ILLEGAL, (_CLOSED,))
#: Of either end.
_BOTH: dict[tuple[State, int], Row] = {
    **{(_CONNECTED, kind): Row(Action.TAKE, (_CONNECTED,)) for kind in f.OF_APPLICATION},
    (_CONNECTED, f.SESSION): Row(Action.GOT_SESSION, (_CONNECTED,)),
    (_CONNECTED, f.SESSION_ACK): Row(Action.GOT_SESSION_ACK, (_CONNECTED,)),
    # The last session of a connection that is to be closed ends: DisConn follows.
    (_CONNECTED, f.DISMISS): Row(Action.GOT_DISMISS, (_CONNECTED, _CLOSING)),
    (_CONNECTED, f.DISMISS_ACK): Row(Action.GOT_DISMISS_ACK, (_CONNECTED, _CLOSING)),
    (_CONNECTED, f.STREAM_CREDIT): Row(Action.GOT_CREDIT, (_CONNECTED, _CLOSED)),
    (_CONNECTED, f.DIS_CONN): _DIS_CONN,
    (_CONNECTED, f.DIS_CONN_ACK): Row(Action.GOT_STRAY_ACK, (_CONNECTED,)),
    (_CLOSING, f.DIS_CONN): Row(Action.GOT_DIS_CONN, (_CLOSING, _CLOSED)),
    (_CLOSING, f.DIS_CONN_ACK): _DIS_CONN_ACK,
}
_OF_ONE: dict[tuple[Role, State, int], Row] = {
    (_S, _INIT, f.CONN): Row(Action.GOT_CONN, (_CONN_RECEIVED,)),
    (_S, _INIT, f.DIS_CONN): _ILLEGAL,
    (_S, _INIT, f.DIS_CONN_ACK): _ILLEGAL,
    (_S, _CONN_RECEIVED, f.CONN): _ILLEGAL,
    (_S, _CONN_RECEIVED, f.DIS_CONN): _ILLEGAL,
    (_S, _CONN_RECEIVED, f.DIS_CONN_ACK): _ILLEGAL,
    (_S, _CONNECTED, f.CONN): _ILLEGAL,
    (_S, _CONNECTED, f.HEARTBEAT): Row(Action.GOT_HEARTBEAT, (_CONNECTED,)),
    # One with another packet id answers nobody.
    (_C, _CONN_SENT, f.CONN_ACK): Row(Action.GOT_CONN_ACK, (_CONN_SENT, _CONNECTED, _CLOSING)),
    (_C, _CONN_SENT, f.HEARTBEAT_ACK): _ILLEGAL,
    (_C, _CONN_SENT, f.DIS_CONN): _DIS_CONN,
    (_C, _CONN_SENT, f.DIS_CONN_ACK): _ILLEGAL,
    (_C, _CONNECTED, f.CONN_ACK): _ILLEGAL,
    (_C, _CONNECTED, f.HEARTBEAT_ACK): Row(Action.GOT_HEARTBEAT_ACK, (_CONNECTED,)),
}
#: What is not listed above is dropped.
CONNECTION: dict[tuple[Role, State, int], Row] = {
    (role, state, kind): _OF_ONE.get((role, state, kind)) or _BOTH.get((state, kind)) or Row(Action.DROP, (state,))
    for role, states in STATES_OF.items()
    for state in states
    for kind in f.MIN_BODY
}

#: What the owner of a connection and the clock do: who, what, from where, to where.
COMMANDS: tuple[tuple[str, str, tuple[State, ...], State], ...] = (
    ("client", "connect", (_INIT,), _CONN_SENT),
    ("server", "accept", (_CONN_RECEIVED,), _CONNECTED),
    ("server", "refuse", (_CONN_RECEIVED,), _CLOSING),
    ("both", "close", (_CONNECTED,), _CLOSING),
    ("both", "close", (_INIT, _CONN_SENT, _CONN_RECEIVED), _CLOSED),
    ("server", "silence", (_CONNECTED,), _CLOSING),
    ("client", "silence", (_CONNECTED,), _CLOSED),
    ("client", "no handshake", (_INIT, _CONN_SENT), _CLOSED),
    ("server", "no handshake", (_INIT,), _CLOSED),
    ("both", "no answer to DisConn", (_CLOSING,), _CLOSED),
    ("both", "lost", (_INIT, _CONN_SENT, _CONN_RECEIVED, _CONNECTED, _CLOSING), _CLOSED),
)


class SessionState(Enum):
    """Where a session stands at one end. From SENT on it is the stage of its closing handshake."""

    #: There is no such session: not yet, or not any more.
    UNKNOWN = "unknown"
    OPENING = "opening"
    OPEN = "open"
    SENT = "sent"
    CROSSED = "crossed"
    ACKED = "acked"


class SessionAction(Enum):
    """What is done with a frame of a session, or that opens one."""

    DROP = "drop"
    ASK_OWNER = "ask the owner"
    IN_USE = "refuse: session id in use"
    OPENED = "open; failed where it has an error or an id in use"
    TAKE = "to the application"
    TAKE_STREAM = "to the application; beyond what may come: send Dismiss"
    CREDIT = "more may be sent"
    CLOSE = "send DismissAck and Dismiss"
    CLOSE_TOO = "send DismissAck"
    ACKNOWLEDGED = "acknowledged"


class SessionRow(NamedTuple):
    """An action, and the states that it may lead to."""

    action: SessionAction
    to: tuple[SessionState, ...]


_UNKNOWN, _OPENING, _OPEN, _SENT, _CROSSED, _ACKED = SessionState
_SESSION: dict[tuple[SessionState, int], SessionRow] = {
    (_UNKNOWN, f.SESSION): SessionRow(SessionAction.ASK_OWNER, (_UNKNOWN,)),
    # The peer's own: its ids and those of this end do not know of one another.
    (_OPENING, f.SESSION): SessionRow(SessionAction.ASK_OWNER, (_OPENING,)),
    # A late one, of an opening that was given up, is answered with a Dismiss.
    (_OPENING, f.SESSION_ACK): SessionRow(SessionAction.OPENED, (_OPEN, _UNKNOWN)),
    (_OPEN, f.DISMISS): SessionRow(SessionAction.CLOSE, (_CROSSED,)),
    (_SENT, f.DISMISS): SessionRow(SessionAction.CLOSE_TOO, (_CROSSED,)),
    (_CROSSED, f.DISMISS): SessionRow(SessionAction.CLOSE_TOO, (_CROSSED,)),
    (_ACKED, f.DISMISS): SessionRow(SessionAction.CLOSE_TOO, (_UNKNOWN,)),
    (_SENT, f.DISMISS_ACK): SessionRow(SessionAction.ACKNOWLEDGED, (_ACKED,)),
    (_CROSSED, f.DISMISS_ACK): SessionRow(SessionAction.ACKNOWLEDGED, (_UNKNOWN,)),
}
for _live in (_OPEN, _SENT, _CROSSED, _ACKED):
    _SESSION |= {(_live, kind): SessionRow(SessionAction.TAKE, (_live,)) for kind in f.OF_APPLICATION}
    _SESSION[_live, f.SESSION] = SessionRow(SessionAction.IN_USE, (_live,))
    _SESSION[_live, f.STREAM_CREDIT] = SessionRow(SessionAction.CREDIT, (_live,))
_SESSION[_OPEN, f.STREAM] = SessionRow(SessionAction.TAKE_STREAM, (_OPEN, _SENT))
#: What is not listed above is dropped.
SESSION: dict[tuple[SessionState, int], SessionRow] = {
    (state, kind): _SESSION.get((state, kind)) or SessionRow(SessionAction.DROP, (state,))
    for state in SessionState
    for kind in sorted(f.OF_SESSION | {f.SESSION, f.SESSION_ACK})
}
#: What the owner of a session and the clock do: what, from where, to where.
SESSION_COMMANDS: tuple[tuple[str, tuple[SessionState, ...], SessionState], ...] = (
    ("open", (_UNKNOWN,), _OPENING),
    ("accept", (_UNKNOWN,), _OPEN),
    ("dismiss", (_OPEN,), _SENT),
    ("no SessionAck", (_OPENING,), _UNKNOWN),
    ("no answer to Dismiss", (_SENT, _CROSSED, _ACKED), _UNKNOWN),
)
