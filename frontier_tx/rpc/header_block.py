"""Decodes header blocks of HTTP/2 that may be too large, without losing step with the sender.  Pure.

A block changes the table that later blocks of the same connection refer to, so each has to be gone through to its end.
What is kept of it is bounded; a marker tells that something is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from hpack import Decoder, HeaderTuple, HPACKDecodingError
from hpack.exceptions import InvalidTableSizeError
from hpack.huffman_table import decode_huffman

TOO_LARGE = b"frontier-headers-too-large"
"""The header that stands for what was left out. A peer that sends it refuses its own call."""
ESSENTIAL = frozenset(
    (b":method", b":scheme", b":authority", b":path", b":status", b"content-type", b"accept", b"grpc-status")
)
_LONG = 15_360
"""Encoded bytes of a text that cannot fit a table of 4,096 bytes, even at the best compression."""
_KEPT_VALUE = 128
_OVERHEAD = 32
_MAX_NUMBER = 2**32
# Fields that stand in a table with their value, one byte each, change nothing.
_PLAIN_INDEXED = re.compile(rb"[\x81-\xfe]+")


class _Partial(Exception):
    """The rest of a field has not arrived."""


class HeaderDecoder(Decoder):
    """Decodes blocks to their end. Beyond ``max_header_list_size`` only a few fields are kept, and ``TOO_LARGE``."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """The fields of a complete block, as bytes; raises ``HPACKDecodingError``."""
        reader = BlockReader(self)
        reader.feed(data)
        return reader.end()


class BlockReader:
    """Decodes one block piece by piece; holds at most one incomplete field, of up to 31 kB."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._table = decoder.header_table
        self._limit = decoder.max_header_list_size
        self._fields: list[HeaderTuple] = []
        self._size = 0
        self._began = False
        self._rest = bytearray()
        self._passing = 0
        self._unvalued: tuple[bytes, bool] | None = None
        self.too_large = False

    def feed(self, data: bytes) -> None:
        """More of the block; raises ``HPACKDecodingError``."""
        buffer: Any = data
        if self._rest:
            self._rest += data
            buffer = bytes(self._rest)
            self._rest = bytearray()
        position, end = 0, len(buffer)
        while position < end:
            if self._passing:
                step = min(self._passing, end - position)
                self._passing -= step
                position += step
                continue
            if self.too_large and self._unvalued is None:
                plain = _PLAIN_INDEXED.match(buffer, position)
                if plain is not None:
                    self._table.get_by_index(max(plain[0]) & 0x7F)
                    position = plain.end()
                    continue
            try:
                position = self._field(buffer, position, end)
            except _Partial:
                self._rest += memoryview(buffer)[position:]
                break

    def end(self) -> list[HeaderTuple]:
        """The fields; raises ``HPACKDecodingError`` when the last one is not complete."""
        if self._rest or self._passing or self._unvalued is not None:
            raise HPACKDecodingError("Truncated header block")
        if self._decoder.header_table_size > self._decoder.max_allowed_table_size:
            raise InvalidTableSizeError("Encoder did not shrink table size to within the max")
        if not self.too_large:
            return self._fields
        kept = [HeaderTuple(name, value[:_KEPT_VALUE]) for name, value in self._fields if name in ESSENTIAL]
        return [*kept, HeaderTuple(TOO_LARGE, b"1")]

    def _field(self, data: bytes, position: int, end: int) -> int:
        if self._unvalued is not None:
            name, indexed = self._unvalued
            return self._value(data, position, end, name, indexed)
        first = data[position]
        if first & 0x80:
            index, position = _integer(data, position, end, 7)
            self._keep(*self._table.get_by_index(index))
            return position
        if first & 0x60 == 0x20:
            if self._began:
                raise HPACKDecodingError("Table size update not at the start of the block")
            size, position = _integer(data, position, end, 5)
            if size > self._decoder.max_allowed_table_size:
                raise InvalidTableSizeError("Encoder exceeded max allowable table size")
            self._decoder.header_table_size = size
            return position
        indexed = bool(first & 0x40)
        index, after = _integer(data, position, end, 6 if indexed else 4)
        if index:
            name = self._table.get_by_index(index)[0]
        else:
            huffman, length, after = _length(data, after, end)
            if length > _LONG:
                # Neither kept nor indexed: only the length of its value is looked at.
                self._over()
                self._unvalued = (b"", indexed)
                self._passing = length
                return after
            if after + length > end:
                raise _Partial
            name = data[after : after + length]
            name = decode_huffman(name) if huffman else name
            after += length
        return self._value(data, after, end, name, indexed)

    def _value(self, data: bytes, position: int, end: int, name: bytes, indexed: bool) -> int:
        huffman, length, position = _length(data, position, end)
        passed = self._unvalued is not None
        if length > _LONG or passed:
            self._unvalued = None
            self._over()
            self._passing = length
            if name in ESSENTIAL:
                self._fields.append(HeaderTuple(name, b"/"))
            if indexed:
                self._table.add(b"", bytes(self._table.maxsize))
            return position
        if position + length > end:
            raise _Partial
        if indexed or not self.too_large or name in ESSENTIAL:
            value = data[position : position + length]
            value = decode_huffman(value) if huffman else value
            if indexed:
                self._table.add(name, value)
            self._keep(name, value)
        return position + length

    def _keep(self, name: bytes, value: bytes) -> None:
        self._began = True
        if not self.too_large:
            self._size += len(name) + len(value) + _OVERHEAD
            if self._size <= self._limit:
                self._fields.append(HeaderTuple(name, value))
                return
            self._over()
        if name in ESSENTIAL and len(self._fields) < 2 * len(ESSENTIAL):
            self._fields.append(HeaderTuple(name, value[:_KEPT_VALUE]))

    def _over(self) -> None:
        self._began = True
        if not self.too_large:
            self.too_large = True
            self._fields = [field for field in self._fields if field[0] in ESSENTIAL][: 2 * len(ESSENTIAL)]


def plain_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block with these fields that leaves the table as it is."""
    out = bytearray()
    for name, value in fields:
        for text in (b"\x00", name), (b"", value):
            out += text[0] + _encoded_length(len(text[1])) + text[1]
    return bytes(out)


def _encoded_length(length: int) -> bytes:
    if length < 127:
        return bytes((length,))
    length -= 127
    out = bytearray((127,))
    while length >= 128:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def _length(data: bytes, position: int, end: int) -> tuple[bool, int, int]:
    if position >= end:
        raise _Partial
    length, after = _integer(data, position, end, 7)
    return bool(data[position] & 0x80), length, after


def _integer(data: bytes, position: int, end: int, bits: int) -> tuple[int, int]:
    mask = (1 << bits) - 1
    number = data[position] & mask
    position += 1
    if number < mask:
        return number, position
    shift = 0
    while True:
        if position >= end:
            raise _Partial
        byte = data[position]
        position += 1
        number += (byte & 0x7F) << shift
        shift += 7
        if number > _MAX_NUMBER or shift > 63:
            raise HPACKDecodingError("a number in a header block is too large")
        if byte < 128:
            return number, position
