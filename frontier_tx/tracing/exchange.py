"""An exchange that has a span for each call and each message; a gateway without traces has the plain one."""

from typing import Any, Protocol

from frontier_tx.switch.answers import Answers
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.forwarding import Forwarding
from frontier_tx.switch.in_flight import InFlight
from frontier_tx.switch.legs import Done, Leg, Pending
from frontier_tx.wire.body import EMPTY_MESSAGE, MessageData, read_message
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.frame import REQUEST, Frame
from frontier_tx.wire.ids import DEFAULT_SESSION
from frontier_tx.wire.trace_context import put, take


class Span(Protocol):
    """One call or message under way."""

    #: What the receiver is told.
    traceparent: str

    def went_to(self, target: Leg) -> None:
        """Its receiver is known."""

    def end(self, error: str) -> None:
        """It is over, well where ``error`` is empty."""


class Tracer(Protocol):
    """Makes spans; ``otel.Traces`` is one."""

    def begin(self, leg: Leg, call: bool, name: str, traceparent: str) -> Span:
        """Something came from ``leg``: a call of the method ``name``, or a message of that topic.

        :param traceparent: of its sender, empty where that says nothing.
        """


class Spans:
    """The spans of what is pending, with their errors."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        #: As many as there are calls and messages under way.
        self.open: dict[Pending, Span] = {}
        self.errors: dict[Pending, str] = {}
        #: Of what is being forwarded now; its end where it went nowhere.
        self.current: Span | None = None

    def over(self, pending: Pending) -> None:
        """It is answered or given up."""
        error = self.errors.pop(pending, "")
        span = self.open.pop(pending, None)
        if span is not None:
            span.end(error)


class TracedInFlight(InFlight):
    """Ends spans."""

    spans: Spans

    def settle(self, pending: Pending) -> None:
        """See ``InFlight.settle``."""
        super().settle(pending)
        self.spans.over(pending)

    def fail(self, pending: Pending, error: str) -> None:
        """See ``InFlight.fail``."""
        self.spans.errors[pending] = error
        super().fail(pending, error)


class TracedAnswers(Answers):
    """Notes what receivers answered."""

    spans: Spans

    def got_answer(self, leg: Leg, frame: Frame) -> None:
        """See ``Answers.got_answer``."""
        pending = leg.pending.get(frame.packet_id)
        if pending is not None and frame.body != EMPTY_MESSAGE and pending in self.spans.open:
            try:
                self.spans.errors[pending] = read_message(frame.body).error
            except IllegalPacket:
                self.spans.errors[pending] = "illegal packet"
        super().got_answer(leg, frame)


class TracedForwarding(Forwarding):
    """Begins spans, and hands the context on where the receiver takes it."""

    spans: Spans

    def forward(
        self,
        leg: Leg,
        frame: Frame,
        data: MessageData,
        kind: int,
        receiver: Leg | None = None,
        done: Done | None = None,
    ) -> None:
        """See ``Forwarding.forward``."""
        parent = ""
        if leg.connection.traces:
            parent, data.custom = take(data.custom)
        name = data.key.decode("utf-8", "replace") if kind == REQUEST else data.topic
        span = self.spans.current = self.spans.tracer.begin(leg, kind == REQUEST, name, parent)
        if frame.session_id != DEFAULT_SESSION:
            end = leg.streams.get(frame.session_id)
            receiver = end.other.leg if end is not None and end.other is not None else None
        if receiver is not None:
            self._hand_on(span, receiver, data)
        super().forward(leg, frame, data, kind, receiver, done)
        if self.spans.current is None:
            return
        self.spans.current = None
        pending = leg.outgoing.get(frame.packet_id)
        if pending is not None and pending not in self.spans.open:
            self.spans.open[pending] = span
        else:
            span.end("dropped")

    def _route(self, leg: Leg, data: MessageData, kind: int) -> Leg | str:
        found = super()._route(leg, data, kind)
        if isinstance(found, Leg) and self.spans.current is not None:
            self._hand_on(self.spans.current, found, data)
        return found

    @staticmethod
    def _hand_on(span: Span, target: Leg, data: MessageData) -> None:
        span.went_to(target)
        if target.connection.traces:
            data.custom = put(span.traceparent, data.custom)

    def _refuse(self, leg: Leg, frame: Frame, kind: int, method: bytes, error: str, done: Done | None) -> None:
        span, self.spans.current = self.spans.current, None
        if span is not None:
            span.end(error)
        super()._refuse(leg, frame, kind, method, error, done)


class TracedExchange(Exchange):
    """An exchange with spans. Its gateway takes the context of clients that offer it.

    Parameters as of ``Exchange``, and what makes the spans.
    """

    forwarding_class = TracedForwarding
    in_flight_class = TracedInFlight
    answers_class = TracedAnswers
    takes_traces = True

    def __init__(self, *args: Any, tracer: Tracer, **options: Any) -> None:
        super().__init__(*args, **options)
        parts: Any = (self.in_flight, self.forwarding, self.answers)
        spans = Spans(tracer)
        for part in parts:
            part.spans = spans
