"""When to try again: growing waits, half of each left to chance. Everything that reconnects uses these two classes.

Who keeps a connection up::

    self._retry = Retry(Backoff(first=0.5, most=30), clock, self._connect)

    def _connected(self): self._retry.worked()
    def _failed_or_lost(self): self._retry.later()      # calls _connect after a while
    def stop(self): self._retry.stop()

A coroutine needs no ``attempt`` and takes the waits alone: ``await deferLater(clock, retry.wait())``. Tests hand over a
``twisted.internet.task.Clock`` and a ``chance``.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before attempt n (from 0): ``first * factor**n``, at most ``most``, half of it left to chance.

    So clients that lost one server come back spread. A connection that lasted ``steady`` seconds starts the count anew.
    One that is accepted and dropped at once does not: two clients that want the same id do not drive each other out ten
    times a second.

    :raises ValueError: a wait of 0 or less, or waits that shrink.
    """

    first: float = 0.1
    most: float = 30.0
    factor: float = 2.0
    steady: float = 5.0

    def __post_init__(self) -> None:
        if self.first <= 0 or self.most <= 0 or self.factor < 1 or self.steady < 0:
            raise ValueError(f"waits are to be above 0 and not to shrink: {self}")

    def seconds(self, attempt: int, chance: Callable[[], float] = random.random) -> float:
        """Return how long to wait before this attempt; ``chance`` gives a number from 0 to 1."""
        full = min(self.most, self.first * self.factor ** min(attempt, 64))
        return full * (0.5 + chance() / 2)


def _nothing() -> None:
    """Do nothing."""


class Retry:
    """The attempts at one thing.

    :param attempt: called when a wait is over.
    """

    __slots__ = ("policy", "failures", "_clock", "_attempt", "_chance", "_call", "_up_since")

    def __init__(
        self,
        policy: Backoff,
        clock: IReactorTime,
        attempt: Callable[[], object] = _nothing,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.policy = policy
        #: Waits since the last connection that lasted.
        self.failures = 0
        self._clock = clock
        self._attempt = attempt
        self._chance = chance
        self._call: IDelayedCall | None = None
        self._up_since: float | None = None

    @property
    def waiting(self) -> bool:
        """Whether an attempt is planned."""
        return self._call is not None

    def worked(self) -> None:
        """The attempt succeeded."""
        self._up_since = self._clock.seconds()

    def wait(self) -> float:
        """An attempt failed, or what it made is lost: return the seconds until the next attempt is to be made."""
        up_since, self._up_since = self._up_since, None
        if up_since is not None and self._clock.seconds() - up_since >= self.policy.steady:
            self.failures = 0
        self.failures += 1
        return self.policy.seconds(self.failures - 1, self._chance)

    def later(self) -> None:
        """Attempt again after ``wait()`` seconds."""
        self.stop()
        self._call = self._clock.callLater(self.wait(), self.now)

    def now(self) -> None:
        """Attempt at once, whatever was planned."""
        self.stop()
        self._attempt()

    def stop(self) -> None:
        """Plan no attempt."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
