"""Recorded conversations: one side is played from the recording, the other is ours and must say the same.

Ids, and the order of the frames of a goodbye, vary from run to run; every other byte is compared.
"""

from typing import Any

import pytest

from frontier_tx.wire import frame as f
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.events import ConnReceived, SessionOpened, SessionRequested
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.states import Role, State
from tests import packets
from tests.wire.ends import End, bytes_of, counted, frames_of, vectors

TALKS = vectors("conversations")["conversations"]
#: Frames that our end makes from the ids of what it answers.
ANSWERS = {f.CONN_ACK, f.DIS_CONN_ACK, f.HEARTBEAT_ACK, f.SESSION_ACK, f.DISMISS_ACK, f.MESSAGE_ACK, f.RESPONSE}
ANSWERS |= {f.REGISTER_ACK, f.REQUEST_CANCEL}
OF_APPLICATION = f.OF_APPLICATION


class Play:
    """Our end in a recorded conversation."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.end = End(role)
        self.started = self.end.now
        self.ours: dict[int, int] = {}
        self.said: list[Frame] = []
        self.requests: list[SessionRequested] = []
        self.refused = False

    @property
    def connection(self) -> Connection:
        return self.end.connection

    def collect(self) -> None:
        self.said += frames_of(self.end.sent())

    def hear(self, frame: Frame) -> None:
        """Play a recorded frame of the peer to our end."""
        packet = packets.decode(frame)
        for name in ("packet_id", "session_id", "negotiate_id"):
            recorded = getattr(packet, name, None)
            if recorded in self.ours:
                setattr(packet, name, self.ours[recorded])
        told = self.end.feed(packets.encode(packet))
        self.requests += [item for item in told if isinstance(item, SessionRequested)]
        if frame.type in OF_APPLICATION:
            (heard,) = told
            assert heard.body == frame.body
        self.collect()

    def say(self, frame: Frame, rest: list[Frame]) -> None:
        """Our end says what the recorded one said; what comes of itself must be said already."""
        session = self.ours.get(frame.session_id, frame.session_id)
        packet_id = self.ours.get(frame.packet_id, frame.packet_id)

        def same(said: Frame) -> bool:
            return (
                said.type == frame.type
                and said.session_id == session
                and (said.packet_id == packet_id or frame.type not in ANSWERS)
            )

        if not any(map(same, self.said)):
            self.act(frame, session, packet_id, rest)
            self.collect()
        found = next((said for said in self.said if same(said)), None)
        assert found is not None, f"{f.FrameType(frame.type).name} was not said"
        self.said.remove(found)
        self.ours[frame.packet_id] = found.packet_id
        self.compare(frame, found)

    def compare(self, recorded: Frame, found: Frame) -> None:
        match packets.decode(recorded), packets.decode(found):
            case packets.Session() as theirs, packets.Session() as mine:
                self.ours[theirs.negotiate_id] = mine.negotiate_id
                assert (mine.priority, mine.flags, mine.data) == (theirs.priority, theirs.flags, theirs.data)
                assert found.body[10:] == recorded.body[10:]
            case packets.SessionAck() as theirs, packets.SessionAck() as mine:
                assert mine.negotiate_id == self.ours.get(theirs.negotiate_id, theirs.negotiate_id)
                self.ours[theirs.session_id] = mine.session_id
                assert found.body[:2] + found.body[18:] == recorded.body[:2] + recorded.body[18:]
                if theirs.negotiate_id == theirs.session_id:
                    assert mine.negotiate_id == mine.session_id
                else:
                    assert mine.session_id not in (0, 1, mine.negotiate_id)
            case _:
                assert found.body == recorded.body

    def act(self, frame: Frame, session_id: int, packet_id: int, rest: list[Frame]) -> None:
        """Do what the recorded application must have done."""
        connection, now = self.connection, self.end.now
        match packets.decode(frame):
            case packets.Conn() as conn:
                connection.connect(conn.data.meta, conn.client_id)
            case packets.ConnAck() as ack:
                assert isinstance(self.end.told[-1], ConnReceived)
                if ack.data.error:
                    self.refused = True
                    connection.refuse(ack.data.error, now, ack.client_id)
                else:
                    connection.accept(ack.client_id, now)
            case packets.Session() as session:
                connection.open_session(session.data.meta, session.data.peer, now)
            case packets.SessionAck():
                connection.accept_session(self.requests.pop(0), now)
            case packets.Dismissal(type=f.DISMISS, session_id=dismissed):
                whole = [x for x in (frame, *rest) if x.type == f.DISMISS and x.session_id == 1]
                if dismissed == 1 or whole:
                    connection.close(now)
                else:
                    connection.dismiss(connection.sessions.live[session_id], now)
            case packets.Bare(type=f.HEARTBEAT):
                self.end.advance(0.05)
            case packet if frame.type in OF_APPLICATION:
                packet.session_id = session_id  # type: ignore[union-attr]
                packet.packet_id = packet_id if frame.type in ANSWERS else next(connection.ids)
                connection.sessions.write(connection.sessions.live[session_id], packets.encode(packet))
                self.end.advance(0.02)

    def finish(self, event: str) -> None:
        if event == "fin":
            extra = {f.DIS_CONN_ACK} if self.refused else set()
            assert {frame.type for frame in self.said} <= extra
            assert self.refused or self.end.reason == ""
        else:
            live = list(self.connection.sessions.live)
            assert [session.id for session in self.connection.lost()] == live
        self.connection.lost()
        assert not self.connection.sessions.live and not self.connection.sessions.opening


def played(talk: dict[str, Any], role: Role) -> list[Play]:
    mine = "s2c" if role is Role.SERVER else "c2s"
    plays: list[Play] = []
    for number in range(1 + max(item["conn"] for item in talk["frames"])):
        play = Play(role)
        play.end.connection.ids = play.end.connection.sessions._ids = counted(10**6 * (number + 1))
        steps = [item for item in talk["frames"] if item["conn"] == number]
        start = steps[0]["t_ms"]
        for at, item in enumerate(steps):
            passed = (item["t_ms"] - start) / 1000 - (play.end.now - play.started)
            play.end.advance(max(0.0, passed))
            play.collect()
            if "event" in item:
                if item["dir"] == mine:
                    play.refused |= "refused" in talk["description"] or "fails" in talk["description"]
                    play.finish(item["event"])
                continue
            (frame,) = frames_of(bytes_of(item))
            if item["dir"] != mine:
                play.hear(frame)
                continue
            rest: list[Frame] = []
            for later in steps[at + 1 :]:
                if later["dir"] != mine or "event" in later:
                    break
                rest += frames_of(bytes_of(later))
            play.say(frame, rest)
        plays.append(play)
    return plays


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT], ids=["server", "client"])
@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk["name"])
def test_our_end_says_what_the_recorded_one_said(talk: dict[str, Any], role: Role) -> None:
    for play in played(talk, role):
        assert play.connection.state is State.CLOSED
        opened = [item for item in play.end.told if isinstance(item, SessionOpened)]
        assert all(item.session.opened_here for item in opened)
