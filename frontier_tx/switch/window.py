"""Windows: how many Messages an end may have before it acknowledged them (docs/decisions/message-window.md).

Ends of the Go library stop for ever when some hundreds of Messages are on their way to them at once, and an end that
takes its messages slowly shall not have its connection full of them. So only so many are out at a time. Those behind
them wait here, in order, until one is acknowledged or given up.

The sessions of a connection share its window. Where it is used up each of them may still have one message out, so that
one which acknowledges nothing slows the others down and does not stop them. A peer that acknowledges nothing at all for
``PATIENCE`` while messages wait is taken for one that collects them first: its window doubles each time, until it
acknowledges one.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from frontier_tx.timers import Timers

if TYPE_CHECKING:
    from frontier_tx.switch.leg import Leg
    from frontier_tx.switch.pending import Pending
    from frontier_tx.wire.sessions import Session

#: What a waiting message costs beside its frame, in bytes; it counts against what may wait for a receiver.
OVERHEAD = 512
#: Seconds without any acknowledgement after which a peer gets more.
PATIENCE = 1.0


class Window:
    """All Messages on their way to one leg.

    :param size: how many may be out at a peer that acknowledges them.
    """

    __slots__ = ("leg", "size", "room", "out", "waiting", "tick", "_timers", "_moved")

    def __init__(self, leg: "Leg", size: int, timers: Timers) -> None:
        self.leg = leg
        self.size = size
        #: How many may be out at the moment.
        self.room = size
        #: How many are out and not acknowledged.
        self.out = 0
        #: Lanes in which something waits, the one that is served next first. Each of them has something out, and
        #: the window is used up.
        self.waiting: OrderedDict[Lane, None] = OrderedDict()
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._timers = timers
        self._moved = False

    def await_room(self, lane: "Lane") -> None:
        """Something begins to wait in a lane."""
        self.waiting[lane] = None
        if not self.tick:
            self._moved = False
            self._timers.schedule(self, self._timers.now() + PATIENCE)

    def release(self) -> None:
        """One that was out is acknowledged or given up."""
        self.out -= 1
        self.room = self.size
        self._moved = True

    def forget(self, lane: "Lane") -> None:
        """Nothing waits in a lane any more."""
        del self.waiting[lane]
        if not self.waiting:
            self._timers.cancel(self)

    def advance(self) -> None:
        """Send what there is room for, one of each lane in turn."""
        while self.waiting and self.out < self.room:
            next(iter(self.waiting)).send_next()

    def fire(self, now: float) -> None:
        """Something has waited for ``PATIENCE``."""
        if not self._moved:
            self.room *= 2
            self.advance()
        self._moved = False
        if self.waiting:
            self._timers.schedule(self, now + PATIENCE)


class Lane:
    """The Messages on their way to one session of a leg.

    :param session: None for session 1.
    """

    __slots__ = ("window", "session", "out", "on_drained", "_queue", "_waiting")

    def __init__(self, window: Window, session: "Session | None") -> None:
        self.window = window
        self.session = session
        #: How many are out and not acknowledged.
        self.out = 0
        #: Called when nothing waits any more, once.
        self.on_drained: Callable[[], None] | None = None
        #: What waits, and what was given up meanwhile: that has no frame any more.
        self._queue: deque[Pending] = deque()
        self._waiting = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    def enter(self, pending: "Pending", frame: bytes) -> bool:
        """Count a message; return whether it is to be sent now. Otherwise it waits."""
        pending.lane = self
        window = self.window
        if self.out and window.out >= window.room:
            self._queue.append(pending)
            pending.frame = frame
            self._waiting += 1
            window.leg.waiting_bytes += len(frame) + OVERHEAD
            if self._waiting == 1:
                window.await_room(self)
            return False
        self.out += 1
        window.out += 1
        return True

    def leave(self, pending: "Pending") -> None:
        """A message is answered or given up, whether it was out or still waited."""
        pending.lane = None
        if pending.frame is not None:
            self._take_frame(pending)
            return
        self.out -= 1
        self.window.release()
        if self._waiting and not self.out:
            self.send_next()
        if self.window.waiting:
            self.window.advance()

    def send_next(self) -> None:
        """Send the first message that waits; the next one is another lane's turn."""
        while True:
            pending = self._queue.popleft()
            if pending.frame is not None:
                break
        self.out += 1
        self.window.out += 1
        self.window.waiting.move_to_end(self)
        connection = self.window.leg.connection
        if self.session is None:
            connection.write(pending.frame)
        else:
            connection.sessions.write(self.session, pending.frame)
        self._take_frame(pending)

    def _take_frame(self, pending: "Pending") -> None:
        frame, pending.frame = pending.frame, None
        assert frame is not None
        self._waiting -= 1
        self.window.leg.waiting_bytes -= len(frame) + OVERHEAD
        if not self._waiting:
            self._queue.clear()
            self.window.forget(self)
            if self.on_drained is not None:
                drained, self.on_drained = self.on_drained, None
                drained()

    def shut(self) -> None:
        """The session is over: nothing that waits will be sent. Its owner settles it."""
        self.on_drained = None
        for pending in self._queue.copy():
            if pending.frame is not None:
                self._take_frame(pending)
                pending.lane = None
