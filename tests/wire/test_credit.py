"""Credit of streams, and the reason in a Dismiss: extensions that other ends need not know."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from frontier_tx.wire import frame as f
from frontier_tx.wire.body import ConnData, SessionData
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.events import Closed, CreditGranted, SessionDismissed, SessionOpened, SessionRequested
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.session import Session
from frontier_tx.wire.session_table import LEAST_WINDOW, OVERRUN, REASON_LENGTH
from frontier_tx.wire.states import Role
from tests import packets
from tests.packets import StreamCredit
from tests.wire.ends import frames_of

WINDOW = 8192


class Pair:
    """A client and a server that talk to each other at once, unless what they say is taken away."""

    def __init__(self, client_window: int = WINDOW, server_window: int = WINDOW) -> None:
        self.now = 1.0
        self.client = Connection(Role.CLIENT, self.now, Limits(stream_window_bytes=client_window))
        self.server = Connection(Role.SERVER, self.now, Limits(stream_window_bytes=server_window))
        self.told: dict[Connection, list[Any]] = {self.client: [], self.server: []}
        self.client.connect(b"meta")
        self.talk()
        self.server.accept(5, self.now)
        self.talk()

    def talk(self) -> None:
        for _ in range(10):
            for here, there in ((self.client, self.server), (self.server, self.client)):
                self.told[there] += there.receive(here.take_output(), self.now)
            if not (self.client.outbox or self.server.outbox):
                return
        raise AssertionError("they never fall silent")

    def open(self) -> tuple[Session, Session]:
        """A session that the client opened, as both ends know it."""
        self.client.open_session(b"", "peer", self.now)
        self.talk()
        (request,) = self.take(self.server, SessionRequested)
        there = self.server.accept_session(request, self.now)
        self.server.sessions.release(there)
        self.talk()
        (opened,) = self.take(self.client, SessionOpened)
        return opened.session, there

    def take(self, end: Connection, kind: type) -> list[Any]:
        found = [item for item in self.told[end] if isinstance(item, kind)]
        self.told[end] = [item for item in self.told[end] if not isinstance(item, kind)]
        return found


@pytest.mark.parametrize(
    ("client", "server", "spoken"),
    [(WINDOW, WINDOW, True), (WINDOW, 0, False), (0, WINDOW, False), (LEAST_WINDOW - 1, WINDOW, False)],
)
def test_credit_is_spoken_where_both_ends_declared_a_window(client: int, server: int, spoken: bool) -> None:
    pair = Pair(client, server)
    here, there = pair.open()
    assert (here.credit, here.allowance) == ((server, client) if spoken else (None, None))
    assert (there.credit, there.allowance) == ((client, server) if spoken else (None, None))
    assert pair.client.sessions.live[1].credit is None, "session 1 carries no stream"


@pytest.mark.parametrize("window", [-1, 0, 4095, 2**63 - 1])
def test_a_strange_window_is_either_none_or_no_bound(window: int) -> None:
    server = Connection(Role.SERVER, 0.0, Limits(stream_window_bytes=WINDOW))
    server.receive(packets.encode(packets.Conn(packet_id=7, data=ConnData(stream_window=window))), 0.0)
    server.accept(5, 0.0)
    (ack,) = [packets.decode(frame) for frame in frames_of(server.take_output())]
    assert isinstance(ack, packets.ConnAck)
    assert ack.data.stream_window == (WINDOW if window > 4095 else 0)


def test_a_sender_sends_what_it_may_and_goes_on_when_told() -> None:
    pair = Pair()
    here, there = pair.open()
    sessions = pair.client.sessions
    assert sessions.send_stream(here, bytes(10_000), most=3000) == WINDOW
    assert here.credit == 0 and sessions.send_stream(here, b"more") == 0
    pair.talk()
    assert [len(frame.body) for frame in pair.take(pair.server, Frame)] == [3000, 3000, 2192]
    assert there.allowance == 0
    pair.server.grant(there, WINDOW // 4 - 1)
    pair.talk()
    assert pair.take(pair.client, CreditGranted) == [] and here.credit == 0
    pair.server.grant(there, 1)
    pair.talk()
    assert [item.session for item in pair.take(pair.client, CreditGranted)] == [here]
    assert here.credit == there.allowance == WINDOW // 4


def test_who_sends_more_than_he_may_loses_the_stream_and_nothing_else() -> None:
    pair = Pair()
    here, there = pair.open()
    other, _ = pair.open()
    for size in (WINDOW, 1, 1):
        pair.client.write(f.pack_of_session(f.STREAM, 9, here.id, bytes(size)))
    pair.client.sessions.send_stream(other, b"innocent")
    pair.talk()
    assert [frame.body for frame in pair.take(pair.server, Frame)] == [bytes(WINDOW), b"innocent"]
    assert [(item.session, item.error) for item in pair.take(pair.server, SessionDismissed)] == [(there, OVERRUN)]
    assert [(item.session, item.error) for item in pair.take(pair.client, SessionDismissed)] == [(here, OVERRUN)]
    assert pair.client.connected and pair.server.connected
    assert here.id not in pair.server.sessions.live and other.id in pair.server.sessions.live


def test_a_credit_that_belongs_nowhere_changes_nothing() -> None:
    pair = Pair()
    here, _there = pair.open()
    for session_id, freed in ((1, 5), (99, 5), (here.id, 2**64 - 1), (here.id, 0)):
        pair.server.write(packets.encode(StreamCredit(packet_id=3, session_id=session_id, freed=freed)))
    pair.talk()
    assert here.credit == WINDOW and pair.client.connected


def test_without_credit_its_frame_ends_the_connection() -> None:
    pair = Pair(0, WINDOW)
    here, there = pair.open()
    pair.server.grant(there, WINDOW)
    assert pair.server.outbox == []
    pair.client.write(packets.encode(StreamCredit(packet_id=3, session_id=here.id, freed=5)))
    told = pair.server.receive(pair.client.take_output(), pair.now)
    assert [type(item) for item in told] == [Closed]


def test_a_dismissed_session_is_granted_nothing_more() -> None:
    pair = Pair()
    _here, there = pair.open()
    pair.server.dismiss(there, pair.now)
    pair.server.grant(there, WINDOW)
    pair.talk()
    assert pair.take(pair.client, CreditGranted) == []


def test_a_dismiss_tells_why_and_a_plain_one_says_nothing() -> None:
    pair = Pair()
    for error in ("", "force closed", "\u2028\ud7ff<" + "x" * REASON_LENGTH):
        _here, there = pair.open()
        pair.server.dismiss(there, pair.now, error)
        pair.talk()
        assert [item.error for item in pair.take(pair.client, SessionDismissed)] == [error[:REASON_LENGTH]]


def test_a_peer_that_speaks_no_credit_is_told_no_reason() -> None:
    pair = Pair(0, WINDOW)
    here, there = pair.open()
    pair.server.dismiss(there, pair.now, "force closed")
    (frame,) = frames_of(b"".join(pair.server.outbox))
    assert (frame.type, frame.body) == (f.DISMISS, b"{}")
    pair.talk()
    assert [item.session for item in pair.take(pair.client, SessionDismissed)] == [here]


def test_what_a_peer_writes_there_is_cut() -> None:
    pair = Pair()
    here, _there = pair.open()
    data = SessionData(error="y" * 100_000)
    pair.client.write(
        packets.encode(packets.Dismissal(type=f.FrameType.DISMISS, packet_id=3, session_id=here.id, data=data))
    )
    pair.talk()
    assert [item.error for item in pair.take(pair.server, SessionDismissed)] == ["y" * REASON_LENGTH]


def test_a_refusal_carries_its_reason() -> None:
    pair = Pair()
    pair.client.open_session(b"", "peer", pair.now)
    pair.talk()
    (request,) = pair.take(pair.server, SessionRequested)
    pair.server.refuse_session(request, pair.now, "edge not online")
    pair.server.sessions.release(pair.server.sessions.live[max(pair.server.sessions.live)])
    pair.talk()
    assert [item.error for item in pair.take(pair.client, SessionDismissed)] == ["edge not online"]


def test_an_orderly_close_may_say_that_its_streams_are_cut() -> None:
    pair = Pair()
    here, _there = pair.open()
    pair.client.close(pair.now, "force closed")
    pair.talk()
    dismissed = {item.session.id: item.error for item in pair.take(pair.server, SessionDismissed)}
    assert dismissed == {1: "", here.id: "force closed"}


class Credit(RuleBasedStateMachine):
    """A stream each way over pipes that deliver when they like; readers take when they like."""

    @initialize(window=st.sampled_from([LEAST_WINDOW, LEAST_WINDOW + 1, 10_000]))
    def start(self, window: int = WINDOW) -> None:
        self.window = window
        pair = Pair(window, window)
        here, there = pair.open()
        self.ends = ((pair.client, here), (pair.server, there))
        self.pipes = (bytearray(), bytearray())
        self.sent = [bytearray(), bytearray()]
        self.unread = [bytearray(), bytearray()]
        self.read = [bytearray(), bytearray()]
        self.counter = 0

    @rule(who=st.integers(0, 1), size=st.integers(0, 9000), most=st.integers(100, 9000))
    def send(self, who: int, size: int, most: int) -> None:
        connection, session = self.ends[who]
        self.counter += 1
        data = (self.counter.to_bytes(4) * (size // 4 + 1))[:size]
        may = session.credit
        taken = connection.sessions.send_stream(session, data, most)
        assert taken == min(size, may or 0)
        self.sent[who] += data[:taken]
        self.pipes[who].extend(connection.take_output())

    @rule(who=st.integers(0, 1), size=st.integers(1, 5000))
    def deliver(self, who: int, size: int) -> None:
        piece = bytes(self.pipes[who][:size])
        del self.pipes[who][:size]
        for item in self.ends[1 - who][0].receive(piece, 2.0):
            assert isinstance(item, Frame | CreditGranted)
            if isinstance(item, Frame):
                self.unread[1 - who] += item.body

    @rule(who=st.integers(0, 1), size=st.integers(1, 9000))
    def take(self, who: int, size: int) -> None:
        connection, session = self.ends[who]
        taken = self.unread[who][:size]
        del self.unread[who][:size]
        self.read[who] += taken
        connection.grant(session, len(taken))
        self.pipes[who].extend(connection.take_output())

    @invariant()
    def conserved(self) -> None:
        if not hasattr(self, "ends"):
            return
        for who in (0, 1):
            session, other = self.ends[who][1], self.ends[1 - who][1]
            assert session.credit is not None and other.allowance is not None
            assert 0 <= session.credit <= other.allowance <= self.window
            assert len(self.sent[who]) - len(self.read[1 - who]) <= self.window
            assert other.freed * 4 < self.window
            came = self.read[1 - who] + self.unread[1 - who]
            assert self.sent[who][: len(came)] == came

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        for _ in range(10):
            for who in (0, 1):
                self.deliver(who, 1_000_000)
                self.take(1 - who, 1_000_000)
        for who in (0, 1):
            assert self.read[1 - who] == self.sent[who]
            credit = self.ends[who][1].credit
            # What is not granted back yet is less than a quarter: nobody waits for ever.
            assert credit is not None and credit * 4 > 3 * self.window


Credit.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCredit = Credit.TestCase
