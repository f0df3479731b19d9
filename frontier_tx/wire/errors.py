"""What a peer can do wrong. Its connection is closed; the text stands in the log."""

from frontier_tx.errors import FrontierError


class ProtocolError(FrontierError):
    """The peer broke the protocol; its connection is closed without a goodbye."""


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
