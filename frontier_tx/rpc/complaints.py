"""One log line for each connection that is closed for what it sent, however many there are of them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from frontier_tx.runtime.lograte import LogRate

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
        self._rate = LogRate(LINES, PERIOD, now)

    def note(self, peer: str, why: str) -> None:
        """A connection from ``peer`` is closed."""
        self.total += 1
        if self._rate.allows():
            self._log.warn(
                "{port}: the connection from {peer} is closed: {why}{before}",
                port=self._port,
                peer=peer,
                why=why,
                before=self._rate.before(),
            )
