"""Long work in short turns, so that nobody waits for a Frontier with a million edges."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

AT_ONCE = 1_000
"""Peers on which one turn works: some milliseconds."""

Job = Generator[int, None, int]
"""Gives what each step cost (1 is a peer whose record changes; to look at ten costs as much), and returns how much it
did."""


class Slices:
    """Works on jobs by turns, one step of each after the other; the first turn of a job is now if no other waits."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._jobs: deque[tuple[Job, Deferred[int]]] = deque()
        self._called = False

    def __len__(self) -> int:
        return len(self._jobs)

    def run(self, job: Job) -> Deferred[int]:
        """Fires with what the job returns."""
        done: Deferred[int] = Deferred()
        self._jobs.append((job, done))
        if not self._called:
            self._turn()
        return done

    def _turn(self) -> None:
        self._called = False
        room = AT_ONCE
        while self._jobs and room > 0:
            job, done = self._jobs.popleft()
            try:
                room -= next(job)
            except StopIteration as ended:
                done.callback(ended.value or 0)
            except Exception as error:
                done.errback(error)
            else:
                self._jobs.append((job, done))
        if self._jobs and not self._called:
            self._called = True
            self._clock.callLater(0, self._turn)


def pause(clock: IReactorTime) -> Deferred[None]:
    """Let others have a turn."""
    return deferLater(clock, 0)
