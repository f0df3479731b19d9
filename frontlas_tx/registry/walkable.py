"""A set of identities that can be listed a few at a time while it changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain


class WalkableIds:
    """A set of identities that can be walked in steps: whoever stays for the whole walk is met, whatever else
    comes and goes meanwhile."""

    BUCKETS = 1_024

    def __init__(self) -> None:
        self._buckets: dict[int, set[int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, peer_id: int) -> bool:
        return peer_id in self._buckets.get(peer_id % self.BUCKETS, ())

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._buckets.values())

    def parts(self) -> Iterator[list[int]]:
        """All identities in parts; one that comes or goes meanwhile may be in none, or in one."""
        for bucket in range(self.BUCKETS):
            yield list(self._buckets.get(bucket, ()))

    def add(self, peer_id: int) -> None:
        """Take in an identity, known or not."""
        bucket = self._buckets.setdefault(peer_id % self.BUCKETS, set())
        self._size += peer_id not in bucket
        bucket.add(peer_id)

    def discard(self, peer_id: int) -> None:
        """Drop an identity, known or not."""
        bucket = self._buckets.get(peer_id % self.BUCKETS, set())
        self._size -= peer_id in bucket
        bucket.discard(peer_id)

    def step(self, start: int, count: int) -> tuple[list[int], int]:
        """About ``count`` identities from bucket ``start`` on, and the next bucket (0 at the end)."""
        found: list[int] = []
        for bucket in range(start, self.BUCKETS):
            found += sorted(self._buckets.get(bucket, ()))
            if len(found) >= count and bucket + 1 < self.BUCKETS:
                return found, bucket + 1
        return found, 0
