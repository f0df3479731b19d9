"""The gateway's ends of edges' and services' connections."""

from typing import Any, ClassVar

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from frontier_tx.errors import ForceClosed
from frontier_tx.gateway import endings
from frontier_tx.interfaces import IEdgeProtocol, IServiceProtocol
from frontier_tx.runtime.logs import Logger
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.legs import NO_TRANSPORT, Kind, Leg
from frontier_tx.switch.presence import Presence
from frontier_tx.timers import Alarms
from frontier_tx.wire import events as e
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.ids import NO_ID
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.protocol import READ_LEAST, WireProtocol
from frontier_tx.wire.states import Role

#: A leg with more than ``BUSY`` calls and messages under way gets ``BURST`` frames at once: ends of the Go library stop
#: for ever when hundreds reach them while hundreds of theirs are on the way (docs/decisions/message-window.md).
BUSY = 200
BURST = 32
#: A peer that has one in so many bytes of what may wait for it from answers of the gateway's own is not read from until
#: it takes some of them.
OWN_SHARE = 32
EVERYTHING = 1 << 62


def address_text(address: IAddress | None) -> tuple[str, str]:
    """Return network and ``host:port`` of an address, IPv6 hosts in brackets; its text where it has no host."""
    if isinstance(address, UNIXAddress):
        name = address.name
        return "unix", name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")
    if address is not None and not hasattr(address, "host"):
        return "tcp", str(address)
    # A socket for both families shows IPv4 peers in IPv6 clothes.
    host = str(getattr(address, "host", "")).removeprefix("::ffff:")
    port = getattr(address, "port", 0)
    return "tcp", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class LegProtocol(WireProtocol):
    """A connection whose frames the exchange forwards. Subclasses say on which side it is."""

    kind: ClassVar[Kind]
    log = Logger(namespace="frontier.gateway")
    leg: Leg

    def __init__(
        self,
        presence: Presence,
        alarms: Alarms,
        outlet: Outlet,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
        wall_now: float = 0.0,
    ) -> None:
        super().__init__(Role.SERVER, alarms, outlet, limits, write_stall_seconds)
        self._presence = presence
        self._exchange: Exchange = presence.exchange
        self._handlers = presence.exchange.handlers
        self.connection.offers_traces = presence.exchange.takes_traces
        self._since = wall_now
        self._budget = presence.exchange.budget
        #: Bytes that are counted: those that the peer does not take, and those of a frame that is not whole yet.
        self._untaken = self._partial = 0
        #: What of its untaken bytes the peer caused itself, and whether it is not read from because of them.
        self._own = 0
        self._own_stopped = False
        #: Whether it is known to those who look after frames that are not whole.
        self._in_line = False
        self._own_most = presence.exchange.settings.write_buffer_bytes // OWN_SHARE
        self.factory: Any = None
        self._introduced = False
        #: What the gateway closes it for (``endings``); empty where it did not begin to.
        self._closed_for = ""

    @property
    def silent(self) -> bool:
        """Whether the peer has not said a word so far."""
        reader = self.connection.reader
        return not self._introduced and not reader.held and reader.failure is None

    def connection_ready(self) -> None:
        """Make the leg: the peer is known by its address until it introduces itself."""
        assert self.transport is not None
        network, address = address_text(self.transport.getPeer())
        self.leg = Leg(self.kind, self.connection, self, address, self._since)
        self.leg.network = network
        self._budget.connected(1)
        if self._budget.tight:
            self.read_little()

    def slice_done(self) -> None:
        """Count what is left of it.

        While the peer takes nothing, what its own bytes bring it can only be answers of the gateway's own.
        """
        if not self._idle:
            self._count_own()
        if self.connection.reader.busy or self._partial or self._in_line:
            self._count_partial()

    def _count_partial(self) -> None:
        if self._gone:
            return
        budget, held = self._budget, self.connection.reader.held
        if held != self._partial:
            budget.hold(self.leg, held - self._partial)
            self._partial = held
        if not (budget.tight or self._in_line):
            return
        if self.missing:
            self._in_line = True
            self._exchange.partial_frames.grown(self)
        elif self._in_line:
            self._in_line = False
            self._exchange.partial_frames.over(self)

    @property
    def missing(self) -> int:
        """Bytes until the frame that is coming in is whole (``partial.Owner``)."""
        return self.connection.reader.missing

    def read_little(self) -> None:
        """Memory is short: what many hold because each of them read much at once is too much."""
        if self._direct and self.transport is not None:
            self.transport.bufferSize = READ_LEAST  # type: ignore[attr-defined]

    def _adapt_reading(self, size: int, frames: int) -> None:
        if not self._budget.tight:
            super()._adapt_reading(size, frames)

    def _count_own(self) -> None:
        grown = self.unsent + self.handed - self._untaken
        if grown > 0 and not self._gone:
            self._own += grown
            self._untaken += grown
            self._budget.hold(self.leg, grown)
            if self._own > self._own_most and not self._own_stopped:
                self._own_stopped = True
                self.pause_reading()

    def frame_received(self, frame: Frame) -> None:
        """Forward; what comes from a leg whose place was taken is dropped."""
        leg = self.leg
        if self._partial:
            # What was held of it is this frame.
            self._budget.hold(leg, -self._partial)
            self._partial = 0
        if leg.online:
            self._handlers[frame.type](leg, frame)

    def event_received(self, event: e.Event) -> None:
        """Tell the switch."""
        leg, presence, now = self.leg, self._presence, self.alarms.now()
        match event:
            case e.HeartbeatReceived():
                presence.heartbeat(leg)
            case e.ConnReceived():
                self._introduced = True
                if self.factory is not None:
                    self.factory.introduced(self)
                presence.arrived(leg, event)
            case e.SessionRequested():
                if leg.online:
                    presence.streams.requested(leg, event, now)
                else:
                    leg.connection.refuse_session(event, now, ForceClosed.text)
            case e.SessionOpened():
                presence.streams.opened(leg, event, now)
            case e.SessionFailed():
                presence.streams.failed(leg, event, now)
            case e.SessionDismissed(session, error):
                presence.streams.dismissed(leg, session, now, error)
            case e.CreditGranted(session):
                presence.streams.granted(leg, session)
            case e.SessionEnded(session):
                # Where the peer was not the first to end it, it did not mean to.
                presence.streams.dismissed(leg, session, now, ForceClosed.text)
            case e.Closing():
                self._exchange.half_close(leg)

    def close(self, reason: str = "") -> None:
        """Say goodbye in order: what this peer still owes will not come, and nothing new is sent to it."""
        if hasattr(self, "leg"):
            # What was let in goes out before the goodbye.
            self._exchange.doors.feed(self.leg, EVERYTHING)
            self._exchange.half_close(self.leg)
        if not self._closed_for:
            self._closed_for = endings.of_close(reason)
        super().close(reason)

    def ending(self, reason: str) -> str:
        """The word for why it ended (``endings``)."""
        if self._closed_for:
            return self._closed_for
        if self.connection.watch.lapsed:
            return "heartbeat"
        word = endings.of_end(reason)
        refused = self._introduced and self.connection.client_id == NO_ID
        return "refused" if refused and word in ("goodbye", "closed") else word

    def flush(self) -> None:
        """Write, and go on with what waits for this peer as long as it takes it."""
        super().flush()
        leg = self.leg
        while leg.queued and self._idle and not (self._gone or self._resting):
            if not self._exchange.doors.feed(leg):
                break
            super().flush()
        if not self._idle or self._untaken:
            self._count_untaken()

    def _count_untaken(self) -> None:
        untaken = 0 if self._gone else self.unsent + self.handed
        self._budget.hold(self.leg, untaken - self._untaken)
        self._untaken = untaken
        self._own = min(self._own, untaken)
        if self._own_stopped and 2 * self._own <= self._own_most:
            self._own_stopped = False
            self.resume_reading()

    def burst(self) -> int:
        """See ``BUSY``."""
        leg = self.leg
        return BURST if len(leg.outgoing) + len(leg.pending) > BUSY else 0

    def connection_gone(self, reason: str) -> None:
        """Take the leg out of the switch."""
        if not hasattr(self, "leg"):
            return
        self.leg.end_reason = reason
        self._presence.gone(self.leg)
        self._exchange.partial_frames.over(self)
        self._budget.hold(self.leg, -self._untaken - self._partial)
        self._untaken = self._partial = 0
        self._budget.connected(-1)
        self.leg.transport = NO_TRANSPORT
        if self.factory is not None:
            self.factory.ended(self, reason)


@implementer(IEdgeProtocol)
class EdgeProtocol(LegProtocol):
    """The gateway's end of an edge's connection."""

    kind = Kind.EDGE


@implementer(IServiceProtocol)
class ServiceProtocol(LegProtocol):
    """The gateway's end of a service's connection."""

    kind = Kind.SERVICE
