"""A session of a connection (docs/protocol.md, "Sessions")."""

from frontier_tx.wire.closing import ClosingHandshake


class Session:
    """One session. ``meta`` and ``peer`` are the opener's; ``opened_here`` tells which side that was.

    Bytes of streams are counted where both ends speak credit: ``credit`` are those that may be sent,
    ``allowance`` those that may come; both are None where they do not, and on session 1. Who sends takes from
    ``credit`` himself, or uses ``SessionTable.send_stream``.
    """

    __slots__ = (
        "id", "meta", "peer", "opened_here", "closing", "held", "held_bytes", "release_at", "give_up_at",
        "credit", "allowance", "freed",
    )  # fmt: skip

    def __init__(
        self,
        session_id: int,
        meta: bytes = b"",
        peer: str = "",
        opened_here: bool = False,
        credit: int | None = None,
        allowance: int | None = None,
    ) -> None:
        self.id = session_id
        self.meta = meta
        self.peer = peer
        self.opened_here = opened_here
        self.closing = ClosingHandshake()
        #: Frames that wait until the opener is ready for them; None once it is.
        self.held: list[bytes] | None = None
        self.held_bytes = 0
        self.release_at = 0.0
        self.give_up_at = 0.0
        self.credit = credit
        self.allowance = allowance
        #: Bytes that this end is done with and the peer was not told of yet.
        self.freed = 0

    @property
    def writable(self) -> bool:
        """Whether something sent now can still be of use to the peer."""
        return not self.closing.begun
