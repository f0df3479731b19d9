"""Streams at a client's end, sans-IO: closing beside what is unread, credit both ways, bounds on what waits."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from frontier_tx.clients.core.intake import Bounds, ignore
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.errors import (
    EndClosed,
    ForceClosed,
    SendBufferFull,
)
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import message_json
from frontier_tx.wire.session import Session
from tests.clients.served import Served, Told

MIB = 1 << 20
both = pytest.mark.parametrize("window", [0, MIB], ids=["no credit", "credit"])


@both
def test_closing_waits_for_nothing_that_is_unread(window: int) -> None:
    served = Served(window=window)
    stream, session = served.opened()
    sent = served.sends(session, bytes(3 * MIB))
    assert stream.reading.size == sent and served.pipe.pauses == (0 if window else 1)
    told = Told()
    stream.close(told)
    served.pump()
    assert told.one is None and served.ends(session) == [""] and served.over(session)
    assert stream.reading.size == 0 and served.pipe.pauses == 0 and not served.end.streams
    # What was still on its way is for nobody.
    read = Told()
    stream.reading.read(-1, read)
    assert read.one == b""


@both
@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_call_is_answered_while_a_stream_is_full_and_ends(window: int, end: str) -> None:
    served = Served(window=window)
    stream, session = served.opened()
    served.sends(session, bytes(2 * MIB))
    call = Told()
    served.main.call("m", b"", call)
    served.pump()
    (asked,) = [frame for frame in served.frames if frame.type == f.REQUEST]
    served.sends_frame(f.RESPONSE, asked.packet_id, 1, message_json(value=b"yes"))
    assert bool(call.results) == bool(window), "with credit a full stream stops nobody"
    stream.close(ignore) if end == "close" else stream.abort()
    served.pump()
    assert call.one == b"yes"


def test_an_aborted_stream_ends_at_once_and_says_why() -> None:
    served = Served(window=MIB)
    stream, session = served.opened()
    read, drained, call = Told(), Told(), Told()
    stream.write(bytes(3 * MIB))
    stream.drain(drained)
    stream.call("m", b"", call)
    served.sends(session, b"left")
    stream.abort("the disk is full")
    assert str(drained.one) == str(call.one) == "force closed: the disk is full"
    stream.reading.read(-1, read)
    assert isinstance(read.one, ForceClosed)
    with pytest.raises(EndClosed):
        stream.write(b"x")
    stream.abort()
    stream.close(ignore)
    served.pump()
    assert served.ends(session) == ["the disk is full"] and served.over(session)
    assert len(served.came(session)) <= MIB and not served.end.streams


def test_who_reads_a_stream_that_was_cut_gets_what_came_and_then_why() -> None:
    served = Served(window=MIB)
    stream, session = served.opened()
    served.sends(session, b"half")
    served.server.dismiss(session, 0.0, "receiver congested")
    served.pump()
    first, second, third = Told(), Told(), Told()
    stream.reading.read(-1, first)
    stream.reading.read(-1, second)
    stream.reading.read(5, third)
    assert first.one == b"half"
    assert str(second.one) == str(third.one) == "force closed: receiver congested"


def test_a_writer_waits_for_credit_by_itself_and_close_sends_all() -> None:
    served = Served(window=65_536)
    stream, session = served.opened()
    data = bytes(range(256)) * 4096
    stream.write(data)
    served.pump()
    drained, closed = Told(), Told()
    stream.drain(drained)
    assert len(served.came(session)) == 65_536 and stream.writing.size == MIB - 65_536 and not drained.results
    stream.close(closed)
    assert isinstance(drained.one, EndClosed)
    while not closed.results:
        served.advance(2.0)
        served.server.grant(session, 32_768)
        served.pump()
    assert closed.one is None and served.came(session) == data and served.ends(session) == [""]


def test_a_close_waits_for_no_far_side_that_stands_still_and_the_rest_follows() -> None:
    served = Served(window=65_536)
    stream, session = served.opened()
    stream.write(bytes(MIB))
    closed, again, ended = Told(), Told(), Told()
    stream.close(closed)
    stream.close(ended, at_the_end=True)
    served.advance(2.0)
    served.server.grant(session, 32_768)
    served.pump()
    served.advance(2.0)
    assert not closed.results, "something was taken meanwhile"
    served.advance(2.0)
    assert closed.one is None and served.ends(session) == [] and not ended.results
    stream.close(again)
    served.advance(0.1)
    assert again.one is None
    for _ in range(40):
        served.server.grant(session, 32_768)
        served.pump()
    assert len(served.came(session)) == MIB and served.ends(session) == [""] and ended.one is None


def test_what_nobody_takes_for_minutes_is_cut() -> None:
    served = Served(window=65_536)
    stream, session = served.opened()
    stream.write(bytes(MIB))
    closed, ended = Told(), Told()
    stream.close(closed)
    stream.close(ended, at_the_end=True)
    for _ in range(29):
        served.advance(10.0)
    assert closed.one is None and served.ends(session) == []
    served.advance(20.0)
    assert served.ends(session) == ["timeout"] and isinstance(ended.one, ForceClosed)
    late = Told()
    stream.close(late)
    assert isinstance(late.one, ForceClosed)


def test_what_waits_for_credit_is_bounded_and_stops_no_other_operation() -> None:
    served = Served(Bounds(unsent_bytes=MIB, high_water=65_536), window=65_536)
    stream, _ = served.opened()
    other, session = served.opened()
    stream.write(bytes(2 * MIB))
    with pytest.raises(SendBufferFull):
        stream.write(b"x")
    served.pump()
    other.write(b"free")
    call, drained = Told(), Told()
    served.main.call("m", b"", call)
    other.drain(drained)
    served.pump()
    assert served.came(session) == b"free" and drained.one is None


def test_leaving_sends_first_what_streams_have_and_says_of_the_others_that_they_were_cut() -> None:
    served = Served(window=65_536)
    (quick, taken), (stuck, refused) = served.opened(), served.opened()
    for stream in (quick, stuck):
        stream.write(bytes(100_000))
    served.pump()
    served.end.leave()
    served.end.leave()
    served.pump()
    assert not served.gone
    served.server.grant(taken, 65_536)
    served.pump()
    assert len(served.came(taken)) == 100_000 and not served.gone
    served.advance(2.6)
    assert not served.gone
    served.advance(0.5)
    assert served.gone == [""]
    assert served.ends(refused) == ["timeout"] and served.ends(taken) == [""]
    assert not stuck.open and isinstance(stuck.reading.error, ForceClosed)


def test_leaving_is_not_held_up_by_what_is_unread() -> None:
    served = Served()
    _, session = served.opened()
    served.sends(session, bytes(2 * MIB))
    assert served.pipe.pauses
    served.end.leave()
    served.pump()
    assert served.gone == [""]


# -- streams that nobody accepted --------------------------------------------------------------------------


@both
def test_a_full_stream_that_waits_stops_nobody(window: int) -> None:
    served = Served(window=window)
    served.intake.streams.used = True
    served.offered()
    accepted: StreamSession = served.intake.streams.pop()
    sessions = [served.offered() for _ in range(3)]
    for session in sessions:
        served.sends(session, bytes(2 * MIB))
    assert served.pipe.pauses == 0 and accepted.open
    # In their turn they are accepted, and nothing is lost.
    for session in sessions:
        stream: StreamSession = served.intake.streams.pop()
        got = served.pipe.pauses
        assert got == (0 if window else 1)
        total = 0
        while stream.reading.size:
            total += len(stream.reading.take(-1))
            served.pump()
        assert total == (window or 2 * MIB) and served.pipe.pauses == 0 and session.writable
    assert served.intake.accept_budget.held == 0


def test_what_streams_hold_that_nobody_accepted_is_bounded_and_the_largest_goes_first() -> None:
    served = Served(Bounds(accept_bytes=8 * MIB))
    served.intake.streams.used = True
    honest = served.offered(b"about")
    served.sends(honest, b"hello")
    hostile = [served.offered() for _ in range(3)]
    for session in hostile:
        served.sends(session, bytes(7 * MIB))
        assert served.intake.accept_budget.held <= 8 * MIB
    assert served.intake.accept_budget.held > 7 * MIB
    assert [len(served.ends(session)) for session in hostile] == [1, 1, 0] and not served.ends(honest)
    large = served.offered(bytes(2 * MIB))
    assert len(served.ends(large)) == 1
    first: StreamSession = served.intake.streams.pop()
    assert first.reading.take(-1) == b"hello"
    for _ in range(len(served.intake.streams.items)):
        served.intake.streams.pop()
    assert served.intake.accept_budget.held == 0


def test_streams_beyond_the_count_are_refused() -> None:
    served = Served(Bounds(accept=2), window=MIB)
    sessions = [served.offered() for _ in range(3)]
    assert [served.ends(session) for session in sessions] == [[], [], ["receiver congested"]]


def test_messages_of_a_client_and_its_streams_are_bounded_in_bytes_together() -> None:
    served = Served(Bounds(message_bytes=2 * MIB))
    stream, session = served.opened()
    served.intake.messages.used = True
    body = message_json(topic="t", value=bytes(MIB - 1024))
    for packet_id, where in enumerate((1, session.id, 1, session.id), 10):
        served.sends_frame(f.MESSAGE, packet_id, where, body)
    assert served.answers(f.MESSAGE_ACK) == {12: "receiver congested", 13: "receiver congested"}
    assert served.pipe.pauses == 0
    served.intake.messages.pop()
    served.sends_frame(f.MESSAGE, 14, session.id, body)
    assert 14 not in served.answers(f.MESSAGE_ACK) and len(stream.messages.items) == 2
    stream.abort()
    assert served.intake.message_budget.held == 0
    assert len(stream.messages.pop().data) == MIB - 1024


def test_messages_of_a_stream_stop_nobody() -> None:
    served = Served(Bounds(messages=3))
    stream, session = served.opened()
    stream.messages.used = True
    for packet_id in range(10, 15):
        served.sends_frame(f.MESSAGE, packet_id, session.id, message_json(value=b"m"))
    assert set(served.answers(f.MESSAGE_ACK)) == {13, 14} and served.pipe.pauses == 0


# -- any order of events -----------------------------------------------------------------------------------


class Streams(RuleBasedStateMachine):
    """Two streams with credit; each byte arrives once and in order, whoever pauses, reads or puts back."""

    WINDOW = 8192

    def __init__(self) -> None:
        super().__init__()
        self.served = Served(Bounds(stream_bytes=self.WINDOW, unsent_bytes=1 << 30), window=self.WINDOW)
        self.ends = [self.served.opened() for _ in range(2)]
        self.written = [b"", b""]
        self.sent = [b"", b""]
        self.read = [b"", b""]
        self.granted = [0, 0]

    def each(self, at: int) -> tuple[StreamSession, Session]:
        return self.ends[at]

    @rule(at=st.integers(0, 1), size=st.integers(1, 20_000))
    def write(self, at: int, size: int) -> None:
        data = bytes((len(self.written[at]) + n) % 249 for n in range(size))
        self.each(at)[0].write(data)
        self.written[at] += data
        self.served.pump()

    @rule(at=st.integers(0, 1), size=st.integers(1, 8192))
    def server_takes(self, at: int, size: int) -> None:
        session = self.each(at)[1]
        size = min(size, len(self.served.came(session)) - self.granted[at])
        self.granted[at] += size
        self.served.server.grant(session, size)
        self.served.pump()

    @rule(at=st.integers(0, 1), size=st.integers(1, 20_000))
    def server_sends(self, at: int, size: int) -> None:
        data = bytes((len(self.sent[at]) + n) % 247 for n in range(size))
        self.sent[at] += data[: self.served.sends(self.each(at)[1], data)]

    @rule(at=st.integers(0, 1), size=st.integers(-1, 9000), back=st.booleans())
    def program_reads(self, at: int, size: int, back: bool) -> None:
        reading = self.each(at)[0].reading
        if reading.size:
            data = reading.take(size)
            if back:
                reading.put_back(data)
            else:
                self.read[at] += data
            self.served.pump()

    @invariant()
    def nothing_is_lost_and_no_window_overrun(self) -> None:
        assert self.served.pipe.pauses == 0
        for at, (stream, session) in enumerate(self.ends):
            came = self.served.came(session)
            assert self.written[at].startswith(came)
            assert len(came) + stream.writing.size == len(self.written[at])
            assert len(came) - self.granted[at] <= self.WINDOW
            # What was put back is the program's own.
            assert stream.reading.size - stream.reading._owed <= self.WINDOW
            assert stream.open and session.writable

    def teardown(self) -> None:
        for at, (stream, _) in enumerate(self.ends):
            for _ in range(10_000):
                if len(self.served.came(self.ends[at][1])) == len(self.written[at]):
                    break
                self.server_takes(at, 8192)
            assert self.served.came(self.ends[at][1]) == self.written[at]
            assert self.read[at] + stream.reading.take(-1) == self.sent[at]


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
