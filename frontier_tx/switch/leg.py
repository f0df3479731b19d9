"""One connection of an edge or a service, as the switch sees it."""

import ipaddress
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from frontier_tx.wire.connection import Connection

if TYPE_CHECKING:
    from frontier_tx.switch.doors import Door
    from frontier_tx.switch.pending import Pending
    from frontier_tx.switch.pressure import Hold
    from frontier_tx.switch.streams import StreamEnd
    from frontier_tx.switch.window import Window


class Kind(Enum):
    """Which listener a connection came in by."""

    EDGE = "edge"
    SERVICE = "service"


class Told(Enum):
    """What services that follow edges were told of one."""

    NOTHING = "nothing"
    #: ``edge_online`` is under way to one of them.
    ASKED = "asked"
    ONLINE = "online"
    OFFLINE = "offline"


class Link(Protocol):
    """What the switch wants of the transport of a leg."""

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


class NoLink:
    """The link of a leg whose connection is gone."""

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


NO_LINK = NoLink()


class Leg:
    """One accepted connection and everything the switch holds for it.

    :param address: remote ``host:port`` as text.
    :param since: Unix seconds of its coming.
    """

    __slots__ = (
        "kind", "is_edge", "connection", "link", "id", "tail", "name", "topics", "meta", "network", "address", "since",
        "methods", "pending", "asked", "streams", "opening", "message_window", "call_window", "door", "queued",
        "waiting_bytes", "held_bytes", "held_back", "deaf", "online", "congesting", "hold", "spoke_at", "questioned",
        "answers", "host_number", "told", "allocated", "record_bytes",
    )  # fmt: skip

    def __init__(self, kind: Kind, connection: Connection, link: Link, address: str, since: float) -> None:
        self.kind = kind
        self.is_edge = kind is Kind.EDGE
        self.connection = connection
        self.link = link
        self.id = 0
        #: The id as eight bytes: what goes behind ``custom`` towards services.
        self.tail = b""
        self.name = ""
        self.topics: tuple[str, ...] = ()
        self.meta = b""
        self.network = "tcp"
        self.address = address
        self.since = since
        #: When each method was registered, in Unix seconds.
        self.methods: dict[bytes, float] = {}
        #: What this leg has to answer, by the packet id that it got.
        self.pending: dict[int, "Pending"] = {}
        #: What this leg waits for, by its own packet id (or a negative number where that id is taken twice).
        self.asked: dict[int, "Pending"] = {}
        self.streams: dict[int, "StreamEnd"] = {}
        #: Streams being opened towards this leg: negotiate id -> who asked.
        self.opening: dict[int, "StreamEnd"] = {}
        #: Messages and calls on their way to this leg; each is made with the first.
        self.message_window: "Window | None" = None
        self.call_window: "Window | None" = None
        #: What waits for this leg by sender, as long as something does.
        self.door: "Door | None" = None
        #: Bytes of frames that wait there until its connection takes more, and of all that waits, windows included.
        self.queued = 0
        self.waiting_bytes = 0
        #: Bytes that are kept on this leg's account (``budget``).
        self.held_bytes = 0
        #: How many of what this leg asked wait in windows.
        self.held_back = 0
        #: Whether the peer gave up session 1: nothing reaches it any more, but it is still connected.
        self.deaf = False
        self.online = False
        #: Ends of streams here that stop their senders, because this leg does not take what comes for them.
        self.congesting: set[StreamEnd] = set()
        #: By whom this leg is stopped, or was.
        self.hold: Hold | None = None
        #: When it sent the last call or message.
        self.spoke_at = float("-inf")
        #: Whether it was asked if it answers for what came on a stream, and is known to do so (``pace``).
        self.questioned = self.answers = False
        self.host_number = host_number(address)
        self.told = Told.NOTHING
        #: Whether the gateway chose the id because nobody else was there to do it.
        self.allocated = False
        #: What the gateway remembers of it: meta, name, topics, methods (``repository.Holdings``).
        self.record_bytes = 0

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<{self.kind.value} {self.id}{name} {self.address}>"


def host_number(address: str) -> int:
    """The IPv4 address in ``host:port`` as a number; the last four bytes of an IPv6 one; 0 without any."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return int(ipaddress.ip_address(host)) & 0xFFFFFFFF
    except ValueError:
        return 0
