"""What the machines of a client need of their holder: an operation of its session, a session of its connection."""

from collections.abc import Callable
from typing import Any, Protocol

from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Bounds, Done, Intake
from frontier_tx.timers import Alarms
from frontier_tx.wire.connection import Connection


class FrameTransport(Protocol):
    """What carries the frames of a connection."""

    @property
    def connection(self) -> Connection:
        """The wire's machine of the connection."""

    @property
    def unsent(self) -> int:
        """Bytes that wait because the peer does not take them."""

    def pause_reading(self) -> None:
        """Take no more bytes until as many ``resume_reading`` came."""

    def resume_reading(self) -> None:
        """Undo one ``pause_reading``."""

    def close(self) -> None:
        """Say goodbye in order, in bounded time."""

    def abort(self, reason: str) -> None:
        """End at once."""


class SessionHost(Protocol):
    """The connection, as its sessions see it."""

    wire: Connection
    transport: FrameTransport
    owner: Any
    intake: Intake
    bounds: Bounds
    alarms: Alarms
    wall_clock: Callable[[], float]
    home: Home
    #: Operations under way, and handlers that run.
    pending: int
    running: int
    #: Streams on which somebody waits to write.
    drains: dict[Any, None]

    def open(self, peer: str, meta: bytes, done: Done) -> Callable[[], None]:
        """Open a stream; ``done`` gets its session. Returns what cancels."""

    def congested(self, full: bool) -> None:
        """A queue is full, or no longer."""

    def stream_sent(self) -> None:
        """A stream has sent all it had."""

    def stream_moved(self) -> None:
        """A far side takes more."""

    def forget(self, stream: Any) -> None:
        """A stream was aborted: drop what still comes on it."""


class OperationHost(Protocol):
    """The session, as requests, messages and pending operations see it."""

    connection: SessionHost
    open: bool

    def send(self, kind: int, packet_id: int, body: bytes) -> None:
        """Send a frame of this session; PayloadTooLarge when the peer does not take it."""

    def split(self, custom: bytes) -> tuple[bytes, int, str]:
        """Return a ``custom`` without trace context and edge id, that id, and that context."""

    def settle(self, packet_id: int) -> object:
        """Take an operation off the table and return it; None when it is not there."""

    def answer(self, packet_id: int, request: Any, method: str, value: bytes, error: str) -> None:
        """Answer a request; PayloadTooLarge when the value does not fit."""
