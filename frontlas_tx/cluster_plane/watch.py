"""``controlplane.ClusterWatch``: what happens in the cluster, as it happens.

A stream has no position to resume at. A client that lost one asks again with ``snapshot``, and the server
does the same by itself for a client that was too slow: between SNAPSHOT_BEGIN and SNAPSHOT_END everything
live is named at least once, so what was not named is gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from frontier_tx.rpc.context import CallContext, Turn
from frontier_tx.rpc.contract import Contract
from frontlas_tx.cluster_plane.answers import registry_errors
from frontlas_tx.registry.errors import RegistryError
from frontlas_tx.registry.interfaces import IRegistry, ISubscription
from frontlas_tx.registry.records import Change, ChangeKind, EdgeRecord, FrontierRecord, Page, ServiceRecord

PAGE = 500
"""Records per step of a snapshot."""
AGAIN = 5.0
"""Seconds between two snapshots of one stream, so that a client that never keeps up costs no more than
this."""

_FRONTIERS = (ChangeKind.FRONTIER_UP, ChangeKind.FRONTIER_DOWN)
_EDGES = (ChangeKind.EDGE_ONLINE, ChangeKind.EDGE_OFFLINE)
_SERVICES = (ChangeKind.SERVICE_ONLINE, ChangeKind.SERVICE_OFFLINE)


class Teller(ABC):
    """Makes events of the change feed of a registry."""

    def __init__(self, registry: IRegistry, clock: IReactorTime) -> None:
        self.registry = registry
        self._clock = clock

    @abstractmethod
    def bare(self, kind: str) -> Any:
        """An event without a subject: SNAPSHOT_BEGIN, SNAPSHOT_END, or LAGGED."""

    @abstractmethod
    def of_frontier(self, record: FrontierRecord) -> Any:
        """That a Frontier is there."""

    @abstractmethod
    def of_edge(self, record: EdgeRecord) -> Any:
        """That an edge is online."""

    @abstractmethod
    def of_service(self, record: ServiceRecord) -> Any:
        """That a service is online."""

    @abstractmethod
    async def of_change(self, change: Change) -> Any:
        """An entry of the feed."""

    async def follow(self, kinds: Iterable[ChangeKind], snapshot: bool, turn: Turn) -> AsyncIterator[Any]:
        """Events of these kinds from now on, with the state before them if asked for."""
        chosen = frozenset(kinds)
        with registry_errors():
            subscription = self.registry.watch(chosen)
        try:
            async for event in _Stream(self, subscription, chosen, snapshot, turn).events():
                yield event
        finally:
            subscription.stop()

    def pause(self) -> Deferred[None]:
        """Wait for as long as must lie between two snapshots."""
        return deferLater(self._clock, AGAIN)


class ClusterWatch(Teller):
    """Answers ``ClusterWatch``."""

    def __init__(self, contract: Contract, registry: IRegistry, clock: IReactorTime) -> None:
        super().__init__(registry, clock)
        self._event = contract.message("controlplane.WatchEvent")
        self._kinds = contract.enum("controlplane.WatchEvent.Kind")

    async def watch(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        """Events from now on, with the state before them if asked for."""
        everything = not (request.frontiers or request.edges or request.services)
        kinds = [
            kind
            for wanted, group in (
                (request.frontiers, _FRONTIERS),
                (request.edges, _EDGES),
                (request.services, _SERVICES),
            )
            if wanted or everything
            for kind in group
        ]
        async for event in self.follow(kinds, bool(request.snapshot), context.turn):
            yield event

    def bare(self, kind: str) -> Any:
        """An event without a subject."""
        return self._event(kind=self._kinds[kind])

    def of_frontier(self, record: FrontierRecord) -> Any:
        """That a Frontier is there."""
        return self._event(
            kind=self._kinds["FRONTIER_UP"],
            frontier_id=record.frontier_id,
            advertised_sb_addr=record.listed_sb_addr,
            advertised_eb_addr=record.advertised_eb_addr,
        )

    def of_edge(self, record: EdgeRecord) -> Any:
        """That an edge is online."""
        return self._event(
            kind=self._kinds["EDGE_ONLINE"],
            frontier_id=record.frontier_id,
            edge_id=record.edge_id,
            addr=record.addr,
            update_time=max(0, record.update_time),
        )

    def of_service(self, record: ServiceRecord) -> Any:
        """That a service is online."""
        return self._event(
            kind=self._kinds["SERVICE_ONLINE"],
            frontier_id=record.frontier_id,
            service_id=record.service_id,
            addr=record.addr,
            service=record.service,
            update_time=max(0, record.update_time),
        )

    async def of_change(self, change: Change) -> Any:
        """An entry of the feed."""
        if change.kind is ChangeKind.FRONTIER_UP:
            return await self._joined(change)
        event = self._event(
            kind=self._kinds[change.kind.name], frontier_id=change.frontier_id, update_time=max(0, change.update_time)
        )
        if change.kind in _EDGES:
            event.edge_id = change.peer_id
            event.addr = change.addr
        elif change.kind in _SERVICES:
            event.service_id = change.peer_id
            event.addr = change.addr
            event.service = change.service
        return event

    async def _joined(self, change: Change) -> Any:
        # The feed names one address; the list knows both, in the spelling to be shown.
        try:
            (record,) = await self.registry.frontiers_by_ids([change.frontier_id])
        except RegistryError:
            record = None
        return self.of_frontier(record or FrontierRecord(change.frontier_id, change.addr, ""))


class _Stream:
    """One client's stream."""

    def __init__(
        self,
        watch: Teller,
        subscription: ISubscription,
        kinds: frozenset[ChangeKind],
        snapshots: bool,
        turn: Turn,
    ) -> None:
        self._watch = watch
        self._subscription = subscription
        self._kinds = kinds
        self._snapshots = snapshots
        self._turn = turn
        self._lagged = False

    async def events(self) -> AsyncIterator[Any]:
        """All events, for ever."""
        if self._snapshots:
            async for event in self._snapshot():
                yield event
        while True:
            if self._lagged:
                self._lagged = False
                if self._snapshots:
                    await self._watch.pause()
                    async for event in self._snapshot():
                        yield event
                else:
                    yield self._watch.bare("LAGGED")
                continue
            with registry_errors():
                changes = await self._subscription.next()
            # One change wakes everybody who follows.
            await self._turn()
            async for event in self._changes(changes):
                yield event

    async def _changes(self, changes: list[Change]) -> AsyncIterator[Any]:
        for change in changes:
            if change.kind is ChangeKind.LAGGED:
                self._lagged = True
            else:
                yield await self._watch.of_change(change)

    async def _snapshot(self) -> AsyncIterator[Any]:
        # Changes are let in after each step: one that came while a step was read is then told after what was
        # read, so that the last event about a record is right.
        watch, registry = self._watch, self._watch.registry
        yield watch.bare("SNAPSHOT_BEGIN")
        if ChangeKind.FRONTIER_UP in self._kinds:
            with registry_errors():
                frontiers = await registry.frontiers()
            for frontier in frontiers:
                if frontier.alive:
                    yield watch.of_frontier(frontier)
            async for event in self._changes(self._waiting()):
                yield event
        if ChangeKind.SERVICE_ONLINE in self._kinds:
            async for event in self._walk(registry.services_page, watch.of_service):
                yield event
        if ChangeKind.EDGE_ONLINE in self._kinds:
            async for event in self._walk(registry.edges_page, watch.of_edge):
                yield event
        yield watch.bare("SNAPSHOT_END")

    async def _walk(
        self, page: Callable[[int, int], Deferred[Page[Any]]], make: Callable[[Any], Any]
    ) -> AsyncIterator[Any]:
        cursor = 0
        while True:
            with registry_errors():
                step = await page(cursor, PAGE)
            for record in step.records:
                yield make(record)
            async for event in self._changes(self._waiting()):
                yield event
            cursor = step.cursor
            if not cursor:
                return

    def _waiting(self) -> list[Change]:
        """What the feed holds already."""
        got: list[Change] = []
        upcoming = self._subscription.next()
        upcoming.addCallbacks(got.extend, lambda _: None)
        if not got:
            upcoming.cancel()
        return got
