"""The reporter of a Frontier: keeps a link to Frontlas, and tells over it who is here (``telling``)."""

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from frontier_tx.atlas.messages import EXTENSIONS, FrontierMeta
from frontier_tx.atlas.protocols import AtlasClientProtocol
from frontier_tx.atlas.telling import STEP, LinkState, Telling
from frontier_tx.backoff import Backoff, Retry
from frontier_tx.errors import NO_SUCH_RPC, NoSuchRPC
from frontier_tx.runtime.lograte import Troubles
from frontier_tx.switch.repository import Repository
from frontier_tx.timers import Alarms
from frontier_tx.wire.outlet import Outlet

__all__ = ["LinkState", "Reporter"]

#: How long to wait for the first announced method before taking Frontlas for one without extensions.
ANNOUNCE_SECONDS = 1.0
#: Pauses between attempts: a Frontlas that is back hears from everybody within 20 s, the time between two heartbeats,
#: and before it takes leases that nobody could renew for ended. A link that lasted for 10 s was a good one: the next
#: loss is news, and tried again at once.
RECONNECT = Backoff(first=1.0, most=12.0, steady=10.0)
#: How long a Frontier that leaves goes on telling what still waits.
PARTING_SECONDS = 5.0
#: What Frontlas says to a second Frontier with an id that is in use.
ID_TAKEN = "frontier already set"


class Reporter(Telling):
    """Reports the peers of a repository to Frontlas.

    :param endpoints: where Frontlas listens; all are tried in turn.
    :param meta: who this Frontier is; the attribute may be set until ``start``.
    :param addresses: the endpoints' addresses, for the log.
    :param stats_every: seconds between two reports of the numbers of edges and services, None for no such reports.
        Frontlas counts by itself; a Go Frontlas shows what it is told.
    :param chance: gives a number from 0 to 1, for the pauses.
    :param wall_clock: Unix seconds, as in the times at which peers came.
    :param serve: does what Frontlas calls, see ``messages``; None: nothing.
    :param id_taken: called when Frontlas refuses this Frontier because its id is in use, unless it was accepted before.
    """

    def __init__(
        self,
        repository: Repository,
        endpoints: list[IStreamClientEndpoint],
        meta: FrontierMeta,
        clock: IReactorTime,
        alarms: Alarms,
        outlet: Outlet,
        chance: Callable[[], float] = random.random,
        *,
        addresses: Sequence[str] = (),
        stats_every: float | None = None,
        id_taken: Callable[[], None] | None = None,
        serve: Callable[[str, bytes], "Deferred[bytes]"] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(repository, meta, clock, chance, stats_every, wall_clock)
        #: Why Frontlas cannot be reached or refuses, empty while the link is up.
        self.trouble = "not connected yet"
        #: Transports that are not closed yet; that of an earlier link may still be at it.
        self.transports = 0
        self._endpoints = endpoints
        self._addresses = addresses
        self._alarms = alarms
        self._outlet = outlet
        self._id_taken = id_taken
        self._serve = serve or _nothing
        self._connecting: Deferred[Any] | None = None
        self._next_endpoint = 0
        self._accepted = False
        self._troubles = Troubles()
        self._retry = Retry(RECONNECT, clock, self._connect, chance)
        self._announce: IDelayedCall | None = None
        self._parting: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None

    # -- starting and stopping ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; a Frontlas that is away is tried again for ever."""
        self._running = True
        self._connect()

    def stop(self) -> "Deferred[None]":
        """Tell what still waits, at most ``PARTING_SECONDS``, and close the link in order; fires when it is closed."""
        self._running = False
        self._retry.stop()
        self._again.stop()
        _cancel(self._announce)
        if self._closed is not None:
            return self._closed
        self._closed = Deferred()
        if self._link is None or self.state is LinkState.DOWN:
            self._part()
        else:
            self._truth = None
            self._parting = self._clock.callLater(PARTING_SECONDS, self._part)
            if not self._loop.running:
                self._loop.start(STEP, now=True)
        return self._closed

    def _part(self) -> None:
        _cancel(self._parting)
        if self._loop.running:
            self._loop.stop()
        if self._link is None:
            self._ended()
        elif self._connecting is not None:
            self._connecting.cancel()
        elif self.state is LinkState.DOWN:
            # It has not come about yet: nobody is there to say goodbye to.
            self._link.abort("this Frontier stops")
        else:
            self._link.close()

    def _ended(self) -> None:
        if self._closed is not None and not self._closed.called and not self.transports:
            self._closed.callback(None)

    def link_made(self, link: AtlasClientProtocol) -> None:
        """See ``ILinkOwner``."""
        self.transports += 1

    def transport_gone(self, link: AtlasClientProtocol) -> None:
        """See ``ILinkOwner``."""
        self.transports -= 1
        if self._link is None:
            self._ended()

    def _connect(self) -> None:
        number = self._next_endpoint % len(self._endpoints)
        self._next_endpoint += 1
        link = self._link = AtlasClientProtocol(self.meta, self._alarms, self._outlet, self)
        self._connecting = connectProtocol(self._endpoints[number], link)  # type: ignore[no-untyped-call]
        self._connecting.addCallbacks(self._connected, self._unreachable, errbackArgs=(link, number))

    def _connected(self, _protocol: object) -> None:
        self._connecting = None

    def _unreachable(self, failure: Failure, link: AtlasClientProtocol, number: int) -> None:
        self._connecting = None
        where = f"{self._addresses[number]} " if number < len(self._addresses) else ""
        self.link_down(link, f"{where}cannot be reached ({_cause(failure)}): start it or correct frontlas.dial.addrs")

    def link_down(self, link: AtlasClientProtocol, reason: str) -> None:
        """See ``ILinkOwner``; or it did not come about. Try again after a while."""
        if link is not self._link:
            return
        self._link = None
        self.state = LinkState.DOWN
        self._truth = None
        self._under_way = 0
        self._again.stop()
        _cancel(self._announce)
        for loop in (self._loop, self._stats):
            if loop.running:
                loop.stop()
        if not self._running:
            self._part()
            return
        self._retry.later()
        if self._retry.failures == 1:
            # The link was a good one: what ended it is news.
            self._troubles.over()
        self.trouble = reason or "it said goodbye"
        self._name(f"Frontlas: {self.trouble}", self._troubles)
        if self.trouble == ID_TAKEN and not self._accepted and self._id_taken is not None:
            self._id_taken()

    def link_up(self, link: AtlasClientProtocol) -> None:
        """See ``ILinkOwner``; wait a moment for what Frontlas announces, then tell everything."""
        self.state = LinkState.UP
        self.trouble = ""
        self._retry.worked()
        self._accepted = True
        self._batches = False
        self.log.info("Frontlas: link is up")
        self._announce = self._clock.callLater(ANNOUNCE_SECONDS, self._begin)

    def asked(self, method: str, value: bytes) -> "Deferred[bytes]":
        """See ``ILinkOwner``."""
        return self._serve(method, value)

    def link_announced(self, link: AtlasClientProtocol) -> None:
        """See ``ILinkOwner``; those of this implementation announce their extensions first."""
        if self._announce is not None and self._announce.active() and link.methods.issuperset(EXTENSIONS):
            self._announce.cancel()
            self._begin()


def _nothing(method: str, value: bytes) -> "Deferred[bytes]":
    return fail(NoSuchRPC(f"{NO_SUCH_RPC}{method}"))


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


def _cause(failure: Failure) -> str:
    if isinstance(failure.value, ConnectError) and isinstance(failure.value.osError, int):
        return os.strerror(failure.value.osError).lower()
    return failure.getErrorMessage().rstrip(".") or failure.type.__name__ if failure.type else ""
