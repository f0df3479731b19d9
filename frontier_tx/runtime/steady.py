"""A monotonic clock for the reactor, so that timers are right even when somebody sets the wall clock."""

import time
from typing import Any


def steady(reactor: Any) -> None:
    """Make a reactor count its seconds by the monotonic clock.

    Twisted's reactors ask the wall clock: one that is set back an hour keeps every timer from firing for an hour, one
    that is set forward lets every heartbeat and call run out at once. What is due already keeps its time.
    """
    offset = time.time() - time.monotonic()
    reactor.seconds = lambda: offset + time.monotonic()
