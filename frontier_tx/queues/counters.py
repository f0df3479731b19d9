"""What a forwarder has done so far, for the metrics."""

from frontier_tx.runtime.histogram import Histogram


class Counters:
    """Counts of one queue."""

    def __init__(self) -> None:
        self.published = 0
        self.confirmed = 0
        self.reconnects = 0
        #: By reason: ``refused`` by the broker, ``timeout``, ``full`` buffer, ``stopping``.
        self.failed = {"refused": 0, "timeout": 0, "full": 0, "stopping": 0}
        #: Until a confirmation came.
        self.times = Histogram()
