"""Chooses the exchange of a gateway with traces, so that one without them loads none of this."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from frontier_tx.config.frontier import Tracing
from frontier_tx.tracing.exchange import TracedExchange
from frontier_tx.tracing.libraries import check_library

if TYPE_CHECKING:
    from frontier_tx.tracing.otel import Traces


def traced(
    config: Tracing, instance: str, reactor: Any, metrics: CollectorRegistry
) -> tuple[Callable[..., TracedExchange], Traces]:
    """What makes the exchange, and what makes its spans, not started yet.

    :raises ConfigError: the libraries are not installed.
    """
    check_library(config)
    from frontier_tx.tracing.otel import TraceCollector, Traces

    traces = Traces(config, instance, reactor)
    metrics.register(TraceCollector(traces))
    return partial(TracedExchange, tracer=traces), traces
