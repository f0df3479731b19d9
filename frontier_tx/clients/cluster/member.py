"""One Frontier of a cluster: connects as a service, and again with back-off for as long as it is a member."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from frontier_tx.backoff import Backoff
from frontier_tx.clients.cluster.frontlas_client import Listed
from frontier_tx.clients.core.channel import Channel
from frontier_tx.clients.core.intake import Done, ignore
from frontier_tx.clients.core.keeper import Keeper
from frontier_tx.clients.deferring import deferred
from frontier_tx.config.address import join_host_port
from frontier_tx.errors import ConnectFailed, EndClosed
from frontier_tx.runtime.deferreds import Waiters

#: Seconds between two attempts that were asked for out of turn.
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
    """Who has members."""

    clock: IReactorTime
    #: Wanted at every Frontier; 0: the next one that is connected gives it.
    service_id: int

    def keeper(self, member: "Member", lost: Callable[[str], None]) -> Keeper:
        """Make what keeps one connection, not started yet."""

    def member_online(self, member: "Member") -> None:
        """A connection is up."""

    def member_offline(self, member: "Member", reason: str) -> None:
        """A connection that was up ended."""

    def member_failed(self, member: "Member") -> None:
        """An attempt failed."""


class MemberKeeper(Keeper):
    """Keeps one connection of a member."""

    member: "Member"


class Member:
    """See the module. ``epoch`` counts the connections that ended, ``missing`` the lists that did not name it."""

    def __init__(self, cluster: Cluster, listed: Listed, backoff: Backoff, timeout: float) -> None:
        self.listed = listed
        self.missing = 0
        self.epoch = 0
        self.failures = 0
        self.trouble = "not connected yet"
        #: Of the connection that is up.
        self.up: Keeper | None = None
        self.started = False
        self._cluster = cluster
        self._backoff = backoff
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._trying: Keeper | None = None
        self._attempt: Deferred[None] | None = None
        self._began = float("-inf")
        self._up_since = 0.0
        self._closed = False
        self._waiters: Waiters[None] = Waiters()

    @property
    def frontier_id(self) -> str:
        """Whom it connects to."""
        return self.listed.frontier_id

    @property
    def online(self) -> bool:
        """Whether a connection is up."""
        return self.up is not None and self.up.online

    @property
    def state(self) -> FrontierState:
        """What is to be told of it."""
        online = self.online
        return FrontierState(
            self.frontier_id,
            self.address,
            online,
            self.missing,
            0 if online else self.failures,
            "" if online else self.trouble,
        )

    @property
    def address(self) -> str:
        """``host:port``."""
        return join_host_port(self.listed.host, self.listed.port)

    def channel(self) -> Channel:
        """Return session 1 of the connection that is up.

        :raises EndClosed: there is none.
        """
        if self.up is None:
            raise EndClosed
        return self.up.channel()

    def start(self) -> None:
        """Connect now, if that is not under way."""
        self.started = True
        if self._closed or self._attempt is not None or self.up is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._began = self._cluster.clock.seconds()
        wanted = self._cluster.service_id
        keeper = self._trying = self._cluster.keeper(self, lambda reason: self._lost(keeper, reason))

        def begin(done: Done) -> Callable[[], None]:
            keeper.start(done)
            return keeper.give_up

        attempt = self._attempt = deferred(begin)
        attempt.addTimeout(self._timeout, self._cluster.clock)
        attempt.addCallbacks(lambda _: self._came(keeper, wanted), self._failed)

    def when_online(self) -> "Deferred[None]":
        """Fires when a connection is up; ConnectFailed when the attempt under way, or one made now, fails."""
        if self.online:
            return succeed(None)
        if self._closed or (self._attempt is None and self._cluster.clock.seconds() - self._began < APART):
            return fail(self.refusal())
        waiting = self._waiters.wait()
        self.start()
        return waiting

    def close(self) -> "Deferred[Any]":
        """Leave the Frontier for good; fires when its connection is gone."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        keeper = self.up or self._trying
        closing = succeed(None) if keeper is None else _closing(keeper)
        self._waiters.tell(self.refusal())
        return closing

    def _came(self, keeper: Keeper, wanted: int) -> None:
        self._attempt = self._trying = None
        common = self._cluster.service_id
        if common and not wanted and keeper.client_id != common:
            # Another Frontier gave an id first, while this one was asked without.
            keeper.close(ignore)
            self.start()
            return
        self.up = keeper
        self.trouble = ""
        self._up_since = self._cluster.clock.seconds()
        self._cluster.member_online(self)
        self._waiters.tell(None)

    def _lost(self, keeper: Keeper, reason: str) -> None:
        if keeper is not self.up:
            return
        self.up = None
        self.epoch += 1
        if self._cluster.clock.seconds() - self._up_since >= self._backoff.steady:
            self.failures = 0
        self.trouble = reason or "the connection was lost"
        self._cluster.member_offline(self, self.trouble)
        self._again()

    def _failed(self, failure: Failure) -> None:
        self._attempt = self._trying = None
        if self._closed:
            return
        elapsed = self._cluster.clock.seconds() - self._began
        self.trouble = (
            f"no connection within {self._timeout:g} s"
            if elapsed >= self._timeout
            else failure.getErrorMessage() or type(failure.value).__name__
        )
        self._again()
        self._waiters.tell(self.refusal())
        self._cluster.member_failed(self)

    def _again(self) -> None:
        if self._closed:
            return
        wait = self._backoff.seconds(self.failures)
        self.failures += 1
        self._timer = self._cluster.clock.callLater(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        self.start()

    def refusal(self) -> ConnectFailed:
        """Why nothing can be done there now."""
        return ConnectFailed(f"no connection to Frontier {self.frontier_id!r} at {self.address}: {self.trouble}")


def _closing(keeper: Keeper) -> "Deferred[None]":
    def start(done: Done) -> None:
        keeper.close(done)

    return deferred(start)
