"""One session at a client's end, sans-IO: calls, messages and methods.

Operations take a ``done`` that is called once with (result, error); adapters make Deferreds or futures of it.
"""

from typing import Any

from frontier_tx.clients.core.answers import no_such_rpc
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.hosts import SessionHost
from frontier_tx.clients.core.intake import Done, Inbox
from frontier_tx.clients.core.operations import Message, Pending, Request
from frontier_tx.clients.core.values import TAIL, octets, seconds, string
from frontier_tx.errors import (
    DeadlineExceeded,
    EndClosed,
    ForceClosed,
    OperationTimeout,
    PayloadTooLarge,
    ReceiverCongested,
    RemoteError,
    SendBufferFull,
    TooManyPending,
)
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_OBJECT, UNFIT, MessageData, decode_register, message_json, read_message
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.fixed import CANCEL_FIXED, CANCELED
from frontier_tx.wire.session import Session
from frontier_tx.wire.times import UNSET, format_time
from frontier_tx.wire.trace_context import checked, put, take

#: Bytes of a method's name that an answer repeats; what is longer is left out.
LONGEST_KEY = 4096


class ClientSession:
    """One session of a connection.

    :param tailed: ``custom`` ends in the edge's id, as between a service and its gateway.
    """

    def __init__(
        self,
        connection: SessionHost,
        wire: Session,
        methods: dict[str, Any],
        messages: Inbox[Message],
        tailed: bool = False,
    ) -> None:
        self.connection = connection
        self.wire = wire
        self.methods = methods
        self.messages = messages
        self.tailed = tailed
        #: For whoever wraps it.
        self.owner: Any = None
        self.open = True
        self.ended = False
        self._pending: dict[int, Pending] = {}
        self._running: dict[int, Request] = {}

    @property
    def home(self) -> Home:
        """Where it may be used."""
        return self.connection.home

    # -- sending ------------------------------------------------------------------------------------------

    def send(self, kind: int, packet_id: int, body: bytes) -> None:
        """Send a frame of this session.

        :raises PayloadTooLarge: the peer does not take a frame of this size.
        """
        connection = self.connection
        if not connection.wire.fits(len(body) + 8):
            raise PayloadTooLarge
        connection.wire.sessions.write(self.wire, f.pack_of_session(kind, packet_id, self.wire.id, body))

    def _start(self, kind: int, body: bytes, done: Done, timeout: float | None, deadline: float | None) -> Pending:
        connection = self.connection
        self._check_open()
        if connection.pending >= connection.bounds.pending:
            raise TooManyPending
        packet_id = next(connection.wire.ids)
        pending = Pending(self, packet_id, kind, done)
        self.send(kind, packet_id, body)
        self._pending[packet_id] = pending
        connection.pending += 1
        now = connection.alarms.now()
        until = now + max(0.0, deadline - connection.wall_clock()) if deadline is not None else None
        if timeout is not None and (until is None or now + timeout <= until):
            pending.limit(now + timeout, OperationTimeout)
        elif until is not None:
            pending.limit(until, DeadlineExceeded)
        return pending

    def _check_open(self) -> None:
        if not self.open or not self.wire.writable or not self.connection.wire.connected:
            raise EndClosed
        if self.connection.transport.unsent > self.connection.bounds.unsent_bytes:
            raise SendBufferFull

    def _with_context(self, custom: bytes) -> bytes:
        """``custom`` with the trace context of the moment before it, where the gateway takes it."""
        connection = self.connection
        traceparent = connection.intake.traceparent
        if traceparent is None or not connection.wire.traces:
            return custom
        return put(checked(traceparent()), custom)

    def _until(self, timeout: float | None) -> str:
        return UNSET if timeout is None else format_time(self.connection.wall_clock() + seconds(timeout, "timeout"))

    def call(
        self,
        method: str,
        data: bytes,
        done: Done,
        *,
        custom: bytes = b"",
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> Pending:
        """Call a method. ``timeout`` is seconds from now, ``deadline`` Unix seconds.

        :raises OperationError: nothing was sent.
        """
        body = message_json(
            key=string(method, "method").encode(),
            value=octets(data, "data"),
            custom=self._with_context(octets(custom, "custom")),
            deadline=self._until(timeout),
            context_deadline=_time(deadline),
        )
        return self._start(f.REQUEST, body, done, timeout, deadline)

    def publish(
        self,
        topic: str,
        data: bytes,
        done: Done,
        *,
        custom: bytes = b"",
        timeout: float | None = None,
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> Pending | None:
        """Send a message; with ``at_most_once`` it is done as soon as it is on its way.

        :raises OperationError: nothing was sent.
        """
        body = message_json(
            topic=string(topic, "topic"),
            value=octets(data, "data"),
            custom=self._with_context(octets(custom, "custom")),
            deadline=self._until(timeout),
            context_deadline=_time(deadline),
        )
        if not at_most_once:
            return self._start(f.MESSAGE, body, done, timeout, deadline)
        self._check_open()
        self.send(f.MESSAGE, next(self.connection.wire.ids), body)
        done(None, None)
        return None

    def register(self, method: str, done: Done, timeout: float | None = None) -> Pending:
        """Announce a method that stands in ``methods``."""
        if timeout is not None:
            seconds(timeout, "timeout")
        return self._start(f.REGISTER, string(method, "method").encode(), done, timeout, None)

    # -- receiving ----------------------------------------------------------------------------------------

    def receive(self, frame: f.Frame) -> None:
        """Take a frame of this session."""
        kind, packet_id = frame.type, frame.packet_id
        try:
            if kind == f.RESPONSE or kind == f.MESSAGE_ACK or kind == f.REGISTER_ACK:
                self._answered(kind, packet_id, frame.body)
            elif kind == f.REQUEST:
                self._requested(packet_id, _readable(frame.body))
            elif kind == f.MESSAGE:
                message = Message(self, packet_id, _readable(frame.body))
                if not self.messages.put(message):
                    message.refuse(ReceiverCongested.text)
            elif kind == f.STREAM:
                if frame.body:
                    self.took_bytes(frame.body)
            elif kind == f.REQUEST_CANCEL:
                request = self._running.get(packet_id)
                if request is not None:
                    request.cancel(CANCEL_FIXED.unpack_from(frame.body)[0])
            elif kind == f.REGISTER:
                self.send(f.REGISTER_ACK, packet_id, EMPTY_OBJECT)
        except IllegalPacket as error:
            self._unreadable(kind, packet_id, str(error))
        except _Unfit:
            self._unreadable(kind, packet_id, UNFIT)

    def _unreadable(self, kind: int, packet_id: int, why: str) -> None:
        """A body cannot be read. It may come from behind the gateway: it fails its operation, not the connection."""
        if kind == f.REQUEST:
            self._respond(packet_id, b"", b"", why)
        elif kind == f.MESSAGE:
            self.send(f.MESSAGE_ACK, packet_id, message_json(error=why))
        else:
            pending = self.settle(packet_id)
            if pending is not None:
                pending.done(None, RemoteError(why))

    def took_bytes(self, data: bytes) -> None:
        """Raw bytes came; session 1 has none."""

    def split(self, custom: bytes) -> tuple[bytes, int, str]:
        """Return a ``custom`` without trace context and edge id, that id, and that context."""
        traceparent = ""
        if self.connection.wire.traces:
            traceparent, custom = take(custom)
        if self.tailed and len(custom) >= TAIL:
            return custom[:-TAIL], int.from_bytes(custom[-TAIL:]), traceparent
        return custom, 0, traceparent

    def settle(self, packet_id: int) -> Pending | None:
        """Take an operation off the table."""
        pending = self._pending.pop(packet_id, None)
        if pending is not None:
            self.connection.pending -= 1
            self.connection.alarms.cancel(pending)
        return pending

    def _answered(self, kind: int, packet_id: int, body: bytes) -> None:
        if kind == f.REGISTER_ACK:
            error = decode_register(body).error
            pending = self.settle(packet_id)
            if pending is not None:
                pending.done(None, pending.error(error) if error else None)
            return
        data = read_message(body)
        pending = self.settle(packet_id)
        if pending is None:
            return
        if data.error:
            pending.done(None, pending.error(data.error))
        else:
            pending.done(data.payload if kind == f.RESPONSE else None, None)

    def _requested(self, packet_id: int, data: MessageData) -> None:
        connection = self.connection
        try:
            method = data.key.decode()
        except UnicodeDecodeError:
            method = ""
        handler = self.methods.get(method)
        if not self.open:
            return
        if handler is None:
            self._respond(packet_id, data.key, b"", no_such_rpc(data.key))
            return
        request = Request(self, packet_id, method, data)
        if connection.running >= connection.bounds.requests or not connection.intake.request_budget.take(request.size):
            self._respond(packet_id, data.key, b"", TooManyPending.text)
            return
        self._running[packet_id] = request
        connection.running += 1
        request.cancel_handler = connection.intake.run(handler, request)

    def answer(self, packet_id: int, request: Request, method: str, value: bytes, error: str) -> None:
        """A handler is done; send its answer unless the session is over.

        :raises PayloadTooLarge: the value does not fit; the request still waits for an answer.
        """
        if self.open:
            self._respond(packet_id, method.encode(), b"" if error else value, error)
        self.connection.running -= 1
        self.connection.intake.request_budget.give_back(request.size)
        if self._running.get(packet_id) is request:
            del self._running[packet_id]

    def _respond(self, packet_id: int, method: bytes, value: bytes, error: str) -> None:
        key = method if len(method) <= LONGEST_KEY else b""
        self.send(f.RESPONSE, packet_id, message_json(key=key, value=value, error=error))

    # -- the end ------------------------------------------------------------------------------------------

    def stop(self, why: str = "") -> None:
        """Nothing more can be sent: what is pending fails, and handlers are cancelled."""
        self.open = False
        for packet_id in list(self._pending):
            pending = self.settle(packet_id)
            if pending is not None:
                pending.done(None, ForceClosed(why))
        for request in list(self._running.values()):
            request.cancel(CANCELED)

    def over(self, cut: str | None = None) -> None:
        """The session is over: everything pending fails, and readers see the end after what is left.

        :param cut: why, where nobody closed it in order; empty: its connection was lost.
        """
        if not self.ended:
            self.ended = True
            self.stop(cut or "")


def _readable(body: bytes) -> MessageData:
    """Read the body of a request or a message.

    :raises IllegalPacket: it cannot be read. :raises _Unfit: it is too large for that.
    """
    data = read_message(body)
    if data.error is UNFIT:
        raise _Unfit
    return data


class _Unfit(Exception):
    """A request or a message whose body is too large to be read."""


def _time(deadline: float | None) -> str:
    return UNSET if deadline is None else format_time(seconds(deadline, "deadline"))
