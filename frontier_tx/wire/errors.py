"""Errors of the wire layer. The text of an error is exactly what a peer or a caller gets to see."""

from frontier_tx.errors import FrontierError


class WireError(FrontierError):
    """Root of everything that can go wrong between two ends of a connection."""


class ProtocolError(WireError):
    """The peer broke the protocol; its connection is closed without a farewell."""


class UnsupportedPacket(ProtocolError):
    """The type byte of a frame is none of the protocol's."""

    def __init__(self, frame_type: int) -> None:
        super().__init__("unsupported packet")
        self.frame_type = frame_type


class IllegalPacket(ProtocolError):
    """A body is shorter than its fixed part, or is not what its type demands."""

    def __init__(self, why: str) -> None:
        super().__init__(f"illegal packet: {why}")


class OversizedPacket(ProtocolError):
    """A header declares more body bytes than the connection accepts."""

    def __init__(self, declared: int, limit: int) -> None:
        super().__init__(
            f"packet declared length exceeds MaxDecodablePacketLen: {declared} bytes, accepted are {limit}"
        )


class IllegalState(ProtocolError):
    """A handshake or closing frame at a time when the state machine has no row for it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"illegal state for event: {what}")


class StalledPeer(ProtocolError):
    """The peer stopped in the middle of something that is bounded in time."""


class LocalError(WireError):
    """An operation of this end failed here; nothing of it travelled to the peer."""


class PayloadTooLarge(LocalError):
    """The frame would be larger than the peer accepts."""

    def __init__(self) -> None:
        super().__init__("packet payload too large")


class OperationTimeout(LocalError):
    """A wait or a timeout option ran out."""

    def __init__(self) -> None:
        super().__init__("timeout")


class DeadlineExceeded(LocalError):
    """The caller's absolute deadline passed."""

    def __init__(self) -> None:
        super().__init__("context deadline exceeded")


class Canceled(LocalError):
    """The caller gave up."""

    def __init__(self) -> None:
        super().__init__("context canceled")


class ForceClosed(LocalError):
    """The connection or the stream ended while the operation was pending, or before all of a stream had come.

    :param why: the reason, where one is known.
    """

    def __init__(self, why: str = "") -> None:
        super().__init__("force closed" if why in ("", "force closed") else f"force closed: {why}")


class EndClosed(LocalError):
    """An operation on a connection or stream that has already ended."""

    def __init__(self) -> None:
        super().__init__("EOF")


class MultiplexerClosed(LocalError):
    """A stream was to be opened on a connection that has already ended."""

    def __init__(self) -> None:
        super().__init__("operation on closed multiplexer")


class TooManyPending(LocalError):
    """The connection has as many calls and messages under way as its limit allows."""

    def __init__(self) -> None:
        super().__init__("too many pending")


class RemoteError(WireError):
    """The other side answered with an error; the text is its own, byte for byte."""


class ConnectionRefused(RemoteError):
    """The server answered Conn with an error; the text is the server's reason."""
