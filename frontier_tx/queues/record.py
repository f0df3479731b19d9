"""One message on its way to a queue."""

from collections.abc import Callable, Hashable

#: What a record costs beside its topic and value, in bytes.
OVERHEAD = 512

#: Told the error text of a record, empty when the broker has confirmed it. Called once.
Done = Callable[[str], None]


class Record:
    """A message of an edge, and who is told what became of it.

    :param topic: subject, routing key, channel or Kafka topic, unchanged.
    :param value: the body, and nothing else is.
    :param edge_id: of the edge that published it.
    :param address: of the edge, ``host:port``.
    :param when: Unix seconds at which the gateway took it.
    :param sender: shares the buffer with the others: the edge's connection.
    :param traceparent: the edge's W3C trace context, or empty; a spool does not keep it.
    """

    __slots__ = (
        "topic",
        "value",
        "edge_id",
        "address",
        "when",
        "sender",
        "size",
        "due",
        "sent_at",
        "number",
        "key",
        "done",
        "traceparent",
    )

    def __init__(
        self,
        topic: str,
        value: bytes,
        edge_id: int,
        address: str,
        when: float,
        sender: Hashable,
        done: Done | None,
        traceparent: str = "",
    ) -> None:
        self.topic = topic
        self.value = value
        self.edge_id = edge_id
        self.address = address
        self.when = when
        self.sender = sender
        #: Bytes that it counts in the buffer.
        self.size = len(value) + len(topic) + OVERHEAD
        #: When it is given up, and when it was handed to the broker last, in seconds of the process's clock.
        self.due = 0.0
        self.sent_at = 0.0
        #: Its place in the spool; 0 for one that is in memory alone.
        self.number = 0
        #: Tells the broker that it is the same record when it is sent again; set by the ``IBroker``.
        self.key = ""
        #: None once it was told.
        self.done = done
        self.traceparent = traceparent

    def finish(self, error: str) -> None:
        """Tell what became of it; a second time says nothing."""
        done, self.done = self.done, None
        if done is not None:
            done(error)
