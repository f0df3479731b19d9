"""Where a broker of one's own is plugged in (docs/queues.md, "A queue of one's own")."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from frontier_tx.queues.bridge import Bridge
from frontier_tx.queues.record import Record


class Unusable(Exception):
    """The configuration does not fit the broker; the text says how, and what to do.

    It is logged once. The forwarder keeps trying, since somebody may repair it at the broker.
    """


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a broker's way may use beside its own section.

    :param reactor: Twisted's.
    :param bridge: runs coroutines in an asyncio loop of a thread, which starts with the first.
    :param gateway: name of this gateway, for consumers.
    :param headers: whether metadata goes into headers.
    """

    reactor: Any
    bridge: Bridge
    gateway: str
    headers: bool


class IBroker(Interface):
    """Takes records to one broker. The forwarder around it keeps it connected, buffers, and gives up slow records.

    All methods are called in the reactor's thread, and what they call back must be called there.
    """

    where = Attribute("Address of the broker as text for the log, without any password.")

    def connect(lost: Callable[[str], None]) -> Any:
        """Connect, log in and declare what is to be declared.

        :param lost: to be called once with the reason when the connection ends, however it does.
        :return: a Deferred that fires when records may be sent; the text of what it fails with is logged. Cancelling it
            gives the attempt up.
        """

    def send(
        records: Sequence[Record], confirmed: Callable[[Record], None], failed: Callable[[Record, str], None]
    ) -> None:
        """Send records, in their order; called only while connected.

        :param confirmed: to be called when the broker has a record, in whatever sense its settings give that.
        :param failed: to be called with a text when the broker will not take it however often it is sent.
        """

    def disconnect() -> Any:
        """End the connection; records that were sent and not confirmed are sent again by the next one.

        :return: a Deferred that fires when it is closed, or None.
        """


class Spooling(Protocol):
    """What a forwarder, and who shows what it does, ask of its spool; ``spool.Spool`` is one."""

    messages: int
    bytes: int
    most_bytes: int
    refused: int
    taken: int
    given: int

    @property
    def open(self) -> bool:
        """Whether the file can be used."""

    def start(self, ready: Callable[[], None]) -> None:
        """Open it; ``ready`` is called once when it is open, or cannot be opened now."""

    def takes(self, record: Record) -> bool:
        """Take a record over, and then ``done`` is told; return False where it may go to the broker at once."""

    def drain(self) -> None:
        """The broker is there."""

    def lost(self) -> None:
        """The broker is away: what it has not confirmed is in the outbox, and that is to be kept."""

    def consequence(self) -> str:
        """What becomes of messages while the broker is away, for the log; empty where the spool cannot be used."""

    def trouble(self) -> str:
        """What it holds, or why it cannot be used, in a few words; empty where there is nothing to say."""

    def pause(self) -> None:
        """Give nothing more to the broker."""

    def stop(self) -> "Deferred[None]":
        """Write what is to be written, and close; fires when that is done."""
