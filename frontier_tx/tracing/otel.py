"""Spans of OpenTelemetry, sent to a collector in a thread of the library's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

import frontier_tx
from frontier_tx.config.frontier import Tracing
from frontier_tx.runtime.lograte import Troubles
from frontier_tx.runtime.logs import Logger
from frontier_tx.switch.legs import Leg

EXPORT_SECONDS = 5
#: Spans in one message to the collector.
BATCH = 512
_PROPAGATOR = TraceContextTextMapPropagator()
log = Logger(namespace="frontier.tracing")


class NamingExporter(SpanExporter):
    """Names a collector that takes nothing once, until it takes something again; what it did not take is lost.

    :param call: runs a function in the reactor's thread.
    """

    def __init__(self, exporter: SpanExporter, where: str, call: Callable[..., object]) -> None:
        self._exporter = exporter
        self._where = where
        self._call = call
        self._troubles = Troubles()
        #: Spans that were taken, and that were lost.
        self.exported = self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; called in the thread of the library."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            result, why = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        else:
            why = "it cannot be reached, or refuses"
        self._call(self._done, len(spans), "" if result is SpanExportResult.SUCCESS else why)
        return result

    def _done(self, count: int, why: str) -> None:
        if not why:
            self.exported += count
            self._troubles.over()
            return
        self.lost += count
        if self._troubles.is_new(why):
            log.error(
                "the collector of traces at {where} takes no spans ({why}); they are lost until it does. Start it or "
                "correct tracing.endpoint",
                where=self._where,
                why=why,
            )

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return True


class OpenSpan:
    """A span of a call or a message under way (``exchange.Span``)."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
            if context.is_valid
            else ""
        )

    def went_to(self, target: Leg) -> None:
        """Its receiver is known."""
        if self._span.is_recording():
            self._span.set_attributes(_who("to", target))

    def end(self, error: str) -> None:
        """It is over."""
        if self._span.is_recording() and error:
            self._span.set_status(Status(StatusCode.ERROR, error[:256]))
        self._span.end()


class Traces:
    """Makes spans (``exchange.Tracer``). Those whose sender says that it is traced, or is not, follow it."""

    def __init__(
        self,
        config: Tracing,
        instance: str,
        reactor: Any,
    ) -> None:
        self._config = config
        self._instance = instance
        self._reactor = reactor
        self.exporter: NamingExporter | None = None
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer = trace.NoOpTracer()

    def start(self) -> None:
        """Begin; there are no spans before. Not before a fork, which leaves threads behind."""
        config = self._config
        # What it would say at each attempt is said once.
        quiet = logging.getLogger("opentelemetry")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        exporter = OTLPSpanExporter(endpoint=config.endpoint, timeout=EXPORT_SECONDS)
        self.exporter = NamingExporter(exporter, config.endpoint, self._reactor.callFromThread)
        resource = Resource.create(
            {
                "service.name": "frontier",
                "service.version": frontier_tx.__version__,
                "service.instance.id": self._instance,
            }
        )
        sampler = ParentBased(TraceIdRatioBased(config.ratio))
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self.exporter,
                max_queue_size=config.queue,
                max_export_batch_size=min(BATCH, config.queue),
                schedule_delay_millis=1000,
            )
        )
        self._tracer = self._provider.get_tracer("frontier", frontier_tx.__version__)

    def stop(self) -> None:
        """Send what is left. It blocks for some seconds at most, so not in the reactor's thread."""
        if self._provider is not None:
            self._provider.shutdown()

    def begin(self, leg: Leg, call: bool, name: str, traceparent: str) -> OpenSpan:
        """See ``exchange.Tracer``."""
        parent = _PROPAGATOR.extract({"traceparent": traceparent}, Context()) if traceparent else Context()
        operation = {"rpc.system": "frontier", "rpc.method": name} if call else {"messaging.destination.name": name}
        span = self._tracer.start_span(
            f"{'call' if call else 'publish'} {name}".rstrip(),
            parent,
            SpanKind.SERVER if call else SpanKind.CONSUMER,
            attributes={**operation, **_who("from", leg)},
        )
        return OpenSpan(span)


class TraceCollector(Collector):
    """What became of spans."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        exporter = self._traces.exporter
        for name, text, value in (
            ("exported", "Spans that the collector of traces took.", exporter.exported if exporter else 0),
            ("lost", "Spans that it was sent and did not take.", exporter.lost if exporter else 0),
        ):
            yield CounterMetricFamily(f"frontier_spans_{name}", text, value=value)


def _who(direction: str, leg: Leg) -> dict[str, str]:
    kind = leg.kind.value
    found = {f"frontier.{direction}": kind, f"frontier.{direction}.id": str(leg.id)}
    if leg.name:
        found[f"frontier.{direction}.name"] = leg.name
    return found
