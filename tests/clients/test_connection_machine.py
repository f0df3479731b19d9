"""The sans-IO core against a peer that answers in any order, late, twice or never: each operation ends exactly once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.task import Clock

from frontier_tx.clients.core.connection import ClientConnection
from frontier_tx.clients.core.intake import Bounds, Intake
from frontier_tx.clients.core.operations import Request
from frontier_tx.errors import OperationError
from frontier_tx.timers import Alarms
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_OBJECT, message_json
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.events import ConnReceived
from frontier_tx.wire.states import Role


class FakeLink:
    """Carries nothing by itself."""

    unsent = 0
    paused = 0

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1

    def close(self) -> None:
        self.connection.close(0.0)

    def abort(self, reason: str) -> None:
        raise AssertionError(reason)


class Nobody:
    """An owner that listens to nothing."""

    def came_online(self, end: ClientConnection) -> None:
        pass

    def went_offline(self, end: ClientConnection, reason: str) -> None:
        pass


class Ends(RuleBasedStateMachine):
    """A client's end; the server's side is played by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        alarms = Alarms(self.clock)
        self.link = FakeLink(Connection(Role.CLIENT, 0.0))
        self.running: list[Request] = []
        intake = Intake(lambda handler, request: self.running.append(request), Bounds(pending=8, requests=4))
        intake.methods["m"] = None
        self.end = ClientConnection(self.link, Nobody(), intake, alarms, self.clock.seconds)
        self.server = Connection(Role.SERVER, 0.0)
        self.link.connection.connect()
        for told in self.server.receive(self.link.connection.take_output(), 0.0):
            assert isinstance(told, ConnReceived)
            self.server.accept(5, 0.0)
        self.to_client(self.server.take_output())
        assert self.end.main is not None
        self.main = self.end.main
        self.started = 0
        self.ends: Counter[int] = Counter()
        self.handles: list[Any] = []
        self.asked: list[tuple[int, int]] = []
        self.answers: Counter[int] = Counter()
        self.requests: list[int] = []
        self.next_id = 1
        self.lost = False

    def to_client(self, data: bytes) -> None:
        for told in self.link.connection.receive(data, self.clock.seconds()):
            if isinstance(told, f.Frame):
                self.end.frame(told)
            else:
                self.end.event(told)
        self.collect()

    def collect(self) -> None:
        for told in self.server.receive(self.link.connection.take_output(), self.clock.seconds()):
            if isinstance(told, f.Frame):
                if told.type == f.RESPONSE:
                    self.answers[told.packet_id] += 1
                elif told.type in (f.REQUEST, f.MESSAGE, f.REGISTER):
                    self.asked.append((told.type, told.packet_id))

    def start(self, operation: Any) -> None:
        number = self.started
        self.started += 1
        try:
            self.handles.append(operation(lambda result, error: self.ends.update([number])))
        except OperationError:
            self.ends[number] += 1
        if not self.lost:
            self.collect()

    @rule(timeout=st.none() | st.integers(0, 5), deadline=st.none() | st.integers(0, 20))
    def call(self, timeout: int | None, deadline: int | None) -> None:
        self.start(lambda done: self.main.call("x", b"", done, timeout=timeout, deadline=deadline))

    @rule(timeout=st.none() | st.integers(0, 5))
    def publish(self, timeout: int | None) -> None:
        self.start(lambda done: self.main.publish("t", b"", done, timeout=timeout))

    @rule()
    def register(self) -> None:
        self.start(lambda done: self.main.register("m", done))

    @rule(at=st.integers(0, 100))
    def cancel(self, at: int) -> None:
        if self.handles:
            self.handles[at % len(self.handles)].cancel()
            self.collect()

    @precondition(lambda self: not self.lost)
    @rule(at=st.integers(0, 100), error=st.sampled_from(["", "no"]), again=st.booleans())
    def answer(self, at: int, error: str, again: bool) -> None:
        if not self.asked:
            return
        kind, packet_id = self.asked[at % len(self.asked)]
        if not again:
            self.asked.remove((kind, packet_id))
        body = EMPTY_OBJECT if kind == f.REGISTER else message_json(error=error)
        self.to_client(f.pack_of_session(kind + 1, packet_id, 1, body))

    @precondition(lambda self: not self.lost)
    @rule(method=st.sampled_from([b"m", b"unknown"]))
    def request(self, method: bytes) -> None:
        self.next_id += 1
        self.requests.append(self.next_id)
        self.to_client(f.pack_of_session(f.REQUEST, self.next_id, 1, message_json(key=method)))

    @precondition(lambda self: not self.lost)
    @rule(at=st.integers(0, 100))
    def cancel_request(self, at: int) -> None:
        if self.requests:
            packet_id = self.requests[at % len(self.requests)]
            self.to_client(f.pack_of_session(f.REQUEST_CANCEL, packet_id, 1, b"\0\1"))

    @rule(at=st.integers(0, 100), fails=st.booleans())
    def handler_ends(self, at: int, fails: bool) -> None:
        if self.running:
            request = self.running.pop(at % len(self.running))
            if fails:
                request.fail(ValueError("no"))
            else:
                request.respond(b"yes")
            if not self.lost:
                self.collect()

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.collect()

    @precondition(lambda self: not self.lost)
    @rule()
    def lose(self) -> None:
        self.lost = True
        self.end.gone("cut")
        self.link.connection.lost()

    @invariant()
    def each_ends_at_most_once(self) -> None:
        assert all(count == 1 for count in self.ends.values())
        assert self.end.pending == self.started - len(self.ends) <= 8
        assert self.end.running == len(self.running) <= 4

    @invariant()
    def each_request_is_answered_at_most_once(self) -> None:
        assert all(count == 1 for count in self.answers.values())
        assert set(self.answers) <= set(self.requests)
        if not self.lost:
            assert len(self.answers) + len(self.running) == len(self.requests)

    def teardown(self) -> None:
        if not self.lost:
            self.lose()
        assert len(self.ends) == self.started and self.end.pending == 0 and not self.end.streams


TestEnds = Ends.TestCase
TestEnds.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
