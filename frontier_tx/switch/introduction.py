"""What newcomers say of themselves: the meta of a service, and signs of somebody who came to the wrong door."""

import re

import msgspec

from frontier_tx.wire import gojson

EDGE_DOOR = (
    "this is the port of the edges; services connect to the address of servicebound.listen, port 30011 by default"
)
SERVICE_DOOR = (
    "this is the port of the services; edges connect to the address of edgebound.listen, port 30012 by default"
)


class _ServiceMeta(msgspec.Struct, forbid_unknown_fields=True):
    service: str = ""
    topics: list[str] | None = None


_decode = msgspec.json.Decoder(_ServiceMeta).decode
_NAMED = re.compile(rb'"(?:service|topics)"', re.IGNORECASE)
_SHAPE: dict[str, gojson.Reader] = {"service": gojson.read_string, "topics": gojson.read_strings}


def read_service_meta(meta: bytes, most_topics: int, most_bytes: int) -> tuple[str, tuple[str, ...]]:
    """Return name and topics from the meta of a service's Conn.

    :param most_topics: topics of one service.
    :param most_bytes: of the name, and of each topic, in UTF-8.
    :raises ValueError: it is no JSON object, a value in it is of the wrong type, or there is too much of something.
    """
    name, topics = _read(meta)
    if len(topics) > most_topics:
        raise ValueError(f"{len(topics)} topics, at most {most_topics} are taken")
    for what, text in (("a name", name), *(("a topic", topic) for topic in topics)):
        if len(text) * 4 > most_bytes and len(text.encode()) > most_bytes:
            raise ValueError(f"{what} of {len(text.encode())} bytes, at most {most_bytes} are taken")
    return name, tuple(dict.fromkeys(topics))


def _read(meta: bytes) -> tuple[str, list[str] | tuple[str, ...]]:
    try:
        read = _decode(meta)
        return read.service, read.topics or ()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        taken = gojson.read_object(meta, _SHAPE)
    if not taken and meta.strip() not in (b"{}", b"null") and not _NAMED.search(meta):
        raise ValueError("neither `service` nor `topics` is in it")
    topics: tuple[str, ...] = taken.get("topics", ())
    return taken.get("service", ""), topics


def looks_like_service(meta: bytes) -> bool:
    """Whether a meta is what the libraries of services write: these two keys in this order, and nothing else."""
    if not (meta.startswith(b'{"service":"') and b'","topics":' in meta and meta.endswith(b"}")):
        return False
    try:
        _decode(meta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
