"""The connection and session machines: two ends joined by a capricious pipe."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from frontier_tx.errors import MultiplexerClosed, TooManyPending
from frontier_tx.wire import frame as f
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.events import (
    Closed,
    Closing,
    ConnAccepted,
    ConnReceived,
    ConnRefused,
    SessionDismissed,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionRequested,
)
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.states import Role, State
from tests.wire.ends import counted

# -- two ends -----------------------------------------------------------------------------------------------

LIMITS = Limits(sessions_per_connection=6)
ONCE = (ConnAccepted, ConnRefused, Closing, Closed, ConnReceived)


class Side:
    """One end, its half of the pipe, and a tally of what it was told."""

    def __init__(self, role: Role, now: float) -> None:
        first = 10_000 if role is Role.SERVER else 20_001
        self.connection = Connection(role, now, LIMITS, ids=counted(first))
        self.pipe = bytearray()
        self.told: list[Any] = []
        self.asked: list[SessionRequested] = []
        self.opening: set[int] = set()
        self.gone = False

    def take(self, told: list[Any]) -> None:
        for item in told:
            assert not any(isinstance(before, Closed) for before in self.told), f"{item} after Closed"
            if isinstance(item, ONCE):
                assert not any(type(before) is type(item) for before in self.told), f"{item} again"
            if isinstance(item, SessionEnded | SessionDismissed):
                same = [x for x in self.told if type(x) is type(item) and x.session is item.session]
                assert not same, f"{item} again"
            if isinstance(item, SessionOpened | SessionFailed):
                self.opening.remove(item.negotiate_id)
            if isinstance(item, SessionRequested):
                self.asked.append(item)
            if isinstance(item, Frame):
                assert not self.ended(item.session_id), "a frame of a session that has ended"
            self.told.append(item)
        self.pipe += self.connection.take_output()

    def ended(self, session_id: int) -> bool:
        return any(isinstance(x, SessionEnded) and x.session.id == session_id for x in self.told)

    def was_told(self, kind: type) -> bool:
        return any(isinstance(item, kind) for item in self.told)


class TwoEnds(RuleBasedStateMachine):
    """Client and server; bytes between them arrive in any pieces, at any time, in order."""

    @initialize(greeted=st.sampled_from([True, True, False]))
    def start(self, greeted: bool = False) -> None:
        self.now = 0.5
        self.client = Side(Role.CLIENT, self.now)
        self.server = Side(Role.SERVER, self.now)
        self.sides = (self.client, self.server)
        self.client.connection.connect(b"meta")
        self.client.take([])
        self.answered = False
        if greeted:
            self.deliver_all()
            self.answer_the_client(True)
            self.deliver_all()

    def other(self, side: Side) -> Side:
        return self.server if side is self.client else self.client

    @rule(who=st.integers(0, 1), size=st.integers(1, 200))
    def deliver(self, who: int, size: int) -> None:
        side = self.sides[who]
        source = self.other(side)
        piece = bytes(source.pipe[:size])
        del source.pipe[:size]
        if piece and not side.gone:
            side.take(side.connection.receive(piece, self.now))

    @rule()
    def deliver_all(self) -> None:
        for _ in range(20):
            if not (self.client.pipe or self.server.pipe):
                return
            self.deliver(0, 10**6)
            self.deliver(1, 10**6)
        raise AssertionError("the two ends never fall silent")

    @precondition(lambda self: self.server.was_told(ConnReceived) and not self.answered)
    @rule(welcome=st.sampled_from([True, True, True, False]))
    def answer_the_client(self, welcome: bool) -> None:
        self.answered = True
        if welcome:
            self.server.connection.accept(77, self.now)
            self.server.take([])
        else:
            self.server.take(self.server.connection.refuse("no", self.now))

    @rule(who=st.integers(0, 1))
    def open_session(self, who: int) -> None:
        side = self.sides[who]
        try:
            side.opening.add(side.connection.open_session(b"m", "p", self.now))
        except (MultiplexerClosed, TooManyPending):
            return
        side.take([])

    @rule(who=st.integers(0, 1), welcome=st.booleans())
    def answer_a_session(self, who: int, welcome: bool) -> None:
        side = self.sides[who]
        if side.asked:
            request = side.asked.pop(0)
            if welcome:
                side.connection.accept_session(request, self.now)
            else:
                side.connection.refuse_session(request, self.now)
            side.take([])

    @rule(who=st.integers(0, 1), which=st.integers(0, 9))
    def send(self, who: int, which: int) -> None:
        side = self.sides[who]
        sessions = [s for s in side.connection.sessions.live.values() if s.writable]
        if sessions and side.connection.connected:
            session = sessions[which % len(sessions)]
            frame = f.pack_of_session(f.STREAM, next(side.connection.ids), session.id, b"bytes")
            side.connection.sessions.write(session, frame)
            side.take([])

    @rule(who=st.integers(0, 1), which=st.integers(0, 9))
    def dismiss(self, who: int, which: int) -> None:
        side = self.sides[who]
        sessions = list(side.connection.sessions.live.values())
        if sessions and side.connection.connected:
            side.connection.dismiss(sessions[which % len(sessions)], self.now)
            side.take([])

    @rule(who=st.integers(0, 1))
    def close(self, who: int) -> None:
        side = self.sides[who]
        if not side.gone:
            side.take(side.connection.close(self.now))

    @rule(who=st.integers(0, 1), on=st.booleans())
    def read(self, who: int, on: bool) -> None:
        self.sides[who].connection.reading(on, self.now)

    @rule(seconds=st.sampled_from([0.001, 0.02, 1.0, 6.0, 21.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            due = min(side.connection.due for side in self.sides)
            if due > until:
                break
            self.now = max(self.now, due)
            for side in self.sides:
                if side.connection.due <= self.now:
                    side.take(side.connection.advance(self.now))
                    assert side.connection.due > self.now
        self.now = until

    @rule(who=st.integers(0, 1))
    def cut(self, who: int) -> None:
        side = self.sides[who]
        side.gone = True
        side.connection.lost()
        side.opening.clear()
        side.asked.clear()

    @invariant()
    def bounded(self) -> None:
        for side in getattr(self, "sides", ()):
            assert len(side.connection.sessions.live) <= 2 * LIMITS.sessions_per_connection
            if side.was_told(Closed) or side.gone:
                assert side.connection.state is State.CLOSED

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        for side in self.sides:
            side.connection.reading(True, self.now)
            if not side.gone:
                side.take(side.connection.close(self.now))
        # Two goodbyes of two halves each are all that may follow.
        self.pass_time(4 * LIMITS.close_seconds + 0.1)
        for side in self.sides:
            assert side.connection.state is State.CLOSED, side.connection.role
            side.connection.lost()
            table = side.connection.sessions
            assert not any((table.live, table.opening, table._held, table._parting, table._expired))
            assert side.connection.due == float("inf")


TwoEnds.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTwoEnds = TwoEnds.TestCase


def test_an_undisturbed_goodbye_is_complete_on_both_sides() -> None:
    machine = TwoEnds()
    machine.start(greeted=True)
    for who in (0, 1):
        machine.open_session(who)
        machine.deliver_all()
        machine.answer_a_session(1 - who, True)
        machine.deliver_all()
    machine.pass_time(0.02)
    machine.close(0)
    machine.deliver_all()
    for side in machine.sides:
        assert [item.reason for item in side.told if isinstance(item, Closed)] == [""]
        assert len([item for item in side.told if isinstance(item, SessionEnded)]) == 3
