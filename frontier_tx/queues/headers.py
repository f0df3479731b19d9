"""What consumers are told beside a body, where the broker has headers (docs/queues.md, "Headers")."""

from functools import lru_cache

from frontier_tx.queues.record import Record

PREFIX = "frontier-"
TIME = f"{PREFIX}time"
#: Characters of a value at most.
MOST = 256
#: Headers that all messages of an edge to a topic share are kept for this many pairs.
REMEMBERED = 4096


def headers_of(record: Record, gateway: str) -> dict[str, str]:
    """Names and values, all ASCII: edge id, topic, Unix time in milliseconds, the edge's address, the gateway."""
    return {**dict(lasting_headers(record, gateway)), TIME: str(int(record.when * 1000))}


def lasting_headers(record: Record, gateway: str) -> tuple[tuple[str, str], ...]:
    """The same but the time: what later messages of the edge to the topic have in common, and a trace context."""
    topic, address = record.topic, record.address
    # Bounds the cache in bytes too.
    if len(topic) > MOST or len(address) > MOST:
        topic, address = topic[:MOST], address[:MOST]
    lasting = _made(record.edge_id, address, topic, gateway)
    return (*lasting, ("traceparent", record.traceparent)) if record.traceparent else lasting


@lru_cache(REMEMBERED)
def _made(edge_id: int, address: str, topic: str, gateway: str) -> tuple[tuple[str, str], ...]:
    headers = [
        (f"{PREFIX}edge-id", str(edge_id)),
        (f"{PREFIX}address", _ascii(address)),
        (f"{PREFIX}topic", _ascii(topic)),
    ]
    if gateway:
        headers.append((f"{PREFIX}gateway", _ascii(gateway)))
    return tuple(headers)


def _ascii(text: str) -> str:
    """At most 256 printable characters; others are escaped."""
    return text[:MOST].encode("ascii", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")[:MOST]
