"""The application layer of one session at a client's end, sans-IO: calls, messages, methods and raw bytes.

Operations take a ``done`` that is called once with (result, error); adapters make Deferreds or futures of it.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from frontier_tx.clients.errors import NO_SUCH_RPC, SendBufferFull
from frontier_tx.clients.intake import Done, Inbox, ignore
from frontier_tx.clients.operations import Message, Pending, Request
from frontier_tx.clients.values import TAIL, octets, seconds, string
from frontier_tx.switch.errors import ReceiverCongested
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_OBJECT, MessageData, decode_message, decode_register, message_json
from frontier_tx.wire.errors import (
    DeadlineExceeded,
    EndClosed,
    ForceClosed,
    IllegalPacket,
    OperationTimeout,
    PayloadTooLarge,
    TooManyPending,
)
from frontier_tx.wire.packets import CANCEL_FIXED, CANCELED
from frontier_tx.wire.sessions import Session
from frontier_tx.wire.times import UNSET, format_time

if TYPE_CHECKING:
    from frontier_tx.clients.end import End


class Channel:
    """One session of a connection.

    :param tailed: ``custom`` ends in the edge's id, as between a service and its gateway.
    """

    def __init__(
        self, end: "End", session: Session, methods: dict[str, Any], messages: Inbox[Message], tailed: bool = False
    ) -> None:
        self.end = end
        self.session = session
        self.methods = methods
        self.messages = messages
        self.tailed = tailed
        #: For whoever wraps it.
        self.owner: Any = None
        self.open = True
        #: Takes raw bytes, then None when there are no more, in place of ``read``.
        self.on_bytes: Callable[[bytes | None], None] | None = None
        #: Called when the writer may go on; ``waiting_to_write`` counts the others.
        self.on_drained: Callable[[], None] | None = None
        self._pending: dict[int, Pending] = {}
        self._running: dict[int, Request] = {}
        self._raw: deque[bytes] = deque()
        self._raw_bytes = 0
        self._raw_full = False
        self._eof = False
        #: Whether it ended with its connection, and not because either side closed it.
        self.lost = False
        self._reader: tuple[int, Done] | None = None
        self._closers: list[Done] = []
        messages.listeners.add(self.end.congested)
        if messages.full:
            self.end.congested(True)

    # -- sending ------------------------------------------------------------------------------------------

    def send(self, kind: int, packet_id: int, body: bytes) -> None:
        """Send a frame of this session.

        :raises PayloadTooLarge: the peer does not take a frame of this size.
        """
        end = self.end
        if not end.connection.fits(len(body) + 8):
            raise PayloadTooLarge
        end.connection.sessions.write(self.session, f.pack_of_session(kind, packet_id, self.session.id, body))

    def _start(self, kind: int, body: bytes, done: Done, timeout: float | None, deadline: float | None) -> Pending:
        end = self.end
        self._check_open()
        if end.pending >= end.bounds.pending:
            raise TooManyPending
        packet_id = next(end.connection.ids)
        pending = Pending(self, packet_id, kind, done)
        self.send(kind, packet_id, body)
        self._pending[packet_id] = pending
        end.pending += 1
        now = end.alarms.now()
        until = now + max(0.0, deadline - end.wall_clock()) if deadline is not None else None
        if timeout is not None and (until is None or now + timeout <= until):
            pending.limit(now + timeout, OperationTimeout)
        elif until is not None:
            pending.limit(until, DeadlineExceeded)
        return pending

    def _check_open(self) -> None:
        if not self.open or not self.session.writable or not self.end.connection.connected:
            raise EndClosed
        if self.end.link.unsent > self.end.bounds.unsent_bytes:
            raise SendBufferFull

    def _until(self, timeout: float | None) -> str:
        return UNSET if timeout is None else format_time(self.end.wall_clock() + seconds(timeout, "timeout"))

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

        :raises LocalError: nothing was sent.
        """
        body = message_json(
            key=string(method, "method").encode(),
            value=octets(data, "data"),
            custom=octets(custom, "custom"),
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

        :raises LocalError: nothing was sent.
        """
        body = message_json(
            topic=string(topic, "topic"),
            value=octets(data, "data"),
            custom=octets(custom, "custom"),
            deadline=self._until(timeout),
            context_deadline=_time(deadline),
        )
        if not at_most_once:
            return self._start(f.MESSAGE, body, done, timeout, deadline)
        self._check_open()
        self.send(f.MESSAGE, next(self.end.connection.ids), body)
        done(None, None)
        return None

    def register(self, method: str, done: Done, timeout: float | None = None) -> Pending:
        """Announce a method that stands in ``methods``."""
        if timeout is not None:
            seconds(timeout, "timeout")
        return self._start(f.REGISTER, string(method, "method").encode(), done, timeout, None)

    def write(self, data: bytes) -> None:
        """Send raw bytes, in as many frames as it takes.

        :raises LocalError: nothing was sent.
        """
        self._check_open()
        if type(data) is not bytes:
            data = octets(data, "data")
        ids = self.end.connection.ids
        most = self.end.connection.peer_frame_bytes - 8
        for start in range(0, len(data), most):
            self.send(f.STREAM, next(ids), data[start : start + most])

    def drain(self, done: Done) -> None:
        """Tell ``done`` when the connection has sent enough for the writer to go on."""
        if not self.open:
            done(None, EndClosed())
        elif self.end.link.unsent <= self.end.bounds.high_water:
            done(None, None)
        else:
            self.end.drains.append(done)

    # -- receiving ----------------------------------------------------------------------------------------

    def receive(self, frame: f.Frame) -> None:
        """Take a frame of this session."""
        kind, packet_id = frame.type, frame.packet_id
        if kind == f.RESPONSE or kind == f.MESSAGE_ACK or kind == f.REGISTER_ACK:
            self._answered(kind, packet_id, frame.body)
        elif kind == f.REQUEST:
            self._requested(packet_id, decode_message(frame.body)[0])
        elif kind == f.MESSAGE:
            message = Message(self, packet_id, decode_message(frame.body)[0])
            if not self.messages.put(message):
                message.fail(ReceiverCongested.text)
        elif kind == f.STREAM:
            if frame.body:
                self._took_bytes(frame.body)
        elif kind == f.REQUEST_CANCEL:
            request = self._running.get(packet_id)
            if request is not None:
                request.cancel(CANCEL_FIXED.unpack_from(frame.body)[0])
        elif kind == f.REGISTER:
            self.send(f.REGISTER_ACK, packet_id, EMPTY_OBJECT)

    def split(self, custom: bytes) -> tuple[bytes, int]:
        """Return a ``custom`` without the edge's id, and that id."""
        if self.tailed and len(custom) >= TAIL:
            return custom[:-TAIL], int.from_bytes(custom[-TAIL:])
        return custom, 0

    def settle(self, packet_id: int) -> Pending | None:
        """Take an operation off the table."""
        pending = self._pending.pop(packet_id, None)
        if pending is not None:
            self.end.pending -= 1
            self.end.alarms.cancel(pending)
        return pending

    def _answered(self, kind: int, packet_id: int, body: bytes) -> None:
        if kind == f.REGISTER_ACK:
            error = decode_register(body).error
            pending = self.settle(packet_id)
            if pending is not None:
                pending.done(None, pending.error(error) if error else None)
            return
        data = decode_message(body)[0]
        pending = self.settle(packet_id)
        if pending is None:
            return
        if data.error:
            pending.done(None, pending.error(data.error))
        else:
            pending.done(data.payload if kind == f.RESPONSE else None, None)

    def _requested(self, packet_id: int, data: MessageData) -> None:
        end = self.end
        try:
            method = data.key.decode()
        except UnicodeDecodeError:
            raise IllegalPacket("a method name that is not UTF-8") from None
        handler = self.methods.get(method)
        if handler is None:
            self._respond(packet_id, method, b"", NO_SUCH_RPC + method)
        elif end.running >= end.bounds.requests:
            self._respond(packet_id, method, b"", str(TooManyPending()))
        else:
            request = Request(self, packet_id, method, data)
            self._running[packet_id] = request
            end.running += 1
            request.cancel_handler = end.intake.run(handler, request)

    def answer(self, packet_id: int, request: Request, method: str, value: bytes, error: str) -> None:
        """A handler is done; on a session that is over nobody hears it.

        :raises PayloadTooLarge: the value does not fit; the request still waits for an answer.
        """
        if self.open:
            self._respond(packet_id, method, b"" if error else value, error)
        self.end.running -= 1
        if self._running.get(packet_id) is request:
            del self._running[packet_id]

    def _respond(self, packet_id: int, method: str, value: bytes, error: str) -> None:
        self.send(f.RESPONSE, packet_id, message_json(key=method.encode(), value=value, error=error))

    # -- raw bytes ----------------------------------------------------------------------------------------

    def _took_bytes(self, data: bytes) -> None:
        if self is self.end.main or not (self.open or self._closers):
            return
        if self.on_bytes is not None:
            self.on_bytes(data)
            return
        self._raw.append(data)
        self._raw_bytes += len(data)
        if not self._raw_full and self._raw_bytes >= self.end.bounds.stream_bytes:
            if self.owner is None and not self.end.intake.streams.used:
                # It waits to be accepted in a program that accepts none.
                self.close(ignore)
                self._raw.clear()
                self._raw_bytes = 0
                return
            self._raw_full = True
            self.end.congested(True)
        self._serve_reader()

    def read(self, most: int, done: Done) -> Callable[[], None]:
        """Give up to ``most`` bytes (all that is here when negative), and ``b""`` at the end.

        Where the connection was lost there is no such end, but ForceClosed: more may have been on its way. Returns
        what cancels it.
        """
        if not isinstance(most, int):
            raise TypeError(f"read: expected a number of bytes, not {type(most).__name__}")
        if self._reader is not None:
            raise RuntimeError("another read of this stream is under way")
        if most == 0:
            done(b"", None)
            return _nothing
        mine = self._reader = (most, done)
        self._serve_reader()

        def cancel() -> None:
            if self._reader is mine:
                self._reader = None

        return cancel

    def _serve_reader(self) -> None:
        if self._reader is None or not (self._raw or self._eof):
            return
        most, done = self._reader
        self._reader = None
        if self.lost and not self._raw:
            done(None, ForceClosed())
        else:
            done(self._take_bytes(most), None)

    def _take_bytes(self, most: int) -> bytes:
        if not self._raw:
            return b""
        if most < 0:
            data = b"".join(self._raw)
            self._raw.clear()
        else:
            data = self._raw.popleft()
            if len(data) > most:
                self._raw.appendleft(data[most:])
                data = data[:most]
        self._raw_bytes -= len(data)
        self._relieve()
        return data

    def unread(self, data: bytes) -> None:
        """Somebody read this and cannot use it: it is read next."""
        if data:
            self._raw.appendleft(data)
            self._raw_bytes += len(data)
            self._serve_reader()

    def _relieve(self) -> None:
        if self._raw_full and self._raw_bytes <= self.end.bounds.stream_bytes // 2:
            self._raw_full = False
            self.end.congested(False)

    def flow_to(self, on_bytes: Callable[[bytes | None], None] | None) -> None:
        """Push raw bytes from now on to ``on_bytes``, those that wait first; None goes back to keeping them."""
        self.on_bytes = on_bytes
        while self._raw and self.on_bytes is not None:
            self.on_bytes(self._take_bytes(-1))
        if self._eof and self.on_bytes is not None:
            self.on_bytes(None)

    # -- the end ------------------------------------------------------------------------------------------

    def close(self, done: Done) -> None:
        """Flush, then dismiss the session; what is pending fails. ``done`` is told when the peer knows."""
        if self._eof:
            done(None, None)
            return
        self._closers.append(done)
        if self.open:
            self._stop(ForceClosed)
            self.end.connection.dismiss(self.session, self.end.alarms.now())

    def _stop(self, error: type[Exception]) -> None:
        self.open = False
        for packet_id in list(self._pending):
            pending = self.settle(packet_id)
            if pending is not None:
                pending.done(None, error())
        for request in list(self._running.values()):
            request.cancel(CANCELED)

    def ended(self, *, lost: bool = False) -> None:
        """The session is over: everything pending fails, and readers see the end after what is left.

        :param lost: nobody closed it, its connection ended.
        """
        if self._eof:
            return
        self.lost = lost and self.open
        self._stop(ForceClosed)
        self._eof = True
        self.messages.listeners.discard(self.end.congested)
        if self.messages.full:
            self.end.congested(False)
        if self._raw_full:
            self._raw_full = False
            self.end.congested(False)
        if self is not self.end.main:
            self.messages.close()
        if self.on_bytes is not None:
            self.on_bytes(None)
        self._serve_reader()
        closers, self._closers = self._closers, []
        for done in closers:
            done(None, None)


def _time(deadline: float | None) -> str:
    return UNSET if deadline is None else format_time(seconds(deadline, "deadline"))


def _nothing() -> None:
    pass
