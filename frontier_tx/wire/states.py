"""The connection machine as a table: what a frame does in each state of a connection (docs/state-machines.md).

``connection`` runs on it. The table is complete: each role, each state, each type of frame.
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

    A body that cannot be read leads to CLOSED from each row that is not DROP; that is not repeated here.
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
