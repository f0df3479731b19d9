"""Encodes long answers a slice at a time, so that others get their turn between."""

from functools import lru_cache
from typing import Any

from frontier_tx.rpc.context import Turn
from frontier_tx.rpc.proto_json import message_json
from frontier_tx.rpc.status import RpcError, Status

SLICE, SLICE_BYTES = 100, 64 * 1024
"""Records, and bytes, that are encoded in one go; it takes half a millisecond."""
MAX_JSON = 32 * 1024 * 1024
"""Bytes of an answer in JSON, where one byte of a peer may take six."""


def long_list(response: Any) -> Any:
    """The field of a response that holds more than ``SLICE`` records, or more than ``SLICE_BYTES`` of them.

    None if there is none.
    """
    for field, values in response.ListFields():
        kind = field.message_type
        if field.is_repeated and kind is not None and not kind.GetOptions().map_entry:
            if len(values) > SLICE:
                return field
            size = 0
            for value in values:
                size += value.ByteSize()
                if size > SLICE_BYTES:
                    return field
    return None


async def json_in_slices(response: Any, field: Any, turn: Turn) -> bytes:
    """A response as JSON whose ``field`` is a long list; raises ``RpcError`` when it is longer than ``MAX_JSON``."""
    texts: list[bytes] = []
    weight = size = 0
    for value in getattr(response, field.name):
        texts.append(message_json(value))
        size += len(texts[-1])
        weight += 1 + len(texts[-1]) * SLICE // SLICE_BYTES
        if weight >= SLICE:
            weight = 0
            if size > MAX_JSON:
                raise RpcError(Status.INVALID_ARGUMENT, "the answer is too large; ask for less at a time")
            await turn()
    # In a text a quotation mark is escaped, so this stands for the list and nothing else.
    empty = b'"%s":[]' % field.json_name.encode()
    before, _, after = message_json(_without(response, field)).partition(empty)
    texts[0] = before + empty[:-1] + texts[0]
    texts[-1] += b"]" + after
    return b",".join(texts)


async def bytes_in_slices(response: Any, field: Any, turn: Turn) -> bytes:
    """The same as protobuf."""
    parts: list[bytes] = [_without(response, field).SerializeToString()]
    key, weight = _varint(field.number << 3 | 2), 0
    for value in getattr(response, field.name):
        data = value.SerializeToString()
        parts += (key, _varint(len(data)), data)
        weight += 1 + len(data) * SLICE // SLICE_BYTES
        if weight >= SLICE:
            weight = 0
            await turn()
    return b"".join(parts)


def _without(response: Any, field: Any) -> Any:
    """A copy of the plain fields."""
    copy = type(response)()
    for other, value in response.ListFields():
        if other is not field and not other.is_repeated and other.message_type is None:
            setattr(copy, other.name, value)
    return copy


@lru_cache(2048)
def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
