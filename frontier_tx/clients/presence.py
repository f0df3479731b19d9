"""The functions with which a service hands out edge ids and follows who is online."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from frontier_tx.clients.channel import Request


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


def control_handler(
    function: Callable[[Request], Any], encode: Callable[[Any], bytes]
) -> Callable[[Request], Any]:
    """Make a handler of a function; ``encode`` turns its result into the answer."""

    async def handle(request: Request) -> bytes:
        result = function(request)
        return encode(await result if isawaitable(result) else result)

    return handle
