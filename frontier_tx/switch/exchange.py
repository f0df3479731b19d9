"""The exchange: a switch of frames between legs (docs/gateway.md, "Forwarding"); its parts are put together here.

A frame comes in at one of the ``handlers`` and leaves as a frame on another leg, decoded only as far as routing needs.
What waits for an answer is one ``Pending``; there is no task, no Deferred and no queue per call. Time and timers come
from outside.
"""

import time
from collections.abc import Callable

from frontier_tx.errors import (
    MethodTooLong,
    TooManyMethods,
)
from frontier_tx.switch.answers import Answers
from frontier_tx.switch.budget import FEED, Budget
from frontier_tx.switch.choice import IHashPolicy
from frontier_tx.switch.doors import Doors
from frontier_tx.switch.forwarding import Forwarding
from frontier_tx.switch.in_flight import InFlight
from frontier_tx.switch.legs import Leg, StreamEnd
from frontier_tx.switch.partial import PartialFrames
from frontier_tx.switch.pressure import Pressure
from frontier_tx.switch.repository import Repository
from frontier_tx.switch.routing import Router
from frontier_tx.switch.settings import Counters, Settings
from frontier_tx.switch.stream_frames import StreamFrames
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import (
    EMPTY_OBJECT,
    RegisterData,
    encode_data,
)
from frontier_tx.wire.frame import (
    Frame,
)
from frontier_tx.wire.ids import DEFAULT_SESSION


class Exchange:
    """Forwards frames between the legs of a repository."""

    #: Parts that a subclass may replace, and whether its gateway takes the trace contexts of clients.
    forwarding_class: type[Forwarding] = Forwarding
    in_flight_class: type[InFlight] = InFlight
    answers_class: type[Answers] = Answers
    takes_traces = False

    def __init__(
        self,
        repository: Repository,
        timers: Timers,
        settings: Settings | None = None,
        policy: IHashPolicy | None = None,
        wall_clock: Callable[[], float] = time.time,
        on_fault: Callable[[str], None] | None = None,
    ) -> None:
        self.repository = repository
        self.settings = settings or Settings()
        self.counters = Counters()
        #: What the process keeps.
        self.budget = Budget(self.settings.memory_bytes, self._feed_bytes())
        #: The process's timer.
        self.timers = timers
        self.router = Router(repository, self.settings, policy, on_fault)
        self._wall_clock = wall_clock
        self.pressure = Pressure(
            timers, self.counters, self.settings.write_high_bytes, self.settings.write_stall_seconds
        )
        self.partial_frames = PartialFrames(self.budget, timers, self.settings.frame_stall_seconds)
        self.doors = Doors(self.budget, self.settings, self.counters, self.pressure, timers)
        self.pressure.look_again = self.doors.open
        self.in_flight = self.in_flight_class(self.budget, self.doors, self.counters, timers)
        self.forwarding = self.forwarding_class(
            self.router, self.in_flight, self.doors, self.settings, self.counters, timers, wall_clock
        )
        self.answers = self.answers_class(self.budget, self.doors, self.counters, self.in_flight, timers)
        streams = StreamFrames(self.budget, self.doors, self.counters, self.pressure, timers)
        #: What takes the frames of each type that applications speak. Each raises ``IllegalPacket`` for a body that no
        #: end would accept; the connection that it came on is to be closed.
        self.handlers: dict[int, Callable[[Leg, Frame], None]] = {
            f.REQUEST: self.forwarding.got_request,
            f.RESPONSE: self.answers.got_answer,
            f.MESSAGE: self.forwarding.got_message,
            f.MESSAGE_ACK: self.answers.got_answer,
            f.STREAM: streams.got_stream,
            f.REQUEST_CANCEL: self.in_flight.got_cancel,
            f.REGISTER: self._got_register,
            f.REGISTER_ACK: streams.got_register_ack,
        }

    def _feed_bytes(self) -> int:
        """What a connection is given at once: little beside what may wait for it."""
        settings = self.settings
        return max(1, min(FEED, settings.write_high_bytes // 8, settings.write_buffer_bytes // 8))

    @property
    def pending_count(self) -> int:
        """How many calls and messages wait for their answers."""
        return self.budget.pendings

    def _got_register(self, leg: Leg, frame: Frame) -> None:
        """Record a method, then acknowledge it; on a stream it goes nowhere."""
        error = ""
        if frame.session_id == DEFAULT_SESSION:
            method = bytes(frame.body)
            if len(method) > self.settings.method_bytes:
                error = MethodTooLong.text
            elif (method not in leg.methods and len(leg.methods) >= self.settings.methods_per_connection) or (
                not self.repository.register(leg, method, self._wall_clock())
            ):
                error = TooManyMethods.text
        body = encode_data(RegisterData(error)) if error else EMPTY_OBJECT
        leg.connection.write(f.pack_of_session(f.REGISTER_ACK, frame.packet_id, frame.session_id, body))

    # -- legs going ---------------------------------------------------------------------------------------

    def half_close(self, leg: Leg) -> None:
        """The peer gave up session 1: nothing new is sent to it, and what it owes will not come."""
        leg.half_closed = True
        self._shut(leg, None)
        self.doors.drop_default(leg)
        self.in_flight.force_close(p for p in leg.pending.values() if p.target_session == DEFAULT_SESSION)

    def shut(self, end: StreamEnd) -> None:
        """A stream is over at this end: what waits for it there is not sent. Its owner settles what was asked."""
        self._shut(end.leg, end)
        end.on_drained = None
        self.doors.drop(end)

    @staticmethod
    def _shut(leg: Leg, end: StreamEnd | None) -> None:
        for window in (leg.call_window, leg.message_window):
            if window is not None:
                window.shut(end)

    def forget(self, leg: Leg) -> None:
        """The leg is gone: end everything that hangs on it, on the other legs too."""
        leg.half_closed = True
        self.repository.remove(leg)
        for window in (leg.call_window, leg.message_window):
            if window is not None:
                window.close()
        self.doors.forget(leg)
        self.in_flight.abandon(leg)
        self.in_flight.force_close(leg.pending.values())
        self.pressure.forget(leg)
