"""OpenTelemetry in programs that use the clients: needs ``pip install 'frontier-tx[traces]'``, or its API alone.

::

    async with Service("gateway", traceparent=traceparent) as service:
        async def forecast(request):
            with tracer.start_as_current_span("forecast", context_of(request)):
                return await service.call(request.edge_id, "measure")   # the edge reads this span in its request
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from frontier_tx.clients.core.operations import Message, Request

_PROPAGATOR = TraceContextTextMapPropagator()


def traceparent() -> str:
    """The W3C context of the current span, empty where there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def context_of(request: Request | Message) -> Context:
    """The context that a request or a message came with, for the span that works on it."""
    return _PROPAGATOR.extract({"traceparent": request.traceparent} if request.traceparent else {}, Context())
