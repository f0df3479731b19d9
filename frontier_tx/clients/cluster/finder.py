"""Starts operations at the Frontier that holds the edge, and looks again when the edge has moved."""

from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from frontier_tx.clients.cluster.deadline import Deadline, NotYet, within
from frontier_tx.clients.cluster.frontlas_client import FrontlasClient, FrontlasUnavailable, LookupRefused
from frontier_tx.clients.cluster.member import Member
from frontier_tx.clients.cluster.roster import Roster
from frontier_tx.clients.cluster.routes import Routes
from frontier_tx.clients.core.intake import Done
from frontier_tx.clients.deferring import deferred
from frontier_tx.clients.surface.flavour import Handle, cancel, error_of
from frontier_tx.clients.surface.speaking import StartOn
from frontier_tx.errors import (
    ConnectFailed,
    EdgeNotOnline,
    EndClosed,
    ForceClosed,
    FrontierError,
    MultiplexerClosed,
    OperationTimeout,
    TooManyPending,
)

#: Errors of operations that certainly did not reach the edge.
UNDONE = (EdgeNotOnline, EndClosed, MultiplexerClosed, ConnectFailed)
#: Errors that may mean that the edge is elsewhere: a Frontier notices late that the connection of an edge is dead.
DOUBTFUL = (OperationTimeout, ForceClosed)
#: Operations that may wait for a look-up or a connection, or be under way after that, at a time.
WORKING = 65_536
#: Seconds in which Frontlas learns that an edge moved: Frontiers that are busy report 20 times a second.
NEWS = 0.1
#: Seconds for which Frontlas is not asked about an edge that spoke through a Frontier.
JUST_NOW = 1.0
#: Seconds until Frontlas is asked again while the Frontier that it named is being connected to; doubled each time.
AGAIN = 0.5


class Failed(NamedTuple):
    """Where an operation was tried, on which connection, and why it failed there."""

    member: Member
    epoch: int
    why: FrontierError


class Finder:
    """Starts operations where their edge is.

    :param routes: what is known of that already.
    """

    def __init__(self, frontlas: FrontlasClient, roster: Roster, routes: Routes) -> None:
        #: Operations that were started again at another Frontier.
        self.retries = 0
        #: Operations that wait for a look-up or a connection, or are under way after that.
        self.working = 0
        self._frontlas = frontlas
        self._roster = roster
        self._routes = routes
        self._clock = roster.clock

    def start(self, edge_id: int, start: StartOn, limit: Deadline, done: Done, fresh: bool = False) -> "Operation":
        """Start an operation at the Frontier that holds the edge.

        One that certainly did not reach the edge is started again where another look-up finds the edge: one at once,
        one when news of a move that was under way has arrived.

        :param fresh: ask Frontlas even if the place is known, unless the edge was heard there just now.
        """
        operation = Operation(self, edge_id, start, limit, done)
        member = None if self._roster.closed else self._known(edge_id, fresh)
        if member is None:
            operation.work(self.work(edge_id, start, limit, fresh))
        else:
            operation.begin(member)
        return operation

    async def work(
        self, edge_id: int, start: StartOn, limit: Deadline, fresh: bool, failed: Failed | None = None
    ) -> Any:
        """Find the edge, start the operation there and return its result; ``failed``: where it was tried before.

        :raises TooManyPending: too many are at it.
        """
        if self.working >= WORKING:
            raise TooManyPending
        self.working += 1
        try:
            return await self._work(edge_id, start, limit, fresh, failed)
        finally:
            self.working -= 1

    async def _work(self, edge_id: int, start: StartOn, limit: Deadline, fresh: bool, failed: Failed | None) -> Any:
        waits = iter((0.0, NEWS))
        while True:
            if failed is None:
                member = await self._named(edge_id, limit, fresh)
            else:
                member = await self._elsewhere(edge_id, failed, limit, waits)
                self.retries += 1
            epoch = member.epoch
            try:
                member = await self._reached(edge_id, member, limit)
                epoch = member.epoch
                return await self._once(member, start, limit)
            except FrontierError as error:
                self.failed(edge_id, error)
                if not isinstance(error, UNDONE):
                    raise
                failed = Failed(member, epoch, error)

    async def _once(self, member: Member, start: StartOn, limit: Deadline) -> Any:
        left = limit.left()
        return await deferred(lambda done: start(member.session(), left, done))

    def failed(self, edge_id: int, error: Exception) -> None:
        """An operation failed: forget or doubt where the edge is, as the error says."""
        if isinstance(error, UNDONE):
            self._routes.drop(edge_id)
        elif isinstance(error, DOUBTFUL):
            self._routes.doubt(edge_id)

    async def _elsewhere(self, edge_id: int, failed: Failed, limit: Deadline, waits: Iterator[float]) -> Member:
        """Return who else holds the edge; if nobody does, raise why the operation failed."""
        why: FrontierError = failed.why
        for wait in waits:
            try:
                if wait:
                    await limit.over(deferLater(self._clock, wait))
                member = await self._named(edge_id, limit, fresh=True)
            except EdgeNotOnline as error:
                # It left its Frontier; Frontlas may not know yet where it went.
                why = failed.why if isinstance(failed.why, EdgeNotOnline) else error
                continue
            except FrontierError:
                break
            if (member, member.epoch) != (failed.member, failed.epoch):
                return member
        raise why

    def _known(self, edge_id: int, fresh: bool) -> Member | None:
        """Return who holds the edge, if Frontlas need not be asked."""
        known = self._routes.get(edge_id)
        if known is None or self._clock.seconds() >= (known.heard + JUST_NOW if fresh else known.until):
            return None
        held = self._roster.members.get(known.frontier_id)
        return held if held is not None and held.online and held.epoch == known.epoch else None

    async def _named(self, edge_id: int, limit: Deadline, fresh: bool) -> Member:
        """Return who holds the edge: what is known, or what Frontlas tells."""
        if self._roster.closed:
            raise EndClosed
        known = self._known(edge_id, fresh)
        if known is not None:
            return known
        try:
            return await self._ask(edge_id, limit)
        except FrontlasUnavailable:
            route = self._routes.get(edge_id)
            held = self._roster.members.get(route.frontier_id) if route is not None else None
            if held is not None and held.online:
                return held
            raise

    async def _ask(self, edge_id: int, limit: Deadline) -> Member:
        try:
            listed = await limit.over(Deferred.fromCoroutine(self._frontlas.holder(edge_id)))
        except EdgeNotOnline:
            self._routes.drop(edge_id)
            raise
        if self._roster.closed:
            raise EndClosed
        member = self._roster.member(listed)
        self._routes.put(edge_id, member.frontier_id, member.epoch, self._clock.seconds())
        return member

    async def _reached(self, edge_id: int, member: Member, limit: Deadline) -> Member:
        """Wait until the member is connected.

        Frontlas goes on naming a Frontier that died until it notices, and connecting to a dead host takes long: the
        edge may be elsewhere long before that fails.
        """
        patience = AGAIN
        while not member.online:
            try:
                await limit.over(within(member.when_online(), patience, self._clock, NotYet))
            except NotYet:
                patience *= 2
                with suppress(FrontlasUnavailable, LookupRefused):
                    member = await self._ask(edge_id, limit)
        return member


class Operation:
    """One operation, at whatever Frontiers it is tried. It can be cancelled."""

    __slots__ = ("_finder", "_edge_id", "_start", "_limit", "_done", "_handle")

    def __init__(self, finder: Finder, edge_id: int, start: StartOn, limit: Deadline, done: Done) -> None:
        self._finder = finder
        self._edge_id = edge_id
        self._start = start
        self._limit = limit
        self._done = done
        self._handle: Handle = None

    def begin(self, member: Member) -> None:
        """Try it where the edge was last: the common case, which is cheap."""
        epoch = member.epoch

        def told(result: Any, error: Exception | None) -> None:
            # The handle holds this operation: without this each one would be left to the garbage collector.
            self._handle = None
            if error is not None:
                self._finder.failed(self._edge_id, error)
                if isinstance(error, UNDONE):
                    failed = Failed(member, epoch, error)
                    self.work(self._finder.work(self._edge_id, self._start, self._limit, True, failed))
                    return
            self._done(result, error)

        try:
            handle = self._start(member.session(), self._limit.left(), told)
        except FrontierError as error:
            told(None, error)
        else:
            self._handle = self._handle or handle

    def work(self, work: Coroutine[Any, Any, Any]) -> None:
        """Wait for ``work``, which looks the edge up."""
        working: Deferred[Any] = Deferred.fromCoroutine(work)
        self._handle = working
        working.addCallbacks(lambda result: self._done(result, None), self._failed)

    def _failed(self, failure: Failure) -> None:
        self._done(None, error_of(failure))

    def cancel(self) -> None:
        """Give it up; harmless when it is over."""
        cancel(self._handle)
