"""What an exchange may do, and what it has done."""

from dataclasses import dataclass

from frontier_tx.switch.tally import Tally


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and choices of the exchange; seconds and bytes."""

    #: How long a call or a message may wait for its answer, whatever its sender allows.
    call_seconds: float = 30.0
    #: Calls and messages under way per sender.
    pending_per_connection: int = 100_000
    #: What the process may need altogether.
    memory_bytes: int = 1_073_741_824
    #: How long a frame may wait for its rest, and its rest may take, while memory is short.
    frame_stall_seconds: float = 20.0
    #: Messages that an edge and a service may have before they acknowledged them; those behind them wait here.
    edge_window: int = 64
    service_window: int = 128
    #: Calls that an edge and a service may have before they answered them, as long as they answer.
    edge_calls: int = 256
    service_calls: int = 256
    #: From here on a stream's sender is not read from until its receiver has caught up.
    write_high_bytes: int = 8_388_608
    #: How long a receiver may keep senders stopped.
    write_stall_seconds: float = 30.0
    #: What waits for one receiver at most; beyond it calls and messages to it are refused.
    write_buffer_bytes: int = 33_554_432
    methods_per_connection: int = 10_000
    #: Of a method's, a topic's and a service's name.
    method_bytes: int = 4096
    topics_per_connection: int = 10_000
    #: What all peers together may have remembered: metas, names, topics, methods (``repository.Holdings``).
    record_bytes: int = 134_217_728
    #: Whether edges may call what services registered for the gateway itself.
    edges_call_control_methods: bool = False
    #: Whether a service is told the edge's id as ``peer`` of a stream that the edge opened.
    tell_stream_peer: bool = False


class Counters:
    """What the exchange has done so far, for the metrics."""

    __slots__ = (
        "tallies", "to_queues", "stream_bytes", "streams_opened", "dropped", "throttled", "streams_congested",
        "refused_congested", "refused_memory",
    )  # fmt: skip

    def __init__(self) -> None:
        #: Of messages, then of calls; of services, then of edges: ``tallies[is_call][from_edge]``.
        self.tallies = ((Tally(), Tally()), (Tally(), Tally()))
        #: Of messages that queues take.
        self.to_queues = Tally()
        #: Raw bytes of services, then of edges.
        self.stream_bytes = [0, 0]
        self.streams_opened = 0
        self.dropped = 0
        self.throttled = 0
        #: Streams that were ended because their receiver did not take what came for it.
        self.streams_congested = 0
        #: What was not let in because too much waited for its receiver, or in the whole process.
        self.refused_congested = 0
        self.refused_memory = 0
