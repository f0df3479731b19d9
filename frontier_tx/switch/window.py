"""Windows: how many calls and Messages may be out at a leg, unanswered (docs/decisions/message-window.md).

Ends of the Go library stop for ever when some hundreds of Messages are on their way to them at once. And a slow end
shall not get all the work of one sender before it gets any of another. So a window bounds how many are out at a time.
The others wait here, by sender, and the senders are served in turn.

When the window is full, each session may still have one Message out, and a sender with little under way some calls: a
session that never answers slows the others but cannot block them. If the receiver answers next to nothing for
``PATIENCE`` while others wait, the window is doubled.
"""

from collections import OrderedDict

from frontier_tx.switch.doors import Doors
from frontier_tx.switch.lanes import FRAME_BYTES
from frontier_tx.switch.legs import Leg, Pending, StreamEnd, WaitQueue
from frontier_tx.timers import Timers

#: What keeping one of those that wait costs beside its frame, in bytes.
OVERHEAD = 512
#: Seconds after which a window that stands still is doubled.
PATIENCE = 1.0
#: Calls that a sender may have out anywhere however full the windows of its receivers are.
ALWAYS = 8


class Window:
    """Calls, or Messages, on their way to one leg.

    :param size: how many may be out at a peer that answers them.
    :param most: how far it may be doubled.
    """

    __slots__ = ("leg", "size", "most", "room", "out", "stream_out", "waiting", "answered", "tick", "_doors", "_timers")

    #: A window stands still if fewer than one in so many that are out are answered in ``PATIENCE``; here: if none is.
    share = 1 << 30

    def __init__(self, leg: Leg, size: int, most: int, doors: Doors, timers: Timers) -> None:
        self.leg = leg
        self.size = size
        self.most = max(size, most)
        #: How many may be out at the moment.
        self.room = size
        #: How many are out and not answered, and how many of these on streams.
        self.out = 0
        self.stream_out = 0
        #: By sender what waits, the one that is served next first; of each the sessions in the same way.
        self.waiting: OrderedDict[Leg, OrderedDict[StreamEnd | None, WaitQueue]] = OrderedDict()
        #: How many were answered, or given up, since the last look.
        self.answered = 0
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._doors = doors
        self._timers = timers

    # -- coming -------------------------------------------------------------------------------------------

    def grants(self, sender: Leg, end: StreamEnd | None) -> bool:
        """Whether one more may go out although the window is used up."""
        mine = self.waiting.get(sender)
        return (mine is None or end not in mine) and self._spares(sender, end)

    def _spares(self, sender: Leg, end: StreamEnd | None) -> bool:
        raise NotImplementedError

    def wait(self, pending: Pending, sender: Leg, end: StreamEnd | None, frame: bytes) -> None:
        """Let one wait. It has been admitted (``Doors.refuses``)."""
        parks = end is not None and (end.mute if pending.request else end.full)
        queue = self._queue(sender, end, parks, pending.request)
        queue.items[pending] = None
        pending.queue = queue
        pending.frame = frame
        sender.held_back += 1
        if end is not None:
            end.queued += 1
        self._doors.count(sender, self.leg, len(frame) + OVERHEAD + FRAME_BYTES)
        if not self.tick and not parks:
            self.answered = 0
            self._timers.schedule(self, self._timers.now() + PATIENCE)

    def _queue(self, sender: Leg, end: StreamEnd | None, parks: bool, request: bool) -> WaitQueue:
        """The queue in which one waits: with the others, or apart until the stream itself has room."""
        if parks:
            assert end is not None
            apart = end.parked_calls if request else end.parked
            if apart is None:
                apart = WaitQueue(sender, end)
                if request:
                    end.parked_calls = apart
                else:
                    end.parked = apart
            return apart
        mine = self.waiting.get(sender)
        if mine is None:
            mine = self.waiting[sender] = OrderedDict()
        queue = mine.get(end)
        if queue is None:
            queue = mine[end] = WaitQueue(sender, end)
        return queue

    # -- going --------------------------------------------------------------------------------------------

    def leave(self, pending: Pending) -> None:
        """One is answered or given up; it is in no table of calls any more."""
        queue = pending.queue
        if queue is not None:
            self._take(pending, queue)
            return
        self.out -= 1
        self.answered += 1
        end = pending.end
        if end is not None and not pending.request:
            self.stream_out -= 1
            end.out -= 1
            if end.parked is not None and not end.full:
                queue, end.parked = end.parked, None
                self._rejoin(end, queue)
        self.answer_came()
        if self.waiting:
            self._advance()
            if self.waiting:
                self._replace(pending.sender, end)

    def unpark(self, end: StreamEnd, queue: WaitQueue) -> None:
        """What waited until somebody is there takes its turns."""
        self._rejoin(end, queue)
        self._advance()

    def _rejoin(self, end: StreamEnd, queue: WaitQueue) -> None:
        """What waited apart takes its turn."""
        self.waiting.setdefault(queue.sender, OrderedDict())[end] = queue
        if not self.tick:
            self.answered = 0
            self._timers.schedule(self, self._timers.now() + PATIENCE)

    def answer_came(self) -> None:
        """See whether the window goes back to its size."""
        raise NotImplementedError

    def _advance(self) -> None:
        """Send what there is room for, one of each sender in turn."""
        while self.waiting and self.out < self.room:
            sender, mine = next(iter(self.waiting.items()))
            self._send_next(sender, mine, next(iter(mine)))

    def _replace(self, sender: Leg, end: StreamEnd | None) -> None:
        """One of ``sender`` is done and the window is still used up: send what may go all the same."""
        raise NotImplementedError

    def _send_next(self, sender: Leg, mine: OrderedDict[StreamEnd | None, WaitQueue], end: StreamEnd | None) -> None:
        queue = mine[end]
        self.waiting.move_to_end(sender)
        mine.move_to_end(end)
        pending = next(iter(queue.items))
        frame = pending.frame
        assert frame is not None
        self.out += 1
        if end is not None and not pending.request:
            self.stream_out += 1
            end.out += 1
            if end.full and len(queue.items) > 1:
                self._forget(sender, queue)
                end.parked = queue
        # Before it is taken: an end that has nothing left may be closed at once.
        self._doors.send(sender, self.leg, end, frame)
        self._take(pending, queue)

    def _take(self, pending: Pending, queue: WaitQueue) -> None:
        frame, pending.frame, pending.queue = pending.frame, None, None
        assert frame is not None
        del queue.items[pending]
        sender, end = queue.sender, queue.end
        if pending.source is not None:
            pending.source.held_back -= 1
        if not queue.items:
            self._forget(sender, queue)
        self._doors.count(sender, self.leg, -(len(frame) + OVERHEAD + FRAME_BYTES))
        if end is not None:
            end.left()

    def _forget(self, sender: Leg, queue: WaitQueue) -> None:
        end, mine = queue.end, self.waiting.get(sender)
        if end is not None and end.parked is queue:
            end.parked = None
        elif end is not None and end.parked_calls is queue:
            end.parked_calls = None
        if mine is None or mine.get(end) is not queue:
            return
        del mine[end]
        if not mine:
            del self.waiting[sender]
            if not self.waiting:
                self._timers.cancel(self)

    def shut(self, end: StreamEnd | None) -> None:
        """A session is over: nothing that waits for it will be sent. Its owner settles it."""
        if end is not None:
            end.parked = end.parked_calls = None
        for sender, mine in list(self.waiting.items()):
            queue = mine.get(end)
            if queue is not None:
                self._forget(sender, queue)

    def close(self) -> None:
        """The leg is gone: nothing that waits will be sent. Its owner settles it."""
        self.waiting.clear()
        self._timers.cancel(self)

    def fire(self, now: float) -> None:
        """Something has waited for ``PATIENCE`` (``timers.Timed``)."""
        if self.answered * self.share < self.out:
            self.room = min(2 * self.room, self.most)
            self._advance()
        self.answered = 0
        if self.waiting:
            self._timers.schedule(self, now + PATIENCE)


class MessageWindow(Window):
    """A peer that acknowledges nothing may collect first: it gets more until it acknowledges one."""

    __slots__ = ()

    def _spares(self, sender: Leg, end: StreamEnd | None) -> bool:
        alone = end.out == 0 if end is not None else self.out == self.stream_out
        return alone and self.out < self.room + self.size

    def _replace(self, sender: Leg, end: StreamEnd | None) -> None:
        if self._spares(sender, end):
            if end is None:
                # Session 1 is everybody's.
                sender = next((each for each, mine in self.waiting.items() if None in mine), sender)
            mine = self.waiting.get(sender)
            if mine is not None and end in mine:
                self._send_next(sender, mine, end)

    def answer_came(self) -> None:
        """It acknowledges: it gets no more than any other."""
        self.room = self.size


class CallWindow(Window):
    """Handlers may take as long as they like: where they do, the window grows and stays so until they are done."""

    __slots__ = ()
    share = 16

    def _spares(self, sender: Leg, end: StreamEnd | None) -> bool:
        return len(sender.outgoing) - sender.held_back < ALWAYS

    def _replace(self, sender: Leg, end: StreamEnd | None) -> None:
        mine = self.waiting.get(sender)
        if mine is not None and self._spares(sender, end):
            self._send_next(sender, mine, next(iter(mine)))

    def answer_came(self) -> None:
        """Whoever was slow is done."""
        if self.out < self.size:
            self.room = self.size
