"""Requests and messages that came on a session, and operations of this end that wait for an answer."""

from collections.abc import Callable
from typing import Any

from frontier_tx.clients.core.answers import fitting, reference, spoken_text
from frontier_tx.clients.core.hosts import OperationHost
from frontier_tx.clients.core.intake import Done
from frontier_tx.clients.core.values import octets, string
from frontier_tx.errors import (
    Canceled,
    DeadlineExceeded,
    OperationTimeout,
    PayloadTooLarge,
    UnusableResult,
    from_answer,
)
from frontier_tx.timers import RESOLUTION
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import MessageData, message_json
from frontier_tx.wire.fixed import CANCEL_FIXED, CANCELED, DEADLINE_EXCEEDED
from frontier_tx.wire.times import parse_time
from frontier_tx.wire.watch import NEVER

#: What a request or a message costs besides the bytes that came.
OVERHEAD = 256

#: Starts a handler for a request; the result goes to ``request.respond`` or ``request.fail``. Returns what cancels it.
Run = Callable[[Any, "Request"], Callable[[], object] | None]


class Request:
    """A call that a handler answers.

    ``edge_id`` is set at a service (0 elsewhere, and for calls of the gateway itself). ``deadline`` is Unix seconds
    by the caller's clock, or None. ``session`` is the session that it came on. ``traceparent`` is the W3C trace context
    that it came with, or empty.
    """

    __slots__ = (
        "method", "data", "custom", "edge_id", "traceparent", "deadline", "session", "size", "cancel_handler",
        "_packet_id", "_why",
    )  # fmt: skip

    def __init__(self, session: OperationHost, packet_id: int, method: str, data: MessageData) -> None:
        self.method = method
        self.data = data.payload
        self.custom, self.edge_id, self.traceparent = session.split(data.custom)
        times = [parse_time(text) for text in (data.deadline, data.context.deadline)]
        self.deadline = min((time for time in times if time is not None), default=None)
        self.session = session
        #: Bytes that it holds.
        self.size = len(self.data) + len(self.custom) + len(data.key) + OVERHEAD
        self.cancel_handler: Callable[[], object] | None = None
        self._packet_id = packet_id
        self._why = ""

    @property
    def canceled(self) -> bool:
        """Whether the caller gave up."""
        return bool(self._why)

    def respond(self, value: bytes | None) -> None:
        """Answer with a result; None is an empty one.

        :raises UnusableResult: it is neither; the request still waits for an answer.
        """
        if value is not None and type(value) is not bytes:
            try:
                value = octets(value, f"what the handler of {self.method!r} returns")
            except TypeError as error:
                raise UnusableResult(str(error)) from None
        try:
            self.session.answer(self._packet_id, self, self.method, value or b"", self._why)
        except PayloadTooLarge as error:
            self.fail(error)

    def fail(self, error: BaseException) -> str:
        """Answer with an error: its text where it is meant for the caller, otherwise a number.

        :return: this number; it is to stand in the log, with the error. Empty where the error speaks for itself, or the
            caller gave up.
        """
        text, number = self._why or spoken_text(error), ""
        if not text or isinstance(error, UnusableResult):
            number = reference()
            if text:
                text = f"rpc handler failed: {text}"
            elif self.session.connection.intake.error_texts:
                text = fitting(f"rpc handler failed: {type(error).__name__}: {error}".removesuffix(": "))
            else:
                text = f"rpc handler failed: reference {number}"
        self.session.answer(self._packet_id, self, self.method, b"", text)
        return number if not self._why else ""

    def cancel(self, reason: int) -> None:
        """The caller gave up, or is gone."""
        self._why = str(DeadlineExceeded() if reason == DEADLINE_EXCEEDED else Canceled())
        if self.cancel_handler is not None:
            self.cancel_handler()


class Message:
    """A message; its sender waits until ``ack`` or ``fail`` is called. ``edge_id`` is 0 but at a service;
    ``traceparent`` is as of ``Request``."""

    __slots__ = ("data", "topic", "custom", "edge_id", "traceparent", "session", "size", "_packet_id")

    def __init__(self, session: OperationHost, packet_id: int, data: MessageData) -> None:
        self.data = data.payload
        self.topic = data.topic
        self.custom, self.edge_id, self.traceparent = session.split(data.custom)
        self.session = session
        #: Bytes that it holds.
        self.size = len(self.data) + len(self.custom) + 4 * len(self.topic) + OVERHEAD
        self._packet_id = packet_id

    def ack(self) -> None:
        """Acknowledge it. A second answer does nothing, nor does one on a connection that is gone.

        :raises RuntimeError: this is not the thread, or the loop, of the client.
        """
        self.session.connection.home.check()
        self.refuse("")

    def fail(self, text: str) -> None:
        """Refuse it; the sender gets this text. RuntimeError as of ``ack``."""
        self.session.connection.home.check()
        self.refuse(string(text, "text") or "failed")

    def refuse(self, text: str) -> None:
        """Answer with this text; empty acknowledges."""
        packet_id, self._packet_id = self._packet_id, 0
        if packet_id and self.session.open:
            self.session.send(f.MESSAGE_ACK, packet_id, message_json(error=fitting(text)))


class Pending:
    """An operation that waits for the peer's answer."""

    __slots__ = ("tick", "done", "method", "_session", "_packet_id", "_kind", "_until", "_late")

    def __init__(self, session: OperationHost, packet_id: int, kind: int, done: Done) -> None:
        self.tick = 0
        self.done = done
        self._session = session
        self._packet_id = packet_id
        self._kind = kind
        self._until = NEVER
        self._late: type[OperationTimeout | DeadlineExceeded] = OperationTimeout

    @property
    def kind(self) -> int:
        """Type of the frame that was sent."""
        return self._kind

    def limit(self, when: float, late: type[OperationTimeout | DeadlineExceeded]) -> None:
        """Let it end at ``when`` of the process's clock, with this error."""
        self._until = when
        self._late = late
        self._session.connection.alarms.schedule(self, when)

    def error(self, text: str) -> Exception:
        """Return the error for an answer with this text.

        The gateway watches the same deadline, so the caller gets the same error whichever clock fires first.
        """
        if text == DeadlineExceeded.text and self._session.connection.alarms.now() >= self._until - 2 * RESOLUTION:
            return self._late()
        return from_answer(text)

    def fire(self, now: float) -> None:
        """The time is over: fail, and withdraw the call."""
        self._give_up(DEADLINE_EXCEEDED, self._late())

    def cancel(self) -> None:
        """Give up; harmless when it is over."""
        self._give_up(CANCELED, Canceled())

    def _give_up(self, reason: int, error: Exception) -> None:
        session = self._session
        if session.settle(self._packet_id) is self:
            if self._kind == f.REQUEST and session.open:
                session.send(f.REQUEST_CANCEL, self._packet_id, CANCEL_FIXED.pack(reason))
            self.done(None, error)
