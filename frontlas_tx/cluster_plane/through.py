"""``frontlas.v1.Through``: calls and messages to edges, at the Frontier that holds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime

from frontier_tx.clients import Service
from frontier_tx.errors import (
    EdgeNotOnline,
    EndClosed,
    ForceClosed,
    MultiplexerClosed,
    OperationError,
    SendBufferFull,
)
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.rpc.through import UnderWay, own_error, peers_error
from frontlas_tx.cluster_plane.answers import registry_errors, with_address
from frontlas_tx.cluster_plane.callers import Callers
from frontlas_tx.registry.interfaces import IRegistry
from frontlas_tx.registry.records import FrontierRecord

USUAL_SECONDS, LONGEST_SECONDS = 30.0, 3600.0
"""How long a call may take whose caller does not say, and the most that one may say."""

_T = TypeVar("_T")


class ThroughService:
    """Sends what operators send to edges, a bounded number at a time.

    :param wall_clock: Unix seconds.
    """

    def __init__(
        self,
        contract: Contract,
        registry: IRegistry,
        callers: Callers,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
    ) -> None:
        self._answer = contract.message("frontier.v1.CallResponse")
        self._published = contract.message("frontier.v1.PublishResponse")
        self._registry = registry
        self._callers = callers
        self._clock = clock
        self._wall_clock = wall_clock
        self.under_way = UnderWay()

    async def call_edge(self, request: Any, context: CallContext) -> Any:
        """Call a method of an edge."""
        if not request.method:
            raise RpcError(Status.INVALID_ARGUMENT, "no method is named")

        async def work(service: Service) -> bytes:
            deadline = self._deadline(context)
            return await service.call(request.edge_id, request.method, request.data, deadline=deadline)

        return self._answer(data=await self._run(request, work, context))

    async def publish_to_edge(self, request: Any, context: CallContext) -> Any:
        """Send a message to an edge."""

        async def work(service: Service) -> None:
            deadline = self._deadline(context)
            await service.publish(request.edge_id, request.data, topic=request.topic, deadline=deadline)

        await self._run(request, work, context)
        return self._published()

    def _deadline(self, context: CallContext) -> float:
        """Unix seconds."""
        now = self._clock.seconds()
        left = USUAL_SECONDS if context.deadline is None else min(context.deadline - now, LONGEST_SECONDS)
        return self._wall_clock() + max(0.001, left)

    async def _run(self, request: Any, work: Callable[[Service], Awaitable[_T]], context: CallContext) -> _T:
        size = len(request.data)
        self.under_way.take(size, context.peer)
        try:
            frontier = await self._holder(request.edge_id)
            try:
                return await self._at(frontier, work)
            except EdgeNotOnline:
                # It may have moved meanwhile; nothing reached it.
                now_at = await self._holder(request.edge_id)
                if now_at == frontier:
                    raise
                return await self._at(now_at, work)
        except EdgeNotOnline as error:
            raise own_error(error.text) from None
        finally:
            self.under_way.give_back(size, context.peer)

    async def _holder(self, edge_id: int) -> FrontierRecord:
        with registry_errors():
            record = await self._registry.frontier_of_edge(edge_id) if edge_id else None
        if record is None:
            raise EdgeNotOnline
        return with_address(record)

    async def _at(self, frontier: FrontierRecord, work: Callable[[Service], Awaitable[_T]]) -> _T:
        try:
            return await self._callers.use(frontier, work)
        except EdgeNotOnline:
            raise
        except SendBufferFull:
            text = f"frontier {frontier.frontier_id} does not take what waits for it; try again later"
            raise RpcError(Status.RESOURCE_EXHAUSTED, text) from None
        except (EndClosed, MultiplexerClosed, ForceClosed) as error:
            if error.origin != "caller":
                raise own_error(ForceClosed.text) from None
            text = f"the connection to frontier {frontier.frontier_id} ended before the edge answered"
            raise RpcError(Status.UNAVAILABLE, text) from None
        except OperationError as error:
            raise (peers_error(str(error), "EDGE_ERROR") if error.origin == "peer" else own_error(str(error))) from None
