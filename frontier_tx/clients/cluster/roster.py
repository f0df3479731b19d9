"""The Frontiers of a cluster as one service sees them: follows the lists of Frontlas, and keeps one member for each."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.clients.cluster.deadline import NotYet, within
from frontier_tx.clients.cluster.frontlas_client import FrontlasClient, FrontlasUnavailable, Listed
from frontier_tx.clients.cluster.member import FrontierState, Member
from frontier_tx.clients.core.reconnect import Reconnector
from frontier_tx.clients.surface.flavour import Callbacks, tell
from frontier_tx.errors import ConnectFailed, EndClosed, OperationError
from frontier_tx.runtime.deferreds import Waiters
from frontier_tx.runtime.lograte import Troubles

#: Seconds between two lists.
EVERY = 10.0
#: Lists in a row that do not name a connected Frontier, until it is left.
LISTS = 3
#: Seconds from the news that a Frontier joined to the next list, which also covers news that come meanwhile.
SETTLE = 0.2
#: Seconds between the starts of connections until one Frontier gave this service its id.
STAGGER = 0.5


class TooManyFrontiers(OperationError):
    """Frontlas names more Frontiers than this service may connect to."""


class Roster:
    """Members by the id of their Frontier. It provides ``member.Cluster``.

    :param reconnector: makes what keeps the connection of a member. :param service_id: to be had everywhere; 0: any.
    :param poll: seconds between two lists. The other parameters are those of ``ClusterOptions``.
    """

    def __init__(
        self,
        frontlas: FrontlasClient,
        clock: IReactorTime,
        reconnector: Callable[[Member], Reconnector],
        callbacks: Callbacks,
        *,
        service_id: int = 0,
        poll: float = EVERY,
        max_frontiers: int = 1_000,
        on_online: Callable[[], Any] | None = None,
        on_offline: Callable[[str], Any] | None = None,
        log: Logger,
    ) -> None:
        self.clock = clock
        self.reconnector = reconnector
        self.service_id = service_id
        self.members: dict[str, Member] = {}
        self.closed = False
        #: Lists that came.
        self.lists = 0
        self._frontlas = frontlas
        self._callbacks = callbacks
        self._poll = poll
        self._max_frontiers = max_frontiers
        self._on_online = on_online
        self._on_offline = on_offline
        self._log = log
        self._waiters: Waiters[None] = Waiters()
        self._timer: IDelayedCall | None = None
        self._pioneer: IDelayedCall | None = None
        self._watch_timer: IDelayedCall | None = None
        self._listing = False
        self._troubles = Troubles()
        self._up = 0

    @property
    def online(self) -> bool:
        """Whether a connection to any Frontier is up."""
        return self._up > 0

    @property
    def states(self) -> list[FrontierState]:
        """The states of the members."""
        return [member.state for member in self.members.values()]

    def when_online(self) -> "Deferred[None]":
        """Fires when a connection to any Frontier is up; EndClosed when there will be none."""
        waiting = self._waiters.wait()
        if self.closed:
            self._waiters.tell(EndClosed())
        elif self.online:
            self._waiters.tell(None)
        return waiting

    # -- beginning and end --------------------------------------------------------------------------------

    async def begin(self, wait: bool) -> None:
        """Get the first list and follow further ones.

        :param wait: for the first connection, unless the list is empty.
        :raises FrontlasUnavailable: or LookupRefused, or, where it waits, ConnectFailed when no attempt succeeded.
        """
        await self._refresh()
        if wait and self.members:
            await self._first_connection()
        if not self.closed:
            self._timer = self.clock.callLater(self._poll, self._poll_due)
            self._watch()

    def close(self) -> "Deferred[Any]":
        """Leave all Frontiers; fires when the connections are gone."""
        self.closed = True
        for timer in (self._timer, self._pioneer, self._watch_timer):
            if timer is not None and timer.active():
                timer.cancel()
        closing = [member.close() for member in self.members.values()]
        self.members.clear()
        self._waiters.tell(EndClosed())
        return DeferredList(closing, consumeErrors=True) if closing else succeed(None)

    async def _first_connection(self) -> None:
        # Fails when each was tried; they are tried in parallel or one soon after the other.
        while not self.online:
            if not any(not member.failures for member in self.members.values()):
                raise ConnectFailed("; ".join(str(member.refusal()) for member in self.members.values()))
            try:
                await within(self._waiters.wait(), STAGGER, self.clock, NotYet)
            except NotYet:
                continue

    # -- following the list -------------------------------------------------------------------------------

    def _poll_due(self) -> None:
        self._listing = True
        listing = Deferred.fromCoroutine(self._refresh())
        listing.addErrback(self._list_failed)
        listing.addBoth(self._poll_again)

    def _poll_again(self, result: Any) -> None:
        self._listing = False
        if not self.closed:
            self._timer = self.clock.callLater(self._poll, self._poll_due)

    def _list_failed(self, failure: Failure) -> None:
        # Frontlas that is away is named by its client, once.
        text = failure.getErrorMessage()
        away = isinstance(failure.value, FrontlasUnavailable)
        if not (self.closed or away) and self._troubles.is_new(text):
            self._log.warn("Frontlas gives no list of Frontiers: {text}", text=text)

    def _watch(self) -> None:
        watching = Deferred.fromCoroutine(self._frontlas.watch_joins(self._joined))
        watching.addBoth(self._watch_over)

    def _watch_over(self, result: Any) -> None:
        # Why it ended does not matter: the lists go on, and report trouble.
        if not self.closed:
            self._watch_timer = self.clock.callLater(self._poll, self._watch)

    def _joined(self) -> None:
        timer = self._timer
        if not self._listing and timer is not None and timer.active():
            timer.reset(min(SETTLE, max(0.0, timer.getTime() - self.clock.seconds())))

    async def _refresh(self) -> None:
        listed = {one.frontier_id: one for one in await self._frontlas.frontiers()}
        if self.closed:
            return
        self.lists += 1
        for member in list(self.members.values()):
            if member.frontier_id in listed:
                continue
            member.missing += 1
            if member.missing >= LISTS or not member.online:
                self._drop(member, f"{member.missing} lists in a row did not name it")
        for one in listed.values():
            try:
                self.member(one).missing = 0
            except TooManyFrontiers as error:
                if self._troubles.is_new(str(error)):
                    self._log.warn("{error}", error=error)
                break
        else:
            self._troubles.over()

    # -- members ------------------------------------------------------------------------------------------

    def member(self, listed: Listed) -> Member:
        """The member for a Frontier that Frontlas named, which may be a new one.

        :raises TooManyFrontiers: it would be.
        """
        member = self.members.get(listed.frontier_id)
        if member is not None:
            if member.listed == listed:
                return member
            self._drop(member, f"its address is now that of {listed.host} port {listed.port}")
        if len(self.members) >= self._max_frontiers:
            raise TooManyFrontiers(f"no more than {self._max_frontiers} Frontiers are connected to (max_frontiers)")
        member = self.members[listed.frontier_id] = Member(self, listed)
        if self.service_id:
            member.start()
        elif self._pioneer is None:
            self._next_pioneer()
        return member

    def _next_pioneer(self) -> None:
        # One after the other, until one gives the id to ask the others for.
        self._pioneer = None
        waiting = [member for member in self.members.values() if not member.started]
        if waiting and not self.service_id and not self.closed:
            self._pioneer = self.clock.callLater(STAGGER, self._next_pioneer)
            waiting[0].start()

    def _drop(self, member: Member, why: str) -> None:
        self._log.info("Frontier {id} is left: {why}", id=member.frontier_id, why=why)
        self.members.pop(member.frontier_id, None)
        leaving = member.close()
        leaving.addErrback(lambda failure: None)

    def member_online(self, member: Member) -> None:
        """See ``member.Cluster``."""
        self._log.info("Frontier {id} is connected", id=member.frontier_id)
        self._up += 1
        if not self.service_id:
            self.service_id = member.reconnector.client_id
            for other in self.members.values():
                other.reconnector.wanted_id = self.service_id
                other.start()
        self._waiters.tell(None)
        if self._up == 1:
            tell(self._callbacks, self._log, "on_online", self._on_online)

    def member_offline(self, member: Member, reason: str) -> None:
        """See ``member.Cluster``."""
        self._up -= 1
        if not self.closed and member.frontier_id in self.members:
            self._log.warn("Frontier {id} is lost: {why}", id=member.frontier_id, why=reason)
        if not self._up:
            tell(self._callbacks, self._log, "on_offline", self._on_offline, reason)

    def member_failed(self, member: Member) -> None:
        """See ``member.Cluster``."""
        if member.failures == 1 and not self.closed:
            self._log.warn("{refusal}", refusal=member.refusal())
        if not self.service_id and self._pioneer is not None and self._pioneer.active():
            self._pioneer.reset(0)
