"""An honest edge and service of the Go library; they do what those of ``innocents`` do."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.gateways import StartedGateway
from tests.interop.ends import Ends
from tests.interop.go_driver import GoDriver

METHOD = "go-echo"
#: What attackers are not told: they would be in between.
SECRET = "go-unknown-to-attackers"


class GoPair(threading.Thread):
    """Works from ``start`` to ``stop``; ``edge_id`` and METHOD may be told to attackers."""

    def __init__(self, driver: GoDriver, gateway: StartedGateway) -> None:
        super().__init__(name="go pair", daemon=True)
        self._ends = Ends(driver, driver, gateway.edge, gateway.service)
        self._service = self._ends.service(SECRET, [SECRET])
        self._edge = self._ends.edge(b"innocent")
        self.edge_id = self._edge.client_id
        for end in (self._service, self._edge):
            end.register(METHOD, echo=True)
            end.drain()
        self.done: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.errors: list[str] = []
        self._stopping = threading.Event()

    def run(self) -> None:
        jobs = (self._calls, self._publishes, self._streams)
        while not self._stopping.is_set() and len(self.errors) < 10:
            for job in jobs:
                self._do(job)
        self._ends.close()

    def _do(self, job: Callable[[], None]) -> None:
        what, begun = "go " + job.__name__.strip("_"), time.monotonic()
        try:
            job()
        except Exception as error:
            took = time.monotonic() - begun
            self.errors.append(f"{what} after {took:.1f} s: {type(error).__name__}: {error}")
        else:
            self.done[what] += 1
            self.slowest[what] = max(self.slowest.get(what, 0.0), round(time.monotonic() - begun, 3))

    def _calls(self) -> None:
        self._service.call_many(METHOD, 50, width=5, size=300, edge_ids=[self.edge_id], patience=60)
        self._edge.call_many(METHOD, 50, width=5, size=3000, patience=60)

    def _publishes(self) -> None:
        self._edge.start_publish_many(50, topic=SECRET).result(60)
        assert self._service.drained(50) == [str(number) for number in range(50)], "other messages"

    def _streams(self) -> None:
        near = self._edge.open(SECRET)
        far = self._service.accept(30)
        reading = far.start_read_bulk(16, 32_768, 60)
        sent = near.start_write_bulk(16, 32_768, 1).result(60)["sha256"]
        assert reading.result(60)["sha256"] == sent, "other bytes"
        near.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join(120)
