"""What the switch holds: a leg for each connection, the ends of streams, and what waits for an answer.

These refer to one another, so they stand together. What is done with them stands in the modules above.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sized
from enum import Enum
from typing import Protocol

from frontier_tx.errors import OperationTimeout
from frontier_tx.switch.pace import Pace
from frontier_tx.timers import Timed
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.events import SessionRequested
from frontier_tx.wire.session import Session

#: Told the value and the error text (empty for success) of a control function.
Done = Callable[[bytes, str], None]

#: Messages that an end which speaks no credit may have on one stream. Before it says anything it may have fewer, and as
#: few calls: with ``pace.MOST`` frames of raw bytes all of them are what ends of the Go library keep of a stream that
#: nobody accepts.
MOST_MESSAGES = 28
MOST_UNHEARD = 12


class Kind(Enum):
    """Which listener a connection came in by."""

    EDGE = "edge"
    SERVICE = "service"


class Announced(Enum):
    """What services that follow edges were told of one."""

    NOTHING = "nothing"
    #: ``edge_online`` is under way to one of them.
    ASKED = "asked"
    ONLINE = "online"
    OFFLINE = "offline"


class Transport(Protocol):
    """What the switch wants of the transport of a leg."""

    #: What came from the peer and what went to it.
    bytes_in: int
    bytes_out: int

    @property
    def unsent(self) -> int:
        """Bytes that wait because the peer does not take them."""

    @property
    def idle(self) -> bool:
        """Whether the peer has taken everything that it was given."""

    def pause_reading(self) -> None:
        """Take no more from this peer until as many ``resume_reading``."""

    def resume_reading(self) -> None:
        """Undo one ``pause_reading``."""

    def close(self, reason: str = "") -> None:
        """Say goodbye in order, in bounded time; ``reason`` is for the peer, who may be unable to read it."""

    def abort(self, reason: str) -> None:
        """End the connection at once."""


class NoTransport:
    """The transport of a leg whose connection is gone."""

    bytes_in = 0
    bytes_out = 0
    unsent = 0
    idle = False

    def pause_reading(self) -> None:
        """There is nothing to read."""

    def resume_reading(self) -> None:
        """There is nothing to read."""

    def close(self, reason: str = "") -> None:
        """It is closed."""

    def abort(self, reason: str) -> None:
        """It is closed."""


NO_TRANSPORT = NoTransport()


class Leg:
    """One accepted connection and everything the switch holds for it.

    :param address: remote ``host:port`` as text.
    :param since: Unix seconds of its coming.
    """

    __slots__ = (
        "kind", "is_edge", "connection", "transport", "id", "id_suffix", "name", "topics", "meta", "network", "address",
        "since", "methods", "pending", "outgoing", "streams", "opening", "message_window", "call_window", "queued",
        "waiting_bytes", "held_bytes", "held_back", "half_closed", "online", "congesting", "stopped", "spoke_at",
        "questioned", "answers", "host_number", "announced", "allocated", "record_bytes", "end_reason",
    )  # fmt: skip

    def __init__(self, kind: Kind, connection: Connection, transport: Transport, address: str, since: float) -> None:
        self.kind = kind
        self.is_edge = kind is Kind.EDGE
        self.connection = connection
        self.transport = transport
        self.id = 0
        #: The id as eight bytes: what goes behind ``custom`` towards services.
        self.id_suffix = b""
        self.name = ""
        self.topics: tuple[str, ...] = ()
        self.meta = b""
        self.network = "tcp"
        self.address = address
        self.since = since
        #: When each method was registered, in Unix seconds.
        self.methods: dict[bytes, float] = {}
        #: What this leg has to answer, by the packet id that it got.
        self.pending: dict[int, Pending] = {}
        #: What this leg waits for, by its own packet id (or a negative number where that id is taken twice).
        self.outgoing: dict[int, Pending] = {}
        self.streams: dict[int, StreamEnd] = {}
        #: Streams being opened towards this leg: negotiate id -> who asked.
        self.opening: dict[int, StreamEnd] = {}
        #: Messages and calls on their way to this leg; each is made with the first.
        self.message_window: Window | None = None
        self.call_window: Window | None = None
        #: Bytes of frames that wait at its door until its connection takes more, and of all that waits.
        self.queued = 0
        self.waiting_bytes = 0
        #: Bytes that are kept on this leg's account (``budget``).
        self.held_bytes = 0
        #: How many of what this leg asked wait in windows.
        self.held_back = 0
        #: Whether the peer gave up session 1: nothing reaches it any more, but it is still connected.
        self.half_closed = False
        self.online = False
        #: Ends of streams here that stop their senders, because this leg does not take what comes for them.
        self.congesting: set[StreamEnd] = set()
        #: Whether it is not read from because of what it sends on streams (``pressure``).
        self.stopped = False
        #: When it sent the last call or message.
        self.spoke_at = float("-inf")
        #: Whether it was asked if it answers for what came on a stream, and is known to do so (``pace``).
        self.questioned = self.answers = False
        self.host_number = host_number(address)
        self.announced = Announced.NOTHING
        #: Whether the gateway chose the id because nobody else was there to do it.
        self.allocated = False
        #: What the gateway remembers of it: meta, name, topics, methods (``repository.Holdings``).
        self.record_bytes = 0
        #: Why its connection ended; empty after an orderly goodbye.
        self.end_reason = ""

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<{self.kind.value} {self.id}{name} {self.address}>"


class StreamEnd:
    """One leg's end of a stream; ``other`` is where its frames go.

    While the second leg has not answered, the opener's end has a ``request`` instead of a ``session``. An end whose
    other side has closed the stream stays without ``other`` until what waits for it has left.
    """

    __slots__ = (
        "leg", "session", "request", "other", "pending", "raw_bytes", "raw_taken", "raw_ready", "pace", "fresh",
        "stops", "queued", "out", "parked", "parked_calls", "heard", "payer", "linger", "on_drained",
        "bytes_in",
    )  # fmt: skip

    def __init__(self, leg: Leg, request: SessionRequested | None = None, session: Session | None = None) -> None:
        self.leg = leg
        self.session = session
        self.request = request
        self.other: StreamEnd | None = None
        #: Who pays for what this end costs (``budget``), as long as it is there.
        self.payer: Leg | None = None
        #: Calls and messages under way on the stream, shared by both ends.
        self.pending: set[Pending] = set()
        #: Raw bytes that wait to be sent to this end, with what keeping them costs; how many have left since some
        #: began to wait; and whether the end takes the next of them now.
        self.raw_bytes = self.raw_taken = 0
        self.raw_ready = False
        #: Frames of raw bytes to this end, if it speaks no credit; made with the first.
        self.pace: Pace | None = None
        #: Raw bytes that came from this end.
        self.bytes_in = 0
        #: Whether raw bytes came from this end lately, and who is not read from because this end takes none.
        self.fresh = False
        self.stops: Leg | None = None
        #: How many wait to be sent to this end: frames and raw bytes, each as one, and calls and messages in windows.
        self.queued = 0
        #: Messages that this end has and did not acknowledge, and those that wait because these are as many as may be.
        self.out = 0
        self.parked: WaitQueue | None = None
        #: Calls that wait because nobody may be there to answer them, and whether anything ever came from this end.
        self.parked_calls: WaitQueue | None = None
        self.heard = False
        #: Runs while raw bytes wait here whose sender has gone.
        self.linger: Timed | None = None
        #: Called once, when nothing waits any more.
        self.on_drained: Callable[[], None] | None = None

    def pair(self, other: "StreamEnd") -> None:
        """Join two ends into one stream."""
        self.other = other
        other.other = self
        other.pending = self.pending

    @property
    def full(self) -> bool:
        """Whether this end shall get no more messages before it acknowledges one."""
        if self.out < (MOST_MESSAGES if self.heard else MOST_UNHEARD):
            return False
        return self.session is not None and self.session.credit is None

    @property
    def mute(self) -> bool:
        """Whether this end shall get no more calls before it says anything: it may not have accepted the stream."""
        if self.heard or len(self.pending) < MOST_UNHEARD:
            return False
        return self.session is not None and self.session.credit is None

    def first_sign(self) -> None:
        """Somebody is at this end of the stream: what waited for that takes its turns."""
        self.heard = True
        calls, messages = self.parked_calls, self.parked
        self.parked_calls = self.parked = None
        if calls is not None and self.leg.call_window is not None:
            self.leg.call_window.unpark(self, calls)
        if messages is not None and self.leg.message_window is not None:
            self.leg.message_window.unpark(self, messages)

    def left(self) -> None:
        """One of those that were ``queued`` is not any more."""
        self.queued -= 1
        if not self.queued and self.on_drained is not None:
            drained, self.on_drained = self.on_drained, None
            drained()


class Window(Protocol):
    """Calls, or Messages, on their way to one leg, as others see them; ``window`` keeps it.

    ``room`` is how many may be out at the moment, ``size`` how many at a peer that answers; ``out`` how many are out
    and not answered, ``stream_out`` those of them that are on streams.
    """

    size: int
    room: int
    out: int
    stream_out: int

    @property
    def waiting(self) -> Sized:
        """What waits, by sender."""

    def grants(self, sender: "Leg", end: "StreamEnd | None") -> bool:
        """Whether one more may go out although the window is used up."""

    def wait(self, pending: "Pending", sender: "Leg", end: "StreamEnd | None", frame: bytes) -> None:
        """Let one wait. It has been admitted (``Doors.refuses``)."""

    def leave(self, pending: "Pending") -> None:
        """One is answered or given up; it is in no table of calls any more."""

    def unpark(self, end: "StreamEnd", queue: "WaitQueue") -> None:
        """What waited until somebody is there takes its turns."""

    def shut(self, end: "StreamEnd | None") -> None:
        """A session is over: nothing that waits for it will be sent. Its owner settles it."""

    def close(self) -> None:
        """The leg is gone: nothing that waits will be sent. Its owner settles it."""


class WaitQueue:
    """What waits in a window, of one sender for one session of the receiver.

    :param end: the receiver's end of the stream; None for session 1.
    """

    __slots__ = ("sender", "end", "items")

    def __init__(self, sender: "Leg", end: "StreamEnd | None") -> None:
        self.sender = sender
        self.end = end
        self.items: OrderedDict[Pending, None] = OrderedDict()


class Pending:
    """One forwarded Request or Message.

    It sits in the table of the leg that must answer, in that of the leg that asked, in the timer, with a stream in
    the set of that stream, and in a window; ``Exchange.settle`` takes it out of all of them at once.
    """

    __slots__ = (
        "request", "target", "target_packet", "target_session", "source", "source_packet", "source_session", "key",
        "method", "overdue_text", "done", "answered", "sender", "end", "window", "queue", "frame", "tick", "on_overdue",
        "since",
    )  # fmt: skip

    def __init__(
        self,
        request: bool,
        target: Leg,
        target_packet: int,
        target_session: int,
        sender: Leg,
        source: Leg | None,
        source_packet: int,
        source_session: int,
        method: bytes,
        on_overdue: "Callable[[Pending], None]",
        since: float = 0.0,
    ) -> None:
        self.request = request
        self.target = target
        self.target_packet = target_packet
        self.target_session = target_session
        #: Because of whom it goes out; and who is answered, as long as there is anybody.
        self.sender = sender
        self.source = source
        self.source_packet = source_packet
        self.source_session = source_session
        self.key = source_packet
        self.method = method
        self.on_overdue = on_overdue
        self.overdue_text = OperationTimeout.text
        #: Who is told what came of it in place of the source, and whether it is the target that says so.
        self.done: Done | None = None
        self.answered = False
        #: The receiver's end of the stream; None for session 1.
        self.end: StreamEnd | None = None
        #: Where it counts while it is not answered; as long as it waits to be sent, among what, and its frame.
        self.window: Window | None = None
        self.queue: WaitQueue | None = None
        self.frame: bytes | None = None
        self.tick = 0
        #: When it was forwarded, for the metrics; of what the gateway asks for itself this is not known.
        self.since = since

    def fire(self, now: float) -> None:
        """The deadline passed (``timers.Timed``)."""
        self.on_overdue(self)


def host_number(address: str) -> int:
    """The IPv4 address in ``host:port`` as a number; the last four bytes of an IPv6 one; 0 without any."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return int(ipaddress.ip_address(host)) & 0xFFFFFFFF
    except ValueError:
        return 0
