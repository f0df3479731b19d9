"""Leaving: no newcomers, what is under way may finish, everybody is told goodbye, and then it is over."""

import signal
import threading
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.protocols import LegProtocol
from frontier_tx.logs import Logger
from frontier_tx.switch.leg import Kind

STEP = 0.05
#: Goodbyes are spread over this part of the time, so that those who come back elsewhere do not all come at once.
SPREAD = 0.5
#: Once the time is over that many are told in a step, whatever they have under way.
OVERDUE_PER_STEP = 1000


class Drain:
    """Closes every connection of a gateway within a time.

    :param seconds: how long calls and streams under way may take; afterwards their connections are closed anyway.
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
        self._until = 0.0
        self._per_step = 1
        self._told: set[LegProtocol] = set()

    def start(self) -> "Deferred[None]":
        """Begin; the Deferred fires when the last connection is gone."""
        connections = len(self._core.connections())
        if not connections:
            self.done.callback(None)
            return self.done
        self.log.info("draining: {n} connections, at most {s} s", n=connections, s=self._seconds)
        self._until = self._clock.seconds() + self._seconds
        self._per_step = max(20, int(connections * STEP / max(self._seconds * SPREAD, STEP)))
        self._loop.start(STEP, now=True)
        return self.done

    def hurry(self) -> None:
        """End everything now."""
        if not self.done.called:
            self.log.warn("asked again to stop: connections are cut")
            for protocol in self._core.connections():
                protocol.abort("the gateway stops")
            self._finish()

    def _step(self) -> None:
        connections = self._core.connections()
        now, close_seconds = self._clock.seconds(), self._core.edges.close_seconds
        over = now >= self._until
        # Services go last: they still hear which edges went, unless edges take too long over it.
        edges = [c for c in connections if c.kind is Kind.EDGE]
        leaving = connections if now >= self._until + close_seconds / 2 else edges or connections
        budget = OVERDUE_PER_STEP if over else self._per_step
        for protocol in leaving:
            if budget and protocol not in self._told and (over or not _busy(protocol)):
                budget -= 1
                self._told.add(protocol)
                protocol.close()
        if not connections or now >= self._until + close_seconds:
            for protocol in self._core.connections():
                protocol.abort("the gateway stops")
            self._finish()

    def _finish(self) -> None:
        if self._loop.running:
            self._loop.stop()
        if not self.done.called:
            self.done.callback(None)


def _busy(protocol: LegProtocol) -> bool:
    leg = protocol.leg
    return bool(leg.pending or leg.asked or leg.streams or leg.opening)


def on_signal(reactor: object, act: Callable[[], None]) -> None:
    """Call ``act`` in the reactor when the process is asked to stop from now on.

    The reactor itself takes the first request; a second one would only be an error to it.
    """
    call = getattr(reactor, "callFromThread", None)
    if call is None or threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: call(act))
