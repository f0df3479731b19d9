"""One Frontier of a cluster: connects as a service, and again for as long as it is a member."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from frontier_tx.clients.cluster.frontlas_client import Listed
from frontier_tx.clients.core.intake import ignore
from frontier_tx.clients.core.reconnect import Reconnector
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.deferring import deferred
from frontier_tx.config.address import join_host_port
from frontier_tx.errors import ConnectFailed
from frontier_tx.runtime.deferreds import Waiters

#: Seconds between two attempts that callers ask for.
APART = 1.0


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
    """The cluster that a member belongs to."""

    clock: IReactorTime
    #: Wanted at every Frontier; 0: the next one that is connected gives it.
    service_id: int
    #: Makes what keeps the connection of a member, not started yet.
    reconnector: "Callable[[Member], Reconnector]"

    def member_online(self, member: "Member") -> None:
        """A connection is up."""

    def member_offline(self, member: "Member", reason: str) -> None:
        """A connection that was up ended."""

    def member_failed(self, member: "Member") -> None:
        """An attempt failed."""


class Member:
    """See the module. ``epoch`` counts the connections that ended, ``missing`` the lists that did not name it."""

    def __init__(self, cluster: Cluster, listed: Listed) -> None:
        self.listed = listed
        self.missing = 0
        self.epoch = 0
        #: Whether a connection is up that the cluster was told of.
        self.online = False
        self._trouble = "not connected yet"
        self._cluster = cluster
        self._waiters: Waiters[None] = Waiters()
        self.reconnector = cluster.reconnector(self)

    @property
    def frontier_id(self) -> str:
        """Whom it connects to."""
        return self.listed.frontier_id

    @property
    def started(self) -> bool:
        """Whether it was told to connect."""
        return self.reconnector.started

    @property
    def failures(self) -> int:
        """Attempts since the last connection that lasted."""
        return self.reconnector.retry.failures

    @property
    def state(self) -> FrontierState:
        """Its state now."""
        failures, trouble = (0, "") if self.online else (self.failures, self._trouble)
        return FrontierState(self.frontier_id, self.address, self.online, self.missing, failures, trouble)

    @property
    def address(self) -> str:
        """``host:port``."""
        return join_host_port(self.listed.host, self.listed.port)

    def session(self) -> ClientSession:
        """Return session 1 of the connection that is up.

        :raises EndClosed: there is none.
        """
        return self.reconnector.session()

    def start(self) -> None:
        """Connect, unless it was started before or is closed."""
        if not (self.reconnector.started or self.reconnector.closed):
            self.reconnector.start(ignore, keep_trying=True)

    def when_online(self) -> "Deferred[None]":
        """Fires when a connection is up; ConnectFailed when the attempt under way, or one made now, fails."""
        reconnector = self.reconnector
        if self.online:
            return succeed(None)
        early = not reconnector.trying and self._cluster.clock.seconds() - reconnector.tried_at < APART
        if reconnector.closed or early:
            return fail(self.refusal())
        waiting = self._waiters.wait()
        if not reconnector.started:
            self.start()
        elif not reconnector.trying:
            reconnector.retry.now()
        return waiting

    def close(self) -> "Deferred[Any]":
        """Leave the Frontier for good; fires when its connection is gone."""
        closing = deferred(self.reconnector.close)
        self._waiters.tell(self.refusal())
        return closing

    def connected(self) -> None:
        """A connection is up."""
        common, reconnector = self._cluster.service_id, self.reconnector
        if common and not reconnector.asked_id and reconnector.client_id != common:
            # Another Frontier gave an id while this one was asked for any: ask for that one.
            reconnector.redial()
            return
        self.online = True
        self._cluster.member_online(self)
        self._waiters.tell(None)

    def lost(self, reason: str) -> None:
        """A connection ended."""
        if self.online:
            self.online = False
            self.epoch += 1
            self._trouble = reason or "the connection was lost"
            self._cluster.member_offline(self, self._trouble)

    def failed(self, why: str, again: bool) -> None:
        """An attempt failed; another one follows."""
        self._trouble = why
        self._waiters.tell(self.refusal())
        self._cluster.member_failed(self)

    def refusal(self) -> ConnectFailed:
        """Why nothing can be done there now."""
        return ConnectFailed(f"no connection to Frontier {self.frontier_id!r} at {self.address}: {self._trouble}")
