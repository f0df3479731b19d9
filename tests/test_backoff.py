"""The waits between attempts."""

import pytest
from twisted.internet.task import Clock

from frontier_tx.backoff import Backoff, Retry


class Attempts:
    """Counts attempts, with a clock that tests move and waits without chance."""

    def __init__(self, policy: Backoff) -> None:
        self.clock = Clock()
        self.times: list[float] = []
        self.retry = Retry(policy, self.clock, self._attempt, chance=lambda: 1.0)

    def _attempt(self) -> None:
        self.times.append(self.clock.seconds())

    def failed(self, times: int) -> list[float]:
        """Let so many attempts fail; return the waits before each."""
        waits = []
        for _ in range(times):
            before, made = self.clock.seconds(), len(self.times)
            self.retry.later()
            while len(self.times) == made:
                self.clock.advance(0.25)
            waits.append(self.times[-1] - before)
        return waits


def test_half_of_a_wait_is_left_to_chance() -> None:
    policy = Backoff(first=2.0, most=60.0)
    assert [policy.seconds(3, lambda chance=chance: chance) for chance in (0.0, 0.5, 1.0)] == [8.0, 12.0, 16.0]  # type: ignore[misc]
    assert policy.seconds(10**9, lambda: 1.0) == 60.0


@pytest.mark.parametrize("wrong", [{"first": 0}, {"most": -1}, {"factor": 0.5}, {"steady": -1}])
def test_waits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Backoff(**wrong)


def test_waits_grow_up_to_the_last() -> None:
    attempts = Attempts(Backoff(first=1.0, most=4.0))
    assert attempts.failed(4) == [1.0, 2.0, 4.0, 4.0]
    assert attempts.retry.failures == 4


@pytest.mark.parametrize(("lasted", "wait"), [(5.0, 1.0), (4.75, 4.0)])
def test_only_a_connection_that_lasted_starts_the_count_anew(lasted: float, wait: float) -> None:
    attempts = Attempts(Backoff(first=1.0, most=9.0, steady=5.0))
    attempts.failed(2)
    attempts.retry.worked()
    attempts.clock.advance(lasted)
    assert attempts.failed(1) == [wait]


def test_an_attempt_that_is_made_at_once_takes_the_place_of_the_planned_one() -> None:
    attempts = Attempts(Backoff(first=1.0))
    attempts.retry.later()
    assert attempts.retry.waiting
    attempts.retry.now()
    assert not attempts.retry.waiting
    attempts.clock.advance(100)
    assert attempts.times == [0.0]


def test_after_a_stop_nothing_is_attempted() -> None:
    attempts = Attempts(Backoff(first=1.0))
    attempts.retry.later()
    attempts.retry.stop()
    attempts.clock.advance(100)
    assert attempts.times == [] and not attempts.clock.getDelayedCalls()


def test_a_coroutine_takes_the_waits_alone() -> None:
    clock = Clock()
    retry = Retry(Backoff(first=1.0, most=3.0, steady=0.0), clock, chance=lambda: 0.0)
    assert [retry.wait() for _ in range(3)] == [0.5, 1.0, 1.5]
    retry.worked()
    assert retry.wait() == 0.5
