"""Time of a server process: the wall clock may be set, and what is due must neither wait for it nor come early."""

import time
from typing import Any


def steady(reactor: Any) -> None:
    """Let a reactor count its seconds by a clock that nobody sets.

    Twisted's reactors ask the wall clock: one that is set back an hour keeps every timer from firing for an hour, one
    that is set forward lets every heartbeat and call run out at once. What is due already keeps its time.
    """
    offset = time.time() - time.monotonic()
    reactor.seconds = lambda: offset + time.monotonic()
