"""Memory for what is not delivered yet, and whose share it is.

One of two legs that talk is an edge, and the bytes count for the edge, whichever way they go: there are many edges, and
nobody vouches for them. So an edge that does not read, or sends too fast, uses up its own share.

Half of the budget goes to whoever needs it, as long as it has no more than is still free of that half. A quarter is
there for those who need little: ``light`` bytes for each connection are always free, whatever others hold. The rest is
for what is large and goes to somebody who has nothing waiting.
"""

from collections.abc import Callable

from frontier_tx.switch.legs import Leg

#: A call or message that waits for its answer, with its places in the tables, in bytes. An answer of ``SMALL_ANSWER``
#: bytes takes its place when it comes.
PENDING_BYTES = 1024
SMALL_ANSWER = 512
#: A connection is given more to send while it holds less than this; beyond it what is sent waits by sender.
FEED = 131_072
#: What each connection may hold at least.
LIGHT = 65_536
#: The part of the configured memory that may be filled with what waits; the process itself needs the rest.
_NUMERATOR, _DENOMINATOR = 5, 8


class Budget:
    """The bytes that a process may keep.

    :param memory_bytes: what the process may need altogether.
    :param feed: what a connection may hold that is not asked who pays for it, at most.
    """

    __slots__ = (
        "limit", "pool", "passing", "total", "pendings", "most", "feed", "light", "tight", "on_tight", "connections",
    )  # fmt: skip

    def __init__(self, memory_bytes: int, feed: int = FEED) -> None:
        #: Bytes that may be kept at most, and those of them that are given to whoever comes.
        self.limit = memory_bytes * _NUMERATOR // _DENOMINATOR
        self.pool = self.limit // 2
        #: What is kept at most where something large comes for somebody who has nothing waiting.
        self.passing = self.limit * 3 // 4
        #: Bytes that are kept, without ``pendings``.
        self.total = 0
        #: How many calls and messages wait for their answers.
        self.pendings = 0
        #: What a connection may hold that is not asked who pays for it: at most, and at the moment.
        self.most = feed
        self.feed = 0
        self.light = LIGHT
        #: Whether memory is short, and what is called when it gets so.
        self.tight = False
        self.on_tight: Callable[[], None] = lambda: None
        self.connections = 0
        self.refresh()

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return self.total + PENDING_BYTES * self.pendings

    def admits(self, payer: Leg, size: int) -> bool:
        """Whether there is room for ``size`` bytes more that ``payer`` pays for."""
        used = self.total + PENDING_BYTES * self.pendings
        if used + size > self.limit:
            return False
        held = payer.held_bytes + PENDING_BYTES * (len(payer.outgoing) + len(payer.pending)) + size
        return held <= self.light or held <= self.pool - used

    def passes(self, size: int) -> bool:
        """Whether there is room for ``size`` bytes that somebody takes at once, as it seems."""
        return self.used + size <= self.passing

    def hold(self, payer: Leg, change: int) -> None:
        """``payer`` holds so many bytes more, or fewer."""
        payer.held_bytes += change
        self.total += change
        self.refresh()

    def refresh(self) -> None:
        """See how much may go straight: less from seven eighths of the first half on."""
        spare = self.pool - self.total - PENDING_BYTES * self.pendings
        scarce = self.pool // 8
        if spare >= scarce:
            self.feed = self.most
            if self.tight and spare >= 2 * scarce:
                self.tight = False
            return
        self.feed = max(0, self.most * spare // scarce)
        if not self.tight:
            self.tight = True
            self.on_tight()

    def connected(self, change: int) -> None:
        """There is one connection more, or one less."""
        self.connections += change
        self.light = min(LIGHT, self.limit // (4 * max(1, self.connections)))
