"""Packet, session and client ids (docs/protocol.md, "Identifiers")."""

import itertools
import random
import time
from collections.abc import Callable, Container, Iterator

NO_ID = 0
#: The session that exists as soon as the handshake is done.
DEFAULT_SESSION = 1
MAX_ID = 2**64 - 1


def id_counter(wall_seconds: float | None = None, step: int = 2) -> Iterator[int]:
    """Count ids as ``(unix seconds << 32) + random``, in steps.

    The seconds are taken once: unlike a clock that is read for each id, the sequence can neither step
    back nor repeat while the counter lives, and it costs one C call per id.
    """
    seconds = time.time() if wall_seconds is None else wall_seconds
    return itertools.count((int(seconds) << 32) + random.getrandbits(32), step)


class ClientIds:
    """Client ids made by a server: fresh seconds and one process-wide counter that wraps at 2**32."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._counter = random.getrandbits(32)

    def allocate(self, in_use: Container[int] = ()) -> int:
        """Return an id that is neither 0 nor in use."""
        while True:
            self._counter = (self._counter + 1) & 0xFFFFFFFF
            made = (int(self._wall_clock()) << 32) + self._counter
            if made not in in_use and made != NO_ID:
                return made
