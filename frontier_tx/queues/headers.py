"""What consumers are told beside a body, where the broker has headers (docs/queues.md, "Headers")."""

from frontier_tx.queues.record import Record

PREFIX = "frontier-"


def headers_of(record: Record, gateway: str) -> dict[str, str]:
    """Names and values, all ASCII: edge id, topic, Unix time in milliseconds, the edge's address, the gateway."""
    headers = {
        f"{PREFIX}edge-id": str(record.edge_id),
        f"{PREFIX}time": str(int(record.when * 1000)),
        f"{PREFIX}address": _ascii(record.address),
        f"{PREFIX}topic": _ascii(record.topic),
    }
    if gateway:
        headers[f"{PREFIX}gateway"] = _ascii(gateway)
    return headers


def _ascii(text: str) -> str:
    """At most 256 printable characters; others are escaped."""
    return text[:256].encode("ascii", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")[:256]
