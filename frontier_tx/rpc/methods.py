"""What a server offers on its control port, and the rules under which any of it is called.

The transports (gRPC, REST) find methods here, hand over decoded requests, and get an answer or an ``RpcError``,
never any other exception. Deadlines, bounds, access checks, counts and the translation of unexpected failures are the
same for all of them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.rpc.addresses import address_key
from frontier_tx.rpc.audit import Audit
from frontier_tx.rpc.context import ANYBODY, AUDITED, CallContext, Caller, Role, at_once
from frontier_tx.rpc.contract import Contract, MethodSpec
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.runtime.lograte import LogRates

log = Logger()

Send = Callable[[Any], "Deferred[None]"]
"""Hands one response message to a transport; fires when the next one may follow."""

TURN = 16
"""Responses that one stream sends at most before others get their turn."""
LOG_EVERY = 60.0
"""Seconds between two tracebacks of one kind of failure in one method."""


class Rules(Protocol):
    """Who may call what, and where acts are written down; see ``access.Access``."""

    @property
    def audit(self) -> Audit:
        """The audit log."""

    def admit(self, context: CallContext, role: Role | None) -> Caller:
        """The caller; raises ``RpcError`` when this caller may not do what needs ``role``."""


@dataclass(frozen=True, slots=True)
class Method:
    """What serves one method, the role that it asks (None: nobody may call it), the longest time in seconds that a
    caller may give it, and the one of a caller who gives none."""

    spec: MethodSpec
    handler: Callable[..., Any]
    role: Role | None
    longest: float
    usual: float


class MethodMetrics:
    """Counters of one table in a Prometheus registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "control_plane_requests", "Finished calls.", ("method", "code", "via"), registry=registry
        )
        self.seconds = Histogram(
            "control_plane_request_seconds", "Time to the answer of a unary call.", ("method",), registry=registry
        )
        self.calls = Gauge("control_plane_calls", "Unary calls under way.", registry=registry)
        self.streams = Gauge("control_plane_streams", "Streaming calls under way.", registry=registry)


class MethodTable:
    """The methods of one server.

    ``call_timeout`` (seconds) ends unary calls whose caller sets no earlier deadline. ``max_calls`` and ``max_streams``
    bound what is under way at a time over all connections, of which one address leaves as many places free as it has;
    beyond them callers get RESOURCE_EXHAUSTED. Without ``access`` everybody may call everything.
    """

    def __init__(
        self,
        contract: Contract,
        clock: IReactorTime,
        *,
        call_timeout: float = 30.0,
        max_calls: int = 2000,
        max_streams: int = 10_000,
        access: Rules | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.contract = contract
        self.clock = clock
        self.call_timeout = call_timeout
        self.access = access
        self.metrics = MethodMetrics(CollectorRegistry() if registry is None else registry)
        self._calls = _Places(max_calls, "calls", self.metrics.calls)
        self._streams = _Places(max_streams, "streams", self.metrics.streams)
        self._methods: dict[str, Method] = {}
        self._services: list[str] = []
        self._failures = LogRates(1, LOG_EVERY, clock.seconds)

    def add(
        self,
        service: str,
        handlers: object,
        role: Role | Mapping[str, Role] | None = None,
        *,
        longest: float | None = None,
        usual: float | None = None,
    ) -> None:
        """Serve ``service`` by the methods of ``handlers``.

        ``role`` is what callers need: one for all methods, or one for each by its name in the contract. Where
        nothing is said, nobody may call. ``longest`` are the seconds that a caller may give a unary call, at least and
        by default ``call_timeout``; ``usual`` those of one whose caller gives none, by default ``call_timeout``.

        Each is named as ``MethodSpec.handler_name`` and called with the request and a ``CallContext``. A unary one
        returns the response or something awaitable; a streaming one is an async generator of responses; one with
        streamed requests gets an async iterator in place of the request. Raises ``TypeError`` when one is missing.
        """
        found = {}
        for spec in self.contract.methods(service):
            handler = getattr(handlers, spec.handler_name, None)
            if not callable(handler):
                raise TypeError(f"{type(handlers).__name__} has no method {spec.handler_name} to serve {spec.path}")
            asked = role if role is None or isinstance(role, str) else role.get(spec.name)
            times = max(self.call_timeout, longest or 0.0), usual or self.call_timeout
            found[spec.path] = Method(spec, handler, asked, *times)
        self._methods.update(found)
        self._services.append(service)

    @property
    def calls(self) -> int:
        """Unary calls under way."""
        return self._calls.taken

    @property
    def streams(self) -> int:
        """Streaming calls under way."""
        return self._streams.taken

    @property
    def services(self) -> list[str]:
        """Full names of what is served, sorted."""
        return sorted(self._services)

    @property
    def entries(self) -> list[Method]:
        """All methods with what serves them."""
        return list(self._methods.values())

    @property
    def methods(self) -> list[MethodSpec]:
        """All methods that are served."""
        return [method.spec for method in self._methods.values()]

    def find(self, path: str) -> MethodSpec:
        """The method of a gRPC path; raises ``RpcError`` UNIMPLEMENTED, in the words of the usual servers."""
        method = self._methods.get(path)
        if method is not None:
            return method.spec
        service, slash, name = path.removeprefix("/").rpartition("/")
        if not slash:
            raise RpcError(Status.UNIMPLEMENTED, f'malformed method name: "{path[:200]}"')
        if service in self._services:
            raise RpcError(Status.UNIMPLEMENTED, f"unknown method {name[:200]} for service {service}")
        raise RpcError(Status.UNIMPLEMENTED, f"unknown service {service[:200]}")

    def call(self, context: CallContext, request: Any) -> Deferred[Any]:
        """Call a unary method; gives the response or fails with ``RpcError``. Cancelling it stops the handler."""
        if why := self._calls.enter(context.peer):
            return self._refused(context, why)
        started = self.clock.seconds()
        method = self._methods[context.method.path]
        if context.deadline is None:
            deadline = started + method.usual
        else:
            deadline = min(context.deadline, started + method.longest)

        def finished() -> None:
            self._calls.leave(context.peer)
            self.metrics.seconds.labels(context.method.path).observe(self.clock.seconds() - started)

        run = _Run(self, context, self._unary(context, request), deadline, finished)
        if self.access is not None and method.role in AUDITED:
            return run.outer.addBoth(self._audited, context, request)
        return run.outer

    def stream(self, context: CallContext, requests: Any, send: Send) -> Deferred[None]:
        """Call a streaming method, handing each response to ``send``; ends as ``call`` does.

        ``requests`` is the request, or an async iterator of requests where the client streams.
        """
        if why := self._streams.enter(context.peer):
            return self._refused(context, why)

        def finished() -> None:
            self._streams.leave(context.peer)

        return _Run(self, context, self._stream(context, requests, send), context.deadline, finished).outer

    def admit(self, context: CallContext) -> None:
        """Set the caller of a call; raises ``RpcError`` when they may not make it.

        Transports ask before they take the body of a request; ``call`` and ``stream`` ask where nobody has.
        """
        try:
            self._admit(context)
        except RpcError as error:
            self.count(context, error.status)
            raise

    def _admit(self, context: CallContext) -> None:
        if self.access is None:
            context.caller = ANYBODY
        else:
            context.caller = self.access.admit(context, self._methods[context.method.path].role)

    async def _unary(self, context: CallContext, request: Any) -> Any:
        if context.caller is None:
            self._admit(context)
        result = self._methods[context.method.path].handler(request, context)
        return result if isinstance(result, context.method.response) else await result

    async def _stream(self, context: CallContext, requests: Any, send: Send) -> None:
        if context.caller is None:
            self._admit(context)
        responses: AsyncIterator[Any] = self._methods[context.method.path].handler(requests, context)
        sent = 0
        try:
            async for response in responses:
                await send(response)
                sent += 1
                if sent % TURN == 0:
                    # A handler that always has more must let the reactor see to the others.
                    await (deferLater(self.clock, 0) if context.turn is at_once else context.turn())
        except Exception:
            # Cancelled while sending: the handler does not know yet.
            close = getattr(responses, "aclose", None)
            if close is not None:
                await close()
            raise

    def _audited(self, outcome: Any, context: CallContext, request: Any) -> Any:
        assert self.access is not None
        if context.caller is not None:
            error = outcome.value if isinstance(outcome, Failure) else None
            self.access.audit.done(context, context.caller, request, error)
        return outcome

    def _refused(self, context: CallContext, text: str) -> Deferred[Any]:
        refused: Deferred[Any] = Deferred()
        refused.errback(RpcError(Status.RESOURCE_EXHAUSTED, text))
        self.count(context, Status.RESOURCE_EXHAUSTED)
        return refused

    def count(self, context: CallContext, status: Status) -> None:
        """One more finished call."""
        self.metrics.requests.labels(context.method.path, status.name, context.via).inc()

    def translate(self, context: CallContext, failure: Failure) -> RpcError:
        """What the caller is told about a failure; an unexpected one goes to the log, once per minute and kind."""
        error = failure.value
        if isinstance(error, RpcError):
            return error
        if isinstance(error, CancelledError):
            return RpcError(Status.CANCELLED, "the call was cancelled")
        path = context.method.path
        if (before := self._failures.due((path, type(error)))) is not None:
            log.failure("{path} failed for {peer}{before}", failure, path=path, peer=context.peer, before=before)
        return RpcError(Status.INTERNAL, "unknown request error", "UNKNOWN")


class _Places:
    """Calls under way, in all and by address; ``what`` they are called in refusals."""

    def __init__(self, most: int, what: str, gauge: Gauge) -> None:
        self.taken = 0
        self._most = most
        self._what = what
        self._gauge = gauge
        self._by_address: Tally[str] = Tally()

    def enter(self, peer: str) -> str:
        """Take a place for a call of ``peer``; gives why there is none."""
        address = address_key(peer.rpartition(":")[0])
        mine, free = self._by_address[address], self._most - self.taken
        if free <= 0 or mine > free:
            number, whose = (self._most, "") if free <= 0 else (mine, " of your address")
            return f"{number} {self._what}{whose} are under way, no more are taken; try again later"
        self._by_address[address] += 1
        self._set(self.taken + 1)
        return ""

    def leave(self, peer: str) -> None:
        """The call is over."""
        address = address_key(peer.rpartition(":")[0])
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        self._set(self.taken - 1)

    def _set(self, taken: int) -> None:
        self.taken = taken
        self._gauge.set(taken)


class _Run:
    """One call under way: its handler, its deadline, and the one outcome that the transport sees."""

    def __init__(
        self,
        table: MethodTable,
        context: CallContext,
        handler: Coroutine[Deferred[Any], Any, Any],
        deadline: float | None,
        finished: Callable[[], None],
    ) -> None:
        self._table = table
        self._context = context
        self._timer: IDelayedCall | None = None
        self._settled = False
        self.outer: Deferred[Any] = Deferred(self._cancel)
        self._inner: Deferred[Any] = Deferred.fromCoroutine(handler)
        self._inner.addBoth(self._done, finished)
        if deadline is not None and not self._settled:
            # fromCoroutine may have settled everything already, so the timer comes last.
            self._timer = table.clock.callLater(max(0.0, deadline - table.clock.seconds()), self._expire)

    def _done(self, result: Any, finished: Callable[[], None]) -> None:
        # Counted as under way until the handler really ends, also one that ignores being cancelled.
        finished()
        if isinstance(result, Failure):
            self._settle(self._table.translate(self._context, result))
        elif self._context.method.server_streaming or isinstance(result, self._context.method.response):
            self._settle(result)
        else:
            wrong = TypeError(f"{self._context.method.path} was answered with {type(result).__name__}")
            failure = Failure(wrong)  # type: ignore[no-untyped-call]
            self._settle(self._table.translate(self._context, failure))

    def _expire(self) -> None:
        self._timer = None
        self._settle(RpcError(Status.DEADLINE_EXCEEDED, "context deadline exceeded"))
        self._inner.cancel()

    def _cancel(self, _: Deferred[Any]) -> None:
        self._settle(RpcError(Status.CANCELLED, "the call was cancelled"))
        self._inner.cancel()

    def _settle(self, outcome: Any) -> None:
        if self._settled:
            return
        self._settled = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(outcome, RpcError):
            self._table.count(self._context, outcome.status)
            self.outer.errback(outcome)
        else:
            self._table.count(self._context, Status.OK)
            self.outer.callback(outcome)
