"""``frontier.v1.Through``: calls and messages to peers, for whoever speaks HTTP or gRPC."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from frontier_tx.errors import (
    NO_SUCH_RPC,
    Canceled,
    DeadlineExceeded,
    EdgeNotOnline,
    ForceClosed,
    MethodTooLong,
    OperationTimeout,
    PayloadTooLarge,
    ReceiverCongested,
    ServiceNotOnline,
    TooManyPending,
    TopicNotOnline,
)
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.local import LocalCaller, Outcome
from frontier_tx.switch.repository import Repository

AT_ONCE, BYTES_AT_ONCE = 1000, 67_108_864
"""Calls and messages under way, and the bytes of their requests."""
UNPROCESSABLE, TOO_LARGE = 422, 413

_OURS = {
    DeadlineExceeded.text: (Status.DEADLINE_EXCEEDED, "no answer came in time", None),
    OperationTimeout.text: (Status.DEADLINE_EXCEEDED, "no answer came within the gateway's limits.call_seconds", None),
    Canceled.text: (Status.CANCELLED, "the call was cancelled", None),
    ForceClosed.text: (Status.UNAVAILABLE, "the receiver's connection ended before it answered", None),
    EdgeNotOnline.text: (Status.NOT_FOUND, EdgeNotOnline.text, None),
    TopicNotOnline.text: (Status.NOT_FOUND, TopicNotOnline.text, None),
    MethodTooLong.text: (Status.INVALID_ARGUMENT, MethodTooLong.text, None),
    PayloadTooLarge.text: (Status.INVALID_ARGUMENT, "the receiver takes no frames of this size", TOO_LARGE),
    ReceiverCongested.text: (
        Status.RESOURCE_EXHAUSTED,
        "too much waits for the receiver already; try again later",
        None,
    ),
    TooManyPending.text: (Status.RESOURCE_EXHAUSTED, "too many calls are under way; try again later", None),
}


class ThroughService:
    """Sends what operators send to peers, a bounded number at a time."""

    def __init__(self, contract: Contract, repository: Repository, caller: LocalCaller, clock: IReactorTime) -> None:
        self._answer = contract.message("frontier.v1.CallResponse")
        self._published = contract.message("frontier.v1.PublishResponse")
        self._repository = repository
        self._caller = caller
        self._clock = clock
        #: What is under way.
        self.at_once = self.bytes_at_once = 0

    async def call_edge(self, request: Any, context: CallContext) -> Any:
        """Call a method of an edge."""
        return self._answer(data=await self._call(self._edge(request.edge_id), request, context))

    async def call_service(self, request: Any, context: CallContext) -> Any:
        """Call a method of a service."""
        return self._answer(data=await self._call(self._service(request.service_id), request, context))

    async def publish_to_edge(self, request: Any, context: CallContext) -> Any:
        """Send a message to an edge."""
        return await self._publish(self._edge(request.edge_id), request)

    async def publish_to_service(self, request: Any, context: CallContext) -> Any:
        """Send a message to a service."""
        return await self._publish(self._service(request.service_id), request)

    async def publish_to_topic(self, request: Any, context: CallContext) -> Any:
        """Send a message to who takes a topic."""

        def start(done: Outcome) -> None:
            self._caller.publish_topic(request.topic, request.data, done)

        await self._run(start, len(request.data), "SERVICE_ERROR")
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

        return await self._run(start, len(request.data), f"{leg.kind.name}_ERROR")

    async def _publish(self, leg: Leg, request: Any) -> Any:
        def start(done: Outcome) -> None:
            self._caller.publish(leg, request.topic, request.data, done)

        await self._run(start, len(request.data), f"{leg.kind.name}_ERROR")
        return self._published()

    async def _run(self, start: Callable[[Outcome], Callable[[], None] | None], size: int, reason: str) -> bytes:
        """Do one of them; the place is free when the switch is done with it, also if nobody waits any more."""
        if self.at_once >= AT_ONCE or self.bytes_at_once + size > BYTES_AT_ONCE:
            raise RpcError(Status.RESOURCE_EXHAUSTED, "too many calls and messages are under way; try again later")
        self.at_once += 1
        self.bytes_at_once += size
        cancel: Callable[[], None] | None = None
        waiter: Deferred[bytes] = Deferred(lambda _: cancel() if cancel is not None else None)

        def done(value: bytes, error: str, by_peer: bool) -> None:
            self.at_once -= 1
            self.bytes_at_once -= size
            if waiter.called:
                return
            if error:
                waiter.errback(_peers_error(error, reason) if by_peer else _own_error(error))
            else:
                waiter.callback(value)

        cancel = start(done)
        return await waiter


def _reachable(leg: Leg | None, text: str) -> Leg:
    if leg is None or leg.half_closed:
        raise RpcError(Status.NOT_FOUND, text)
    return leg


def _peers_error(text: str, reason: str) -> RpcError:
    if text.startswith(NO_SUCH_RPC):
        return RpcError(Status.NOT_FOUND, text, "NO_SUCH_RPC")
    return RpcError(Status.FAILED_PRECONDITION, text, reason, UNPROCESSABLE)


def _own_error(text: str) -> RpcError:
    status, said, http_status = _OURS.get(text, (Status.UNAVAILABLE, text, None))
    return RpcError(status, said, None, http_status)
