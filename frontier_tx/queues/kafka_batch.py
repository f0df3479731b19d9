"""Batches of Kafka that are compressed with a level of one's own, which aiokafka's cannot."""

import struct
from collections.abc import Callable
from typing import Any

from aiokafka.codec import gzip_encode, lz4_encode, zstd_encode
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

#: The numbers that batches carry, and what compresses.
_CODECS: dict[str, tuple[int, Callable[[bytes, int], bytes]]] = {
    "gzip": (1, gzip_encode),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}
#: A batch (format 2) begins with base offset 8, length 4, leader epoch 4, format 1, CRC 4, attributes 2, ... bytes.
_LENGTH_AT, _CRC_AT, _ATTRIBUTES_AT, _RECORDS_AT = 8, 17, 21, 61


def has_levels(compression: str) -> bool:
    """Whether a compression has levels."""
    return compression in _CODECS


class LeveledBatch(BatchBuilder):  # type: ignore[misc]
    """Is filled and sent like the batches that a producer makes.

    :param size: bytes of its records at most, before they are compressed; one record may be larger.
    :param compression: ``gzip``, ``lz4`` or ``zstd``.
    """

    def __init__(self, size: int, compression: str, level: int) -> None:
        super().__init__(size, 0)
        self._codec, self._compress = _CODECS[compression]
        self._level = level
        self._ready: bytes | None = None

    def _build(self) -> Any:
        if self._ready is None:
            self._ready = self._compressed(bytes(super()._build()))
        return self._ready

    def _compressed(self, plain: bytes) -> bytes:
        records = self._compress(plain[_RECORDS_AT:], self._level)
        if len(records) >= len(plain) - _RECORDS_AT:
            return plain
        batch = bytearray(plain[:_RECORDS_AT])
        batch += records
        struct.pack_into(">i", batch, _LENGTH_AT, len(batch) - _LENGTH_AT - 4)
        struct.pack_into(">h", batch, _ATTRIBUTES_AT, self._codec)
        # The sum covers what follows it.
        struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_ATTRIBUTES_AT:])))
        return bytes(batch)
