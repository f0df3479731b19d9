"""``frontlas.v1.Directory``: the cluster as its operators see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from frontier_tx.errors import EdgeNotOnline
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontlas_tx.cluster_plane.answers import registry_errors
from frontlas_tx.registry.interfaces import IRegistry
from frontlas_tx.registry.records import Counts, EdgeRecord, FrontierRecord, Page, ServiceRecord

DEFAULT_COUNT, MAX_COUNT = 50, 1_000
VISITED = 20_000
"""Records that one step of a search looks at; the client asks on from there."""
COUNTED_TOGETHER = 100
"""Frontiers whose peers are counted at the same time."""
FRESH = 1.0
"""Seconds for which a list of Frontiers is given out again: pages ask for it all the time."""

REPORTED_STEPS, REPORTED_STEP = 20, 0.05
"""How often, and at what distance in seconds, is looked whether an edge that was kicked is gone from the registry."""


class AskFrontier(Protocol):
    """What is asked of Frontiers themselves; see ``links.FrontierLinks``."""

    async def edge_details(self, frontier_id: str, edge_id: int) -> bytes:
        """A ``frontier.v1.EdgeDetails``; raises ``RpcError``."""

    async def kick_edge(self, frontier_id: str, edge_id: int) -> None:
        """Close the connection of an edge; raises ``RpcError``."""


class ClusterDirectory:
    """Answers ``Directory`` from a registry, and from the Frontiers themselves."""

    def __init__(self, contract: Contract, registry: IRegistry, frontiers: AskFrontier, clock: IReactorTime) -> None:
        self._message = contract.message
        self._edge = contract.message("frontlas.v1.Edge")
        self._service = contract.message("frontlas.v1.Service")
        self._registry = registry
        self._frontiers = frontiers
        self._clock = clock
        self._listed: Any = None
        self._listed_at = float("-inf")

    async def list_frontiers(self, request: Any, context: CallContext) -> Any:
        """All Frontiers with their counts."""
        if self._clock.seconds() - self._listed_at < FRESH:
            return self._listed
        response = self._message("frontlas.v1.ListFrontiersResponse")()
        with registry_errors():
            records: Sequence[FrontierRecord] = await self._registry.frontiers()
            for start in range(0, len(records), COUNTED_TOGETHER):
                if start:
                    await context.turn()
                some = records[start : start + COUNTED_TOGETHER]
                counting = [self._registry.counts_of(record.frontier_id) for record in some]
                outcomes: list[tuple[bool, Any]] = await DeferredList(counting, consumeErrors=True)
                for record, (known, counts) in zip(some, outcomes, strict=True):
                    if not known:
                        counts.raiseException()
                    response.frontiers.append(self._frontier(record, counts))
        self._listed, self._listed_at = response, self._clock.seconds()
        return response

    def _frontier(self, record: FrontierRecord, counts: Counts) -> Any:
        return self._message("frontlas.v1.Frontier")(
            frontier_id=record.frontier_id,
            advertised_sb_addr=record.advertised_sb_addr,
            advertised_eb_addr=record.advertised_eb_addr,
            edges=counts.edges,
            services=counts.services,
            version=record.version,
            started=record.started,
            last_seen=record.last_seen,
            connected=record.alive,
        )

    async def search_edges(self, request: Any, context: CallContext) -> Any:
        """A step over the edges of the cluster."""
        meta, addr = request.meta, request.addr

        def fits(record: EdgeRecord) -> bool:
            return record.meta.startswith(meta) and record.addr.startswith(addr)

        cursor, records = await self._search(request, self._registry.edges_page, fits, context)
        return self._message("frontlas.v1.SearchEdgesResponse")(
            cursor=cursor,
            edges=[
                self._edge(
                    edge_id=record.edge_id,
                    meta=record.meta,
                    addr=record.addr,
                    frontier_id=record.frontier_id,
                    update_time=max(0, record.update_time),
                )
                for record in records
            ],
        )

    async def search_services(self, request: Any, context: CallContext) -> Any:
        """A step over the services of the cluster."""
        name, addr = request.service, request.addr

        def fits(record: ServiceRecord) -> bool:
            return record.service.startswith(name) and record.addr.startswith(addr)

        cursor, records = await self._search(request, self._registry.services_page, fits, context)
        return self._message("frontlas.v1.SearchServicesResponse")(
            cursor=cursor,
            services=[
                self._service(
                    service_id=record.service_id,
                    service=record.service,
                    addr=record.addr,
                    frontier_id=record.frontier_id,
                    update_time=max(0, record.update_time),
                )
                for record in records
            ],
        )

    async def _search(
        self,
        request: Any,
        page: Callable[[int, int, str], Deferred[Page[Any]]],
        fits: Callable[[Any], bool],
        context: CallContext,
    ) -> tuple[int, list[Any]]:
        wanted = size = min(request.count, MAX_COUNT) or DEFAULT_COUNT
        cursor, visited, found = request.cursor, 0, list[Any]()
        with registry_errors():
            one, begin = request.frontier_id, ""
            if one and (await self._registry.frontiers_by_ids([one]))[0] is None:
                one, begin = "", one
            while True:
                step = await page(cursor, size, one)
                found += [each for each in step.records if each.frontier_id.startswith(begin) and fits(each)]
                visited += max(20, len(step.records))
                cursor = step.cursor
                if not cursor or len(found) >= wanted or visited >= VISITED:
                    return cursor, found
                # A page of the registry cannot be cut, so few are asked for as long as most fit.
                size = min(MAX_COUNT, size * 2)
                await context.turn()

    async def get_edge_details(self, request: Any, context: CallContext) -> Any:
        """What is known of one edge."""
        record = await self._online(request.edge_id)
        try:
            data = await self._frontiers.edge_details(record.frontier_id, record.edge_id)
        except RpcError as error:
            if error.status is Status.NOT_FOUND:
                raise
            return self._message("frontlas.v1.EdgeDetails")(
                edge_id=record.edge_id,
                meta=record.meta,
                addr=record.addr,
                create_time=max(0, record.update_time),
                frontier_id=record.frontier_id,
                partial=error.message,
            )
        details = self._message("frontlas.v1.EdgeDetails").FromString(data)
        for field in details.DESCRIPTOR.fields:
            if field.has_presence:
                # Zeros do not travel; here they say that it is not unknown.
                setattr(details, field.name, getattr(details, field.name))
        details.frontier_id = record.frontier_id
        return details

    async def kick_edge(self, request: Any, context: CallContext) -> Any:
        """Close the connection of an edge."""
        record = await self._online(request.edge_id)
        await self._frontiers.kick_edge(record.frontier_id, record.edge_id)
        for _ in range(REPORTED_STEPS):
            # Its Frontier reports it a moment later; whoever lists the edges next shall not find it.
            if await self._registry.edge(record.edge_id) != record:
                break
            await deferLater(self._clock, REPORTED_STEP)
        return self._message("frontlas.v1.KickEdgeResponse")()

    async def _online(self, edge_id: int) -> EdgeRecord:
        with registry_errors():
            record = await self._registry.edge(edge_id) if edge_id else None
        if record is None:
            raise RpcError(Status.NOT_FOUND, EdgeNotOnline.text)
        return record
