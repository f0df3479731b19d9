"""What comes in: queues that stop their feeders when they are full, and the table of handlers.

One ``Intake`` belongs to a client, not to a connection: it outlives reconnects, and several connections may share one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from frontier_tx.clients.values import instance
from frontier_tx.wire.errors import EndClosed

T = TypeVar("T")

#: Told how an operation ended: its result, or the error.
Done = Callable[[Any, Exception | None], None]


def ignore(result: Any, error: Exception | None) -> None:
    """A ``Done`` for an operation whose outcome nobody waits for."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may hold. Sizes are bytes, the rest are counts."""

    #: Messages that wait for ``receive``, per client and per stream; at that many the end stops reading, or, where
    #: ``receive`` was never called, refuses further ones.
    messages: int = 1024
    #: Raw bytes that wait to be read, per stream; at that many the end stops reading.
    stream_bytes: int = 1_048_576
    #: Streams that wait for ``accept_stream``; further ones are refused.
    accept: int = 128
    #: Calls, publishes and registrations under way per connection; further ones fail.
    pending: int = 65_536
    #: Handlers that run at a time per connection; further requests are answered with an error.
    requests: int = 10_000
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


class Inbox(Generic[T]):
    """A queue with waiters.

    :param bound: at so many items ``full`` turns true and the listeners are told; what still comes is taken. But while
        nobody has ever asked for an item, further ones are refused instead: an application that does not want any must
        not come to a halt because of them.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.items: deque[T] = deque()
        self.full = False
        self.closed = False
        #: Whether anybody ever asked for an item.
        self.used = False
        #: Called with the new value of ``full``.
        self.listeners: set[Callable[[bool], None]] = set()
        self._waiters: deque[Waiter] = deque()

    def put(self, item: T) -> bool:
        """Give the item to the first who waits, or keep it; return False when it is refused."""
        if self._waiters:
            self._waiters.popleft().done(item, None)
            return True
        if not self.used and len(self.items) >= self.bound:
            return False
        self.items.append(item)
        if self.used and not self.full and len(self.items) >= self.bound:
            self._turn(True)
        return True

    def put_back(self, item: T) -> None:
        """Somebody took the item and cannot use it: it is the next again."""
        if self._waiters:
            self._waiters.popleft().done(item, None)
        else:
            self.items.appendleft(item)

    def take(self, done: Done) -> "Waiter":
        """Give the next item to ``done``, now or later; ``EndClosed`` when there will be none."""
        self.used = True
        waiter = Waiter(self._waiters, done)
        if self.items:
            item = self.items.popleft()
            if self.full and len(self.items) <= self.bound // 2:
                self._turn(False)
            done(item, None)
        elif self.closed:
            done(None, EndClosed())
        else:
            self._waiters.append(waiter)
        return waiter

    def close(self) -> None:
        """Nothing more will come; what is here may still be taken."""
        self.closed = True
        if self.full:
            self._turn(False)
        while self._waiters:
            self._waiters.popleft().done(None, EndClosed())

    def _turn(self, full: bool) -> None:
        self.full = full
        for listener in list(self.listeners):
            listener(full)


class Waiter:
    """Somebody who waits for an item."""

    __slots__ = ("done", "_queue")

    def __init__(self, queue: "deque[Waiter]", done: Done) -> None:
        self._queue = queue
        self.done = done

    def cancel(self) -> None:
        """Stop waiting; harmless when it is over."""
        if self in self._queue:
            self._queue.remove(self)


class Intake:
    """Handlers, messages and accepted streams of one client, whatever number of connections feeds it.

    :param run: starts a user's handler for a request, see ``operations.Run``.
    """

    def __init__(self, run: Callable[[Any, Any], Callable[[], object] | None], bounds: Bounds | None = None) -> None:
        self.run = run
        self.bounds = instance(bounds, Bounds, "bounds") or Bounds()
        self.methods: dict[str, Any] = {}
        self.messages: Inbox[Any] = Inbox(self.bounds.messages)
        self.streams: Inbox[Any] = Inbox(self.bounds.accept)
        #: Takes accepted streams in place of the queue.
        self.on_stream: Callable[[Any], None] | None = None

    def close(self) -> None:
        """The client is closed for good."""
        self.messages.close()
        self.streams.close()
