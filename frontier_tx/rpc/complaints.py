"""One log line for each connection that is closed for what it sent, however many there are of them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

LINES = 20
"""Lines in each period."""
PERIOD = 60.0
"""Seconds."""


class Complaints:
    """Names such connections; beyond ``LINES`` in a period they are only counted, and the next line says how many.

    ``port`` is what the port is called, ``now`` gives seconds.
    """

    def __init__(self, log: Logger, port: str, now: Callable[[], float]) -> None:
        self.total = 0
        self._log = log
        self._port = port
        self._now = now
        self._began = float("-inf")
        self._lines = 0
        self._untold = 0

    def note(self, peer: str, why: str) -> None:
        """A connection from ``peer`` is closed."""
        self.total += 1
        now = self._now()
        if now >= self._began + PERIOD:
            self._began, self._lines = now, 0
        if self._lines >= LINES:
            self._untold += 1
            return
        self._lines += 1
        untold, self._untold = self._untold, 0
        before = f" ({untold} more before it)" if untold else ""
        self._log.warn(
            "{port}: the connection from {peer} is closed: {why}{before}",
            port=self._port,
            peer=peer,
            why=why,
            before=before,
        )
