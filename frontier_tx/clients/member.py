"""One Frontier of a cluster: connects as a service, and again with back-off for as long as it is a member."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from frontier_tx.clients.client import Service
from frontier_tx.clients.keeper import Backoff, ConnectFailed
from frontier_tx.config.address import join_host_port

#: Seconds between two attempts that were asked for out of turn.
APART = 1.0
#: Seconds after which a connection counts as a good one: the next loss starts the back-off anew.
STEADY = 5.0


@dataclass(frozen=True, slots=True)
class FrontierState:
    """A member at one moment. ``missing`` counts the lists in a row that did not name it; ``trouble`` says why it is
    not online."""

    frontier_id: str
    address: str
    online: bool
    missing: int
    failures: int
    trouble: str


class Cluster(Protocol):
    """Who has members."""

    reactor: Any
    service_id: int

    def dial(self, member: "Member", on_offline: Callable[[str], None]) -> Service:
        """Make a service for one connection, not connected yet."""

    def member_online(self, member: "Member") -> None:
        """A connection is up."""

    def member_offline(self, member: "Member", reason: str) -> None:
        """A connection that was up ended."""

    def member_failed(self, member: "Member") -> None:
        """An attempt failed."""


class Member:
    """See the module. ``epoch`` counts the connections that ended."""

    def __init__(
        self, cluster: Cluster, frontier_id: str, host: str, port: int, backoff: Backoff, timeout: float
    ) -> None:
        self.frontier_id = frontier_id
        self.host = host
        self.port = port
        self.missing = 0
        self.epoch = 0
        self.failures = 0
        self.trouble = "not connected yet"
        self.service: Service | None = None
        self.started = False
        self._cluster = cluster
        self._backoff = backoff
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._attempt: Deferred[None] | None = None
        self._began = float("-inf")
        self._up_since = 0.0
        self._closed = False
        self._waiters: list[Deferred[None]] = []

    @property
    def online(self) -> bool:
        """Whether a connection is up."""
        return self.service is not None and self.service.online

    @property
    def state(self) -> FrontierState:
        """What is to be told of it."""
        trouble = "" if self.online else self.trouble
        address = join_host_port(self.host, self.port)
        failures = 0 if self.online else self.failures
        return FrontierState(self.frontier_id, address, self.online, self.missing, failures, trouble)

    def start(self) -> None:
        """Connect now, if that is not under way."""
        self.started = True
        if self._closed or self._attempt is not None or self.service is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._began = self._cluster.reactor.seconds()
        wanted = self._cluster.service_id
        service = self._cluster.dial(self, lambda reason: self._lost(service, reason))
        attempt = self._attempt = service.connect()
        attempt.addTimeout(self._timeout, self._cluster.reactor)
        attempt.addCallbacks(lambda _: self._came(service, wanted), self._failed)

    def when_online(self) -> "Deferred[None]":
        """Fires when a connection is up; ConnectFailed when the attempt under way, or one made now, fails."""
        if self.online:
            return succeed(None)
        if self._closed or (
            self._attempt is None and self._cluster.reactor.seconds() - self._began < APART
        ):
            return fail(self.refusal())
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        self.start()
        return waiter

    def close(self) -> "Deferred[Any]":
        """Leave the Frontier for good."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._attempt.cancel()
        self._tell(False)
        return self.service.close() if self.service is not None else succeed(None)

    def _came(self, service: Service, wanted: int) -> None:
        self._attempt = None
        common = self._cluster.service_id
        if common and not wanted and service.service_id != common:
            # Another Frontier gave an id first, while this one was asked without.
            service.close()
            self.start()
            return
        self.service = service
        self.trouble = ""
        self._up_since = self._cluster.reactor.seconds()
        self._cluster.member_online(self)
        self._tell(True)

    def _lost(self, service: Service, reason: str) -> None:
        if service is not self.service:
            return
        self.service = None
        self.epoch += 1
        if self._cluster.reactor.seconds() - self._up_since >= STEADY:
            self.failures = 0
        self.trouble = reason or "the connection was lost"
        self._cluster.member_offline(self, self.trouble)
        self._again()

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self._closed:
            return
        elapsed = self._cluster.reactor.seconds() - self._began
        self.trouble = (
            f"no connection within {self._timeout:g} s"
            if elapsed >= self._timeout
            else failure.getErrorMessage() or type(failure.value).__name__
        )
        self._again()
        self._tell(False)
        self._cluster.member_failed(self)

    def _again(self) -> None:
        if self._closed:
            return
        wait = self._backoff.seconds(self.failures)
        self.failures += 1
        self._timer = self._cluster.reactor.callLater(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        self.start()

    def refusal(self) -> ConnectFailed:
        """Why nothing can be done there now."""
        return ConnectFailed(
            f"no connection to Frontier {self.frontier_id!r} at {join_host_port(self.host, self.port)}: {self.trouble}"
        )

    def _tell(self, up: bool) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.called:
                continue
            if up:
                waiter.callback(None)
            else:
                waiter.errback(self.refusal())
