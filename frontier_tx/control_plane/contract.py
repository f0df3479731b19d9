"""``controlplane.ControlPlane``: what operators of every Frontier know. Its rules are those of ``switch.queries``."""

from collections.abc import Callable
from typing import Any, TypeVar

from frontier_tx.control_plane.kicks import Kicks
from frontier_tx.control_plane.scans import Scans
from frontier_tx.errors import EdgeNotOnline, ServiceNotOnline
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.switch import queries as q
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.presence import Presence

MAX_RECORDS = 100_000
"""Records of one page: an answer is kept in memory until it is read."""
MAX_BYTES = 16 * 1024 * 1024
"""The same in bytes of metas and names."""
SLICE, SLICE_BYTES = 500, 256 * 1024
"""Records, and bytes of them, that are put into an answer in one go."""
MAX_COUNT = 2**31 - 1

_T = TypeVar("_T")


class ContractService:
    """Answers the methods of the contract from who is online."""

    def __init__(self, contract: Contract, presence: Presence, kicks: Kicks, scans: Scans) -> None:
        self._message = contract.message
        self._edge = contract.message("controlplane.Edge")
        self._service = contract.message("controlplane.Service")
        self._repository = presence.repository
        self._kicks = kicks
        self._scans = scans

    async def list_edges(self, request: Any, context: CallContext) -> Any:
        """A page of edges."""
        steps = q.list_edges(self._repository, _selection(q.EdgeSelection, request))
        return await self._list("ListEdgesResponse", "edges", steps, self.edge, context)

    def get_edge(self, request: Any, context: CallContext) -> Any:
        """One edge; NOT_FOUND when it is not online."""
        return self.edge(_found(self._repository.edges.get(request.edge_id), "not found"))

    async def kick_edge(self, request: Any, context: CallContext) -> Any:
        """Close the connection of an edge; answered when it is gone."""
        await self._kicks.kick(_found(self._repository.edges.get(request.edge_id), EdgeNotOnline.text))
        return self._message("controlplane.KickEdgeResponse")()

    async def list_edge_rpcs(self, request: Any, context: CallContext) -> Any:
        """A page of the names of methods that edges have."""
        steps = q.list_edge_rpcs(self._repository, _selection(q.EdgeNamesSelection, request))
        return await self._list("ListEdgeRPCsResponse", "rpcs", steps, str, context)

    async def list_services(self, request: Any, context: CallContext) -> Any:
        """A page of services."""
        steps = q.list_services(self._repository, _selection(q.ServiceSelection, request))
        return await self._list("ListServicesResponse", "services", steps, self.service, context)

    def get_service(self, request: Any, context: CallContext) -> Any:
        """One service; NOT_FOUND when it is not online."""
        return self.service(_found(self._repository.services.get(request.service_id), "not found"))

    async def kick_service(self, request: Any, context: CallContext) -> Any:
        """Close the connection of a service; answered when it is gone."""
        await self._kicks.kick(_found(self._repository.services.get(request.service_id), ServiceNotOnline.text))
        return self._message("controlplane.KickServiceResponse")()

    async def list_service_rpcs(self, request: Any, context: CallContext) -> Any:
        """A page of the names of methods that services have."""
        steps = q.list_service_rpcs(self._repository, _selection(q.ServiceNamesSelection, request))
        return await self._list("ListServiceRPCsResponse", "rpcs", steps, str, context)

    async def list_service_topics(self, request: Any, context: CallContext) -> Any:
        """A page of the topics that services take."""
        steps = q.list_service_topics(self._repository, _selection(q.ServiceNamesSelection, request))
        return await self._list("ListServiceTopicsResponse", "topics", steps, str, context)

    def edge(self, leg: Leg) -> Any:
        """An ``Edge``."""
        return self._edge(edge_id=leg.id, meta=q.text_of(leg.meta), addr=leg.address, create_time=int(leg.since))

    def service(self, leg: Leg) -> Any:
        """A ``Service``."""
        return self._service(service_id=leg.id, service=leg.name, addr=leg.address, create_time=int(leg.since))

    async def _list(
        self, name: str, field: str, steps: q.Steps[q.Page[_T]], make: Callable[[_T], Any], context: CallContext
    ) -> Any:
        page = await self._scans.run(steps, context)
        if len(page.items) > MAX_RECORDS:
            text = f"{len(page.items)} records are too many for one answer; set page_size to at most {MAX_RECORDS}"
            raise RpcError(Status.INVALID_ARGUMENT, text)
        response = self._message(f"controlplane.{name}")(count=min(page.count, MAX_COUNT))
        records = getattr(response, field)
        start = weight = size = 0
        for place, item in enumerate(page.items):
            length = _length(item)
            size += length
            weight += 1 + length * SLICE // SLICE_BYTES
            if weight >= SLICE:
                records.extend([make(each) for each in page.items[start : place + 1]])
                start, weight = place + 1, 0
                if size > MAX_BYTES:
                    text = f"{len(page.items)} records are too large for one answer; set a smaller page_size"
                    raise RpcError(Status.INVALID_ARGUMENT, text)
                await context.turn()
        records.extend([make(each) for each in page.items[start:]])
        return response


def _length(item: Any) -> int:
    if isinstance(item, str):
        return len(item)
    return len(item.meta if item.is_edge else item.name)


def _selection(kind: Callable[..., _T], request: Any) -> _T:
    """The fields of a request as what a list is asked for; both have the same names."""
    return kind(**{field.name: value for field, value in request.ListFields()})


def _found(leg: Leg | None, text: str) -> Leg:
    if leg is None:
        raise RpcError(Status.NOT_FOUND, text)
    return leg
