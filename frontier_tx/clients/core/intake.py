"""What comes in: queues that stop their feeders or refuse when they are full, and the table of handlers.

One ``Intake`` belongs to a client, not to a connection: it outlives reconnects, and several connections may share one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from frontier_tx.clients.core.values import instance
from frontier_tx.errors import EndClosed

T = TypeVar("T")

#: Is told how an operation ended: its result, or the error.
Done = Callable[[Any, Exception | None], None]


def ignore(result: Any, error: Exception | None) -> None:
    """A ``Done`` for an operation whose outcome nobody waits for."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may hold. Sizes are bytes, the rest are counts."""

    #: Messages that wait for ``receive``, per client and per stream. At that many of the client's the end stops
    #: reading, or, where ``receive`` was never called, refuses further ones; those of a stream are always refused.
    messages: int = 1024
    #: What all these messages hold, those of streams included; further ones are refused.
    message_bytes: int = 67_108_864
    #: Raw bytes that wait to be read, per stream: the writer gets so much credit. Where the gateway speaks no credit
    #: the end stops reading at that many.
    stream_bytes: int = 1_048_576
    #: Streams that wait for ``accept_stream``; further ones are refused.
    accept: int = 128
    #: What all these streams hold, metas included; at that much the one that holds most is cut.
    accept_bytes: int = 67_108_864
    #: Calls, publishes and registrations under way per connection; further ones fail.
    pending: int = 65_536
    #: Handlers that run at a time per connection; further requests are answered with an error.
    requests: int = 10_000
    #: What the requests hold that handlers work on, per client; further ones are answered with an error.
    request_bytes: int = 268_435_456
    #: Bytes that wait to be sent per connection; further operations fail.
    unsent_bytes: int = 67_108_864
    #: Where a writer to a stream is asked to wait, and where it may go on.
    high_water: int = 262_144
    low_water: int = 65_536

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int):
                raise TypeError(f"{name}: expected int, not {type(value).__name__}")


class Budget:
    """Bytes that several hold together."""

    __slots__ = ("bound", "held")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.held = 0

    def take(self, size: int) -> bool:
        """Hold ``size`` more; return False if that is too much. The first item may be of any size."""
        if self.held and self.held + size > self.bound:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Hold ``size`` less."""
        self.held -= size


class Waiter:
    """Somebody who waits for an item.

    :param wake: called when there may be something for it; returns False when it does not wait any more.
    """

    __slots__ = ("wake", "_inbox")

    def __init__(self, inbox: "Inbox[Any]", wake: Callable[[], bool]) -> None:
        self._inbox = inbox
        self.wake = wake

    def cancel(self) -> None:
        """Stop waiting; harmless when it is over. If it was woken and took nothing, the next one is woken."""
        self._inbox.leave(self)


class Inbox(Generic[T]):
    """A queue. Those who wait are woken, and then take their item themselves, so that none is lost in between.

    :param bound: at so many items ``full`` turns true and the listeners are told; what still comes is taken. But while
        nobody has ever asked for an item, further ones are refused instead: an application that does not want any must
        not come to a halt because of them.
    :param stops: whether it does so; otherwise it always refuses what is beyond the bound.
    :param budget: of bytes, beyond which items are refused. Items then have a ``size``.
    """

    def __init__(self, bound: int, *, stops: bool = True, budget: Budget | None = None) -> None:
        self.bound = bound
        self.items: deque[T] = deque()
        self.full = False
        self.closed = False
        #: Whether anybody ever asked for an item.
        self.used = False
        #: Called with the new value of ``full``.
        self.listeners: set[Callable[[bool], None]] = set()
        self._stops = stops
        self._budget = budget
        self._waiters: dict[Waiter, None] = {}

    @property
    def ready(self) -> bool:
        """Whether ``pop`` has an answer."""
        return bool(self.items) or self.closed

    def put(self, item: T) -> bool:
        """Keep the item and wake the first who waits; return False when it is refused."""
        stops = self._stops and self.used
        if not stops and not self._waiters and len(self.items) >= self.bound:
            return False
        if self._budget is not None and not self._budget.take(item.size):  # type: ignore[attr-defined]
            return False
        self.items.append(item)
        self._wake_next()
        if stops and not self.full and len(self.items) >= self.bound:
            self._turn(True)
        return True

    def pop(self) -> T:
        """Take the next item.

        :raises EndClosed: there will be none. :raises IndexError: there is none now; see ``ready``.
        """
        self.used = True
        if not self.items and self.closed:
            raise EndClosed
        item = self.items.popleft()
        if self._budget is not None:
            self._budget.give_back(item.size)  # type: ignore[attr-defined]
        if self.full and len(self.items) <= self.bound // 2:
            self._turn(False)
        return item

    def wait(self, wake: Callable[[], bool]) -> Waiter:
        """Call ``wake`` once when there may be an item. It is to take it then, or to ``cancel`` what this returns."""
        self.used = True
        waiter = Waiter(self, wake)
        self._waiters[waiter] = None
        if self.ready:
            self._wake_next()
        return waiter

    def take(self, done: Done) -> Waiter:
        """Give the next item to ``done``, now or later; ``EndClosed`` when there will be none."""

        def wake() -> bool:
            try:
                item = self.pop()
            except EndClosed as error:
                done(None, error)
            else:
                done(item, None)
            return True

        return self.wait(wake)

    def leave(self, waiter: Waiter) -> None:
        """See ``Waiter.cancel``."""
        if waiter in self._waiters:
            del self._waiters[waiter]
        elif self.items:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if waiter.wake():
                return

    def close(self) -> None:
        """Nothing more will come; what is here may still be taken."""
        self.closed = True
        if self.full:
            self._turn(False)
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            waiter.wake()

    def release(self) -> None:
        """Count what is left no longer against the budget."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.give_back(sum(item.size for item in self.items))  # type: ignore[attr-defined]

    def _turn(self, full: bool) -> None:
        self.full = full
        for listener in list(self.listeners):
            listener(full)


class StreamInbox(Inbox[Any]):
    """Sessions that wait for somebody who accepts them."""

    def pop(self) -> Any:
        session = super().pop()
        session.claim()
        return session


class Intake:
    """Handlers, messages and accepted streams of one client, whatever number of connections feeds it.

    :param run: starts a user's handler for a request, see ``operations.Run``.
    :param error_texts: whether a caller reads what a handler raised, whatever that was.
    """

    def __init__(
        self,
        run: Callable[[Any, Any], Callable[[], object] | None],
        bounds: Bounds | None = None,
        *,
        error_texts: bool = False,
        traceparent: Callable[[], str] | None = None,
    ) -> None:
        self.run = run
        self.bounds = instance(bounds, Bounds, "bounds") or Bounds()
        self.error_texts = error_texts
        #: The W3C trace context of the moment, for calls and messages to gateways that take it.
        self.traceparent = traceparent
        self.methods: dict[str, Any] = {}
        self.message_budget = Budget(self.bounds.message_bytes)
        self.messages: Inbox[Any] = Inbox(self.bounds.messages, budget=self.message_budget)
        self.request_budget = Budget(self.bounds.request_bytes)
        self.accept_budget = Budget(self.bounds.accept_bytes)
        self.streams = StreamInbox(self.bounds.accept)
        #: Takes accepted streams in place of the queue.
        self.on_stream: Callable[[Any], None] | None = None

    def serve(self, on_stream: Callable[[Any], None]) -> None:
        """Give streams to ``on_stream``, those that wait first."""
        self.on_stream = on_stream
        while self.streams.items and self.on_stream is not None:
            self.on_stream(self.streams.pop())

    def close(self) -> None:
        """The client is closed for good."""
        self.messages.close()
        self.streams.close()
