"""One stream at a client's end, sans-IO: a session that carries raw bytes both ways, and can be closed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from frontier_tx.clients.core.hosts import SessionHost
from frontier_tx.clients.core.intake import Done, Inbox
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.reading import Reading
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.core.values import octets
from frontier_tx.clients.core.writing import Writing
from frontier_tx.errors import (
    EndClosed,
    ForceClosed,
    OperationTimeout,
    ReceiverCongested,
    SendBufferFull,
)
from frontier_tx.wire.session import Session

#: Bytes that a stream costs until somebody accepts it, besides what came on it.
OVERHEAD = 1024
#: While the far side takes nothing: seconds until ``close`` is done, and seconds until what is left is dropped.
LINGER, PATIENCE = 3.0, 300.0
#: What the far end reads of a stream that was aborted without a reason.
ABORTED = "aborted"


#: The stream whose callback runs in this context.
_served: ContextVar["StreamSession | None"] = ContextVar("served", default=None)


class StreamSession(ClientSession):
    """See the module."""

    #: The slot of the timer (``timers.Timed``).
    tick = 0

    def __init__(self, connection: SessionHost, wire: Session) -> None:
        intake = connection.intake
        messages: Inbox[Message] = Inbox(intake.bounds.messages, stops=False, budget=intake.message_budget)
        super().__init__(connection, wire, {}, messages)
        self.reading = Reading(self._freed)
        self.writing = Writing(connection.wire, wire, self._flushed)
        #: Who has not written all it has to, besides those who wait for ``drain``.
        self.writers = 0
        self._held = False
        self._waits_for_owner = 0
        self._closing = False
        self._dismissed = False
        self._undelivered = False
        self._closers: dict[Done, None] = {}
        self._enders: dict[Done, None] = {}
        self._moved_at = 0.0
        self._drains: dict[object, Done] = {}

    # -- waiting to be accepted ---------------------------------------------------------------------------

    def offer(self) -> bool:
        """Let it wait to be accepted; return False if the client's bound leaves no room."""
        size = OVERHEAD + len(self.wire.meta) + len(self.wire.peer)
        if not self.connection.intake.accept_budget.take(size):
            return False
        self._waits_for_owner = size
        return True

    def claim(self) -> None:
        """It was accepted."""
        size, self._waits_for_owner = self._waits_for_owner, 0
        self.connection.intake.accept_budget.give_back(size)
        self._hold()

    def withdraw(self, why: str) -> None:
        """End it before it was accepted."""
        intake = self.connection.intake
        if self in intake.streams.items:
            intake.streams.items.remove(self)
        self.claim()
        self.abort(why)

    def _room(self, size: int) -> bool:
        """Whether a stream that was not accepted yet may hold ``size`` bytes more."""
        intake = self.connection.intake
        unheld = self.wire.allowance is None and not intake.streams.used
        if unheld and self.reading.size + size > intake.bounds.stream_bytes:
            # Nothing stops this writer, and the program may never accept streams.
            return False
        while not intake.accept_budget.take(size):
            largest: StreamSession = max(intake.streams.items, key=lambda item: item._waits_for_owner, default=self)
            if largest is self or largest._waits_for_owner <= OVERHEAD:
                return False
            largest.withdraw(ReceiverCongested.text)
        self._waits_for_owner += size
        return True

    # -- what comes ---------------------------------------------------------------------------------------

    def took_bytes(self, data: bytes) -> None:
        """Raw bytes came; on a stream that this end closes they are dropped."""
        if not self.open:
            return
        if self._waits_for_owner and not self._room(len(data)):
            self.withdraw(ReceiverCongested.text)
            return
        self.reading.put(data)
        self._hold()

    def _hold(self) -> None:
        """Stop reading the connection while that is the only way to stop the writer."""
        size, bound = self.reading.size, max(1, self.connection.bounds.stream_bytes)
        held = (
            self.open
            and self.wire.allowance is None
            and not self._waits_for_owner
            and (size >= bound or (self._held and size > bound // 2))
        )
        if held != self._held:
            self._held = held
            self.connection.congested(held)

    def _freed(self, size: int) -> None:
        self.connection.wire.grant(self.wire, size)
        if self._held:
            self._hold()

    # -- what goes ----------------------------------------------------------------------------------------

    @contextmanager
    def served(self) -> Iterator[Callable[[bool], None]]:
        """Start what serves this stream in here; then call what this gives with True, or with False if that failed."""

        def over(whole: bool) -> None:
            self.writers -= 1
            if not whole and self.open:
                self.abort()

        self.writers += 1
        token = _served.set(self)
        try:
            yield over
        finally:
            _served.reset(token)

    @property
    def unfinished(self) -> bool:
        """Whether somebody is still writing. A callback that itself closes the client is not."""
        return self.open and bool(self.writers or self._drains) and _served.get() is not self

    def write(self, data: bytes) -> None:
        """Send raw bytes, in as many frames as it takes, as far as the peer lets it; the rest follows by itself.

        :raises OperationError: nothing was sent.
        """
        self._check_open()
        if self.writing.size > self.connection.bounds.unsent_bytes:
            raise SendBufferFull
        self.writing.write(data if type(data) is bytes else octets(data, "data"))

    @property
    def backlog(self) -> int:
        """Bytes that must be sent before a writer may go on."""
        return max(self.connection.transport.unsent, self.writing.size)

    def drain(self, done: Done) -> Callable[[], None]:
        """Tell ``done`` when enough was sent for a writer to go on. Returns what cancels."""
        token = object()
        if not self.open:
            done(None, ForceClosed() if self._undelivered else EndClosed())
        elif self.backlog <= self.connection.bounds.high_water:
            done(None, None)
        else:
            self._drains[token] = done
            self.connection.drains[self] = None
        return lambda: self._leave_drain(token)

    def _leave_drain(self, token: object) -> None:
        self._drains.pop(token, None)
        if not self._drains:
            self.connection.drains.pop(self, None)

    def drained(self) -> None:
        """Something was sent."""
        if self._drains and self.backlog <= self.connection.bounds.low_water:
            self._tell_drained(None)

    def _tell_drained(self, error: Exception | None) -> None:
        drains, self._drains = self._drains, {}
        self.connection.drains.pop(self, None)
        for done in drains.values():
            done(None, error)

    def credited(self) -> None:
        """The peer takes more."""
        self.writing.go_on()
        self.drained()
        self.connection.stream_moved()
        if self._closing and not self._dismissed:
            self._moved_at = self.connection.alarms.now()
            self._limit()

    def _flushed(self) -> None:
        if self._closing:
            self._dismiss("")
        self.connection.stream_sent()

    # -- the end ------------------------------------------------------------------------------------------

    def close(self, done: Done, *, at_the_end: bool = False) -> None:
        """Flush, then dismiss the session; what is pending fails, what was not read is discarded.

        ``done`` is told when the peer knows; ForceClosed where what was written cannot have come to it. It waits for no
        far side that stands still: what is left follows when that goes on.

        :param at_the_end: it does wait.
        """
        self.reading.discard()
        if self.ended:
            done(None, ForceClosed() if self._undelivered else None)
            return
        (self._enders if at_the_end else self._closers)[done] = None
        if not self.open:
            if self._closing and not self._dismissed:
                self._limit()
            return
        self._closing = True
        self.stop()
        self._hold()
        self._tell_drained(EndClosed())
        if self.writing.size:
            self._moved_at = self.connection.alarms.now()
            self._limit()
        else:
            self._dismiss("")

    def abort(self, why: str = "") -> None:
        """End it at once: nothing more is sent or read, and the far end is told why."""
        if self.ended:
            self.reading.discard()
            return
        self.connection.forget(self)
        self.over(why)
        self.reading.discard()
        self._dismiss(why or ABORTED)

    def _dismiss(self, error: str) -> None:
        if not self._dismissed:
            self._dismissed = True
            self.connection.alarms.cancel(self)
            self.connection.wire.dismiss(self.wire, self.connection.alarms.now(), error)

    def _limit(self) -> None:
        wait = LINGER if self._closers else PATIENCE
        self.connection.alarms.schedule(self, max(self.connection.alarms.now(), self._moved_at + wait))

    def fire(self, now: float) -> None:
        """The peer took nothing of what is left to be sent, for some time."""
        if now - self._moved_at >= PATIENCE:
            self.abort(OperationTimeout.text)
            return
        closers, self._closers = self._closers, {}
        self._limit()
        for done in closers:
            done(None, None)

    @property
    def lost(self) -> bool:
        """Whether it ended without being closed in order."""
        return self.reading.error is not None

    def over(self, cut: str | None = None) -> None:
        if self.ended:
            return
        # An end that closed the stream itself is not told that it was cut.
        error = ForceClosed(cut) if cut is not None and self.open else None
        self._undelivered = self.writing.size > 0
        self.writing.discard()
        self.connection.alarms.cancel(self)
        super().over(cut)
        self._hold()
        self._tell_drained(error or EndClosed())
        self.messages.release()
        self.messages.close()
        self.reading.end(error)
        closers = self._closers | self._enders
        self._closers, self._enders = {}, {}
        for done in closers:
            done(None, ForceClosed() if self._undelivered else None)
