"""The functions with which a service hands out edge ids and follows who is online."""

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from frontier_tx.clients.core.operations import Request
from frontier_tx.clients.core.values import callback, id_bytes, string


@dataclass(frozen=True, slots=True)
class EdgeEvent:
    """An edge that comes or left: id, meta, network and address as the gateway sees them."""

    edge_id: int
    meta: bytes
    network: str
    address: str

    @classmethod
    def read(cls, data: bytes) -> "EdgeEvent":
        """Read what the gateway sends.

        :raises ValueError: it is something else.
        """
        taken = json.loads(data)
        if not isinstance(taken, dict):
            raise ValueError("an edge event is to be a JSON object")
        meta = base64.b64decode(taken.get("Meta") or "", validate=True)
        return cls(int(taken.get("EdgeID", 0)), meta, str(taken.get("Net", "")), str(taken.get("Str", "")))


def service_meta(name: str, topics: Sequence[str]) -> bytes:
    """Return the meta with which a service introduces itself.

    :raises TypeError: something is not text, or the topics are one text instead of several.
    """
    string(name, "name")
    if isinstance(topics, str | bytes):
        raise TypeError(f"topics: expected a list of str, not {type(topics).__name__}; write [{topics!r}]")
    if not isinstance(topics, Iterable):
        raise TypeError(f"topics: expected a list of str, not {type(topics).__name__}")
    topics = [string(topic, "topics") for topic in topics]
    return json.dumps({"service": name, "topics": topics or None}, separators=(",", ":")).encode()


def id_handler(function: Callable[[bytes], Any]) -> Callable[[Request], Any]:
    """Make a handler of ``get_edge_id`` from a function that takes an edge's meta and returns its id."""
    callback(function, "register_get_edge_id")

    async def handle(request: Request) -> bytes:
        edge_id = function(request.data)
        found = await edge_id if isawaitable(edge_id) else edge_id
        return id_bytes(0 if found is None else found, "what the function for get_edge_id returns")

    return handle


def event_handler(function: Callable[[EdgeEvent], Any]) -> Callable[[Request], Any]:
    """Make a handler of ``edge_online`` or ``edge_offline`` from a function that takes the event."""
    callback(function, "function of the event")

    async def handle(request: Request) -> bytes:
        result = function(EdgeEvent.read(request.data))
        if isawaitable(result):
            await result
        return b""

    return handle
