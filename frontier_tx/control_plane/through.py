"""``frontier.v1.Through``: calls and messages to peers, for whoever speaks HTTP or gRPC."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from frontier_tx.errors import EdgeNotOnline, ServiceNotOnline
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.rpc.through import UnderWay, own_error, peers_error
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.local import LocalCaller, Outcome
from frontier_tx.switch.repository import Repository


class ThroughService:
    """Sends what operators send to peers, a bounded number at a time."""

    def __init__(self, contract: Contract, repository: Repository, caller: LocalCaller, clock: IReactorTime) -> None:
        self._answer = contract.message("frontier.v1.CallResponse")
        self._published = contract.message("frontier.v1.PublishResponse")
        self._repository = repository
        self._caller = caller
        self._clock = clock
        self.under_way = UnderWay()

    async def call_edge(self, request: Any, context: CallContext) -> Any:
        """Call a method of an edge."""
        return self._answer(data=await self._call(self._edge(request.edge_id), request, context))

    async def call_service(self, request: Any, context: CallContext) -> Any:
        """Call a method of a service."""
        return self._answer(data=await self._call(self._service(request.service_id), request, context))

    async def publish_to_edge(self, request: Any, context: CallContext) -> Any:
        """Send a message to an edge."""
        return await self._publish(self._edge(request.edge_id), request, context)

    async def publish_to_service(self, request: Any, context: CallContext) -> Any:
        """Send a message to a service."""
        return await self._publish(self._service(request.service_id), request, context)

    async def publish_to_topic(self, request: Any, context: CallContext) -> Any:
        """Send a message to who takes a topic."""

        def start(done: Outcome) -> Callable[[], None] | None:
            return self._caller.publish_topic(request.topic, request.data, done)

        await self._run(start, len(request.data), "SERVICE_ERROR", context)
        return self._published()

    def _edge(self, edge_id: int) -> Leg:
        return _reachable(self._repository.edges.get(edge_id), EdgeNotOnline.text)

    def _service(self, service_id: int) -> Leg:
        return _reachable(self._repository.services.get(service_id), ServiceNotOnline.text)

    async def _call(self, leg: Leg, request: Any, context: CallContext) -> bytes:
        if not request.method:
            raise RpcError(Status.INVALID_ARGUMENT, "no method is named")
        seconds = None if context.deadline is None else max(0.001, context.deadline - self._clock.seconds())

        def start(done: Outcome) -> Callable[[], None]:
            return self._caller.call(leg, request.method, request.data, seconds, done)

        return await self._run(start, len(request.data), f"{leg.kind.name}_ERROR", context)

    async def _publish(self, leg: Leg, request: Any, context: CallContext) -> Any:
        def start(done: Outcome) -> Callable[[], None]:
            return self._caller.publish(leg, request.topic, request.data, done)

        await self._run(start, len(request.data), f"{leg.kind.name}_ERROR", context)
        return self._published()

    async def _run(
        self, start: Callable[[Outcome], Callable[[], None] | None], size: int, reason: str, context: CallContext
    ) -> bytes:
        """Do one of them; the place is free as soon as the switch has no more to tell of it."""
        self.under_way.take(size, context.peer)
        cancel: Callable[[], None] | None = None
        waiter: Deferred[bytes] = Deferred(lambda _: cancel() if cancel is not None else None)

        def done(value: bytes, error: str, by_peer: bool) -> None:
            self.under_way.give_back(size, context.peer)
            if waiter.called:
                return
            if error:
                waiter.errback(peers_error(error, reason) if by_peer else own_error(error))
            else:
                waiter.callback(value)

        cancel = start(done)
        return await waiter


def _reachable(leg: Leg | None, text: str) -> Leg:
    if leg is None or leg.half_closed:
        raise RpcError(Status.NOT_FOUND, text)
    return leg
