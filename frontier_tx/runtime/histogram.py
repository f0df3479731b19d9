"""How long things took, by classes, as Prometheus wants them: counting one costs a search in a short tuple."""

from bisect import bisect_left
from itertools import accumulate

#: Upper bounds of the classes, in seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_NAMES = (*map(str, BOUNDS), "+Inf")


class Histogram:
    """Counts durations."""

    __slots__ = ("classes", "seconds")

    def __init__(self) -> None:
        #: How many took how long, by ``BOUNDS``; the last class is for all that took longer.
        self.classes = [0] * len(_NAMES)
        #: Sum of all.
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """Something took so long."""
        self.classes[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds with the number of durations up to each."""
        return list(zip(_NAMES, map(float, accumulate(self.classes)), strict=True))
