"""What a forwarder has done so far, for the metrics."""

from bisect import bisect_left

#: Upper edges of the latency histogram, in seconds.
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Counters:
    """Counts of one queue."""

    def __init__(self) -> None:
        self.published = 0
        self.confirmed = 0
        self.reconnects = 0
        #: By reason: ``refused`` by the broker, ``timeout``, ``full`` buffer, ``stopping``.
        self.failed = {"refused": 0, "timeout": 0, "full": 0, "stopping": 0}
        #: Confirmations by latency, and what is beyond the last edge; and the sum of all in seconds.
        self.latencies = [0] * (len(LATENCIES) + 1)
        self.latency_sum = 0.0

    def took(self, seconds: float) -> None:
        """A confirmation came after so long."""
        self.latency_sum += seconds
        self.latencies[bisect_left(LATENCIES, seconds)] += 1
