"""What one connection may cost."""

from dataclasses import dataclass

from frontier_tx.wire import frame as f


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost. Times are seconds, sizes bytes."""

    #: Largest body taken from a peer that said nothing about sizes.
    frame_bytes: int = f.DEFAULT_BODY_LIMIT
    #: Largest body taken before the handshake is done.
    handshake_bytes: int = 1_048_576
    #: Largest body taken from a peer that declared that it takes as much itself.
    peer_frame_bytes: int = 16_777_216
    handshake_seconds: float = 10.0
    #: A peer that is in the middle of a frame must send ``frame_stall_bytes`` within this time.
    frame_stall_seconds: float = 20.0
    frame_stall_bytes: int = 4096
    open_seconds: float = 30.0
    dismiss_seconds: float = 30.0
    #: How long the goodbye of a whole connection may take; its sessions have the first half of it.
    close_seconds: float = 5.0
    stream_hold_seconds: float = 0.015
    sessions_per_connection: int = 100_000
    #: Bytes of a stream that a peer which speaks credit may have under way to this end; 0: this end speaks none.
    stream_window_bytes: int = 1_048_576
