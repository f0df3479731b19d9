"""``controlplane.ClusterService``: questions about Frontiers, edges and services of the whole cluster.

The rules: a cursor together with a count asks for one step of a scan and wins over identities; an identity
that is not known leaves a blank record in its place, so that positions match the request; single questions
answer NOT_FOUND.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontlas_tx.cluster_plane.answers import MAX_CURSOR, Answers, not_found, registry_errors, with_address
from frontlas_tx.registry.interfaces import IRegistry
from frontlas_tx.registry.records import Page

MAX_IDS = 10_000
"""Identities that one request may name."""
MAX_COUNT = 1_000
"""The largest step of a scan; ``count`` is a hint, and 0 leaves the size to the registry."""
DEFAULT_COUNT = 10
SLICE = 500
"""Records that are put into an answer in one go; it takes about a millisecond."""


class ClusterQueries:
    """Answers the methods of ``ClusterService`` from a registry."""

    def __init__(self, contract: Contract, registry: IRegistry) -> None:
        self._registry = registry
        self._answers = Answers(contract)
        self._message = contract.message

    async def get_frontier_by_edge(self, request: Any, context: CallContext) -> Any:
        """The Frontier that holds the edge now."""
        with registry_errors():
            record = await self._registry.frontier_of_edge(request.edge_id) if request.edge_id else None
        if record is None:
            raise not_found()
        return self._response("GetFrontierByEdgeIDResponse", fontier=self._answers.frontier(with_address(record)))

    async def list_frontiers(self, request: Any, context: CallContext) -> Any:
        """A step of a scan, the Frontiers of edges, Frontiers by name, or all of them."""
        make = self._answers.frontier
        if _scans(request):
            return await self._step(
                "ListFrontiersResponse", "frontiers", request, self._registry.frontiers_page, make, context
            )
        with registry_errors():
            if request.edge_ids:
                records = await _several(request.edge_ids, self._registry.frontiers_of_edges)
            elif request.frontier_ids:
                records = await _several(request.frontier_ids, self._registry.frontiers_by_ids)
            else:
                records = await self._registry.frontiers()
        return await self._list("ListFrontiersResponse", "frontiers", records, make, context)

    async def list_edges(self, request: Any, context: CallContext) -> Any:
        """A step of a scan, or edges by identity."""
        make = self._answers.edge
        if _scans(request):
            page = self._registry.edges_page
            return await self._step("ListEdgesResponse", "edges", request, page, make, context)
        with registry_errors():
            records = await _several(request.edge_ids, self._registry.edges)
        return await self._list("ListEdgesResponse", "edges", records, make, context)

    async def get_edge_by_id(self, request: Any, context: CallContext) -> Any:
        """One edge."""
        with registry_errors():
            record = await self._registry.edge(request.edge_id) if request.edge_id else None
        if record is None:
            raise not_found()
        return self._response("GetEdgeByIDResponse", edge=self._answers.edge(record))

    async def get_edges_count(self, request: Any, context: CallContext) -> Any:
        """How many edges are online."""
        with registry_errors():
            counts = await self._registry.counts()
        return self._response("GetEdgesCountResponse", count=counts.edges)

    async def list_services(self, request: Any, context: CallContext) -> Any:
        """A step of a scan, or services by identity."""
        make = self._answers.service
        if _scans(request):
            return await self._step(
                "ListServicesResponse", "services", request, self._registry.services_page, make, context
            )
        with registry_errors():
            records = await _several(request.service_ids, self._registry.services)
        return await self._list("ListServicesResponse", "services", records, make, context)

    async def get_service_by_id(self, request: Any, context: CallContext) -> Any:
        """One service, as the Frontier that saw it last recorded it."""
        with registry_errors():
            record = await self._registry.service(request.service_id) if request.service_id else None
        if record is None:
            raise not_found()
        return self._response("GetServiceByIDResponse", service=self._answers.service(record))

    async def get_services_count(self, request: Any, context: CallContext) -> Any:
        """How many connections of services there are."""
        with registry_errors():
            counts = await self._registry.counts()
        return self._response("GetServicesCountResponse", count=counts.services)

    def _response(self, name: str, **fields: Any) -> Any:
        return self._message(f"controlplane.{name}")(**fields)

    async def _list(
        self, name: str, field: str, records: Sequence[Any], make: Callable[[Any], Any], context: CallContext
    ) -> Any:
        response = self._response(name)
        answers = getattr(response, field)
        for start in range(0, len(records), SLICE):
            if start:
                await context.turn()
            answers.extend([make(record) for record in records[start : start + SLICE]])
        return response

    async def _step(
        self,
        name: str,
        field: str,
        request: Any,
        page: Callable[[int, int], Deferred[Page[Any]]],
        make: Callable[[Any], Any],
        context: CallContext,
    ) -> Any:
        with registry_errors():
            step = await page(request.cursor, min(request.count, MAX_COUNT) or DEFAULT_COUNT)
        if step.cursor > MAX_CURSOR:
            raise RpcError(Status.OUT_OF_RANGE, "there is more to scan than a cursor of this interface can count")
        response = await self._list(name, field, step.records, make, context)
        response.cursor = step.cursor
        return response


def _scans(request: Any) -> bool:
    return bool(request.HasField("cursor") and request.HasField("count"))


async def _several(ids: Sequence[Any], ask: Callable[[Sequence[Any]], Deferred[list[Any]]]) -> list[Any]:
    if not ids:
        # Status and text kept for compatibility with the Go Frontlas.
        raise RpcError(Status.UNKNOWN, "illegal request", reason="")
    if len(ids) > MAX_IDS:
        raise RpcError(Status.INVALID_ARGUMENT, f"{len(ids)} identities in one request, at most {MAX_IDS} are taken")
    return await ask(list(ids))
