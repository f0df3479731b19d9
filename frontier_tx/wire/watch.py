"""The times of a connection: what the peer owes and by when, and when this end has something to say."""

from frontier_tx.wire.limits import Limits

NEVER = float("inf")


class Watch:
    """All are seconds of the clock that ``now`` is of.

    :param server: a server expects heartbeats, a client sends them.
    """

    __slots__ = (
        "interval", "last_heard", "handshake_at", "heartbeat_at", "unanswered", "lapsed", "give_up_at", "stall_at",
        "_limits", "_server", "_up", "_stall_left", "_reading",
    )  # fmt: skip

    def __init__(self, limits: Limits, now: float, server: bool) -> None:
        #: Seconds between two heartbeats.
        self.interval = 20.0
        self.last_heard = now
        self.handshake_at = now + limits.handshake_seconds
        self.heartbeat_at = NEVER
        #: Heartbeats that were sent and not acknowledged.
        self.unanswered = 0
        #: Whether the peer was given up because nothing came from it.
        self.lapsed = False
        #: When the closing of sessions, and then of the connection, has taken long enough.
        self.give_up_at = NEVER
        #: By when more of a frame must come; never while none is begun.
        self.stall_at = NEVER
        self._limits = limits
        self._server = server
        self._up = False
        self._stall_left = 0
        self._reading = True

    def up(self, now: float) -> float:
        """The handshake is done; return when to look again."""
        self._up = True
        self.last_heard = now
        self.handshake_at = NEVER
        if self._server:
            return self.silent_at()
        self.heartbeat_at = now + self.interval
        return self.heartbeat_at

    def down(self) -> None:
        """The closing handshake has begun: nobody has to show that it is alive."""
        self._up = False
        self.handshake_at = self.heartbeat_at = NEVER

    def give_up(self, when: float) -> float:
        """What is closed now shall be closed by then."""
        self.give_up_at = when
        return when

    def in_frame(self, size: int, now: float) -> float:
        """Bytes came and the last frame is not whole; return when the next ones must be there."""
        if not self._reading:
            self.stall_at = NEVER
            return NEVER
        self._stall_left -= size
        if self.stall_at == NEVER or self._stall_left <= 0:
            self._expect_more(now)
        return self.stall_at

    def _expect_more(self, now: float) -> None:
        self._stall_left = self._limits.frame_stall_bytes
        self.stall_at = now + self._limits.frame_stall_seconds

    def reading(self, on: bool, in_frame: bool, now: float) -> float:
        """The owner stops or resumes taking bytes from the transport; return when to look again.

        A peer that is not listened to can neither finish a frame nor be heard to be alive: while it is off nothing
        of that is held against it, and when it is on again the time for it starts anew.
        """
        self._reading = on
        self.last_heard = now
        self.unanswered = 0
        if not on:
            self.stall_at = NEVER
            return NEVER
        if in_frame:
            self._expect_more(now)
        return min(self.stall_at, self.silent_at())

    def silent_at(self) -> float:
        """When a peer of which nothing comes is taken for lost."""
        return self.last_heard + 2 * self.interval if self._server and self._up and self._reading else NEVER

    def next_heartbeat(self, now: float) -> bool:
        """A heartbeat is due; return False if too many were not answered."""
        if self.unanswered >= 2 and self._reading:
            return False
        self.unanswered += 1
        self.heartbeat_at = now + self.interval
        return True

    def overdue(self, now: float) -> str:
        """What the peer owes and did not do in time, as the reason to close; mostly empty."""
        if self.handshake_at <= now:
            return "timeout: no handshake"
        return "timeout: the peer stopped in the middle of a frame" if self.stall_at <= now else ""

    def due(self) -> float:
        """When to look again."""
        return min(self.handshake_at, self.heartbeat_at, self.give_up_at, self.stall_at, self.silent_at())
