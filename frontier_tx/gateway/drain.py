"""Leaving: no newcomers, what is under way may finish, everybody is told goodbye, and then it is over."""

import signal
import threading
from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.protocols import LegProtocol
from frontier_tx.runtime.logs import Logger
from frontier_tx.switch.legs import Kind

STEP = 0.05
#: Goodbyes are spread over this part of the time, so that those who come back elsewhere do not all come at once.
SPREAD = 0.5
#: Once the time is over that many are told in a step, whatever they have under way.
OVERDUE_PER_STEP = 1000
#: So many are looked at in a step, whether they can go already.
LOOKS_PER_STEP = 2000
#: So many are told, looked at or cut before others get their turn.
SLICE = 16


class Drain:
    """Closes every connection of a gateway within a time.

    :param seconds: how long all of it may take. What is under way has all of it but ``close_seconds``, and half
        of it at least; then everybody is told goodbye, and who does not answer is cut when the time is over.
    """

    log = Logger(namespace="frontier.gateway")

    def __init__(self, core: GatewayCore, clock: IReactorTime, seconds: float) -> None:
        self._core = core
        self._clock = clock
        self._seconds = seconds
        #: Fires when the last connection is gone.
        self.done: Deferred[None] = Deferred()
        self._loop = LoopingCall(self._step)
        self._loop.clock = clock
        #: When those who are busy are told too, and when those who are still there are cut.
        self._until = self._end = 0.0
        self._per_step = 1
        #: Who was not told goodbye yet, edges and services.
        self._edges: deque[LegProtocol] = deque()
        self._services: deque[LegProtocol] = deque()
        #: How many of them may be told, and looked at for that, in this step; and who is to be cut.
        self._budget = self._looks = 0
        self._over = self._late = False
        self._to_cut: list[LegProtocol] | None = None
        self._working = False

    def start(self) -> "Deferred[None]":
        """Begin; the Deferred fires when the last connection is gone."""
        core = self._core
        for factory in (core.edges, core.services):
            factory.closed = True
        connections = len(core.edges.connections) + len(core.services.connections)
        if not connections:
            self.done.callback(None)
            return self.done
        self.log.info("draining: {n} connections, at most {s} s", n=connections, s=self._seconds)
        self._edges.extend(core.edges.connections)
        self._services.extend(core.services.connections)
        self._end = self._clock.seconds() + max(self._seconds, STEP)
        self._until = self._end - min(core.edges.close_seconds, self._seconds / 2)
        self._per_step = max(20, int(connections * STEP / max(self._seconds * SPREAD, STEP)))
        self._loop.start(STEP, now=True)
        return self.done

    def hurry(self) -> None:
        """End everything now."""
        if not self.done.called:
            self.log.warn("asked again to stop: connections are cut")
            self._cut()

    def _step(self) -> None:
        core = self._core
        now = self._clock.seconds()
        if not core.edges.connections and not core.services.connections:
            self._finish()
        elif now >= self._end:
            self._cut()
        else:
            self._over = now >= self._until
            self._late = now >= (self._until + self._end) / 2
            self._budget = OVERDUE_PER_STEP if self._over else self._per_step
            self._looks = max(LOOKS_PER_STEP, self._budget)
            self._work()

    def _cut(self) -> None:
        if self._loop.running:
            self._loop.stop()
        if self._to_cut is None:
            self._to_cut = self._core.connections()
            self._work()

    def _work(self) -> None:
        """Begin at once; where it is much the rest comes in the next turns."""
        if not self._working and self.go_on():
            self._working = True
            self._core.outlet.later(self)

    def go_on(self) -> bool:
        """Tell or cut some of those whose turn it is (``outlet.Worker``)."""
        self._working = (self._cut_some if self._to_cut is not None else self._tell_some)()
        return self._working

    def _cut_some(self) -> bool:
        assert self._to_cut is not None
        for _ in range(SLICE):
            if not self._to_cut:
                self._finish()
                return False
            # Harmless where it is gone meanwhile.
            self._to_cut.pop().abort("the gateway stops")
        return True

    def _tell_some(self) -> bool:
        for _ in range(SLICE):
            # Services go last: they still hear which edges went, unless edges take too long over it.
            edges_are_here = bool(self._core.edges.connections)
            queue = self._edges if edges_are_here and (self._edges or not self._late) else self._services
            if not queue or self._budget <= 0 or self._looks <= 0:
                return False
            self._looks -= 1
            protocol = queue.popleft()
            if protocol not in (self._core.edges if protocol.kind is Kind.EDGE else self._core.services).connections:
                continue
            if self._over or not _busy(protocol):
                self._budget -= 1
                protocol.close()
            else:
                queue.append(protocol)
        return True

    def _finish(self) -> None:
        if self._loop.running:
            self._loop.stop()
        if not self.done.called:
            self.done.callback(None)


def _busy(protocol: LegProtocol) -> bool:
    leg = protocol.leg
    return bool(leg.pending or leg.outgoing or leg.streams or leg.opening)


def on_signal(reactor: object, act: Callable[[], None]) -> None:
    """Call ``act`` in the reactor when the process is asked to stop from now on.

    The reactor itself takes the first request; a second one would only be an error to it.
    """
    call = getattr(reactor, "callFromThread", None)
    if call is None or threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: call(act))
