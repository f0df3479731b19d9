"""What the registry needs of Redis, the same in all three modes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from frontier_tx.redis.errors import RedisError
from frontier_tx.runtime.histogram import Histogram

Argument: TypeAlias = bytes | str | int
Reply: TypeAlias = Any
"""``bytes``, ``int``, ``None``, a status as ``str``, or a list of these."""


@dataclass(frozen=True, slots=True)
class Request:
    """One command with exactly one key: ``args`` are the words of the command, or key and arguments of
    ``script``."""

    args: tuple[Argument, ...]
    script: Script | None = None

    @property
    def key(self) -> Argument:
        """The word that decides which server is asked."""
        return self.args[0] if self.script is not None else self.args[1] if len(self.args) > 1 else ""


def command(*args: Argument) -> Request:
    """A plain command; its second word is the key."""
    return Request(args)


class Script:
    """A Lua script with one key.  It is sent by hash and again in full where a server does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def __call__(self, key: Argument, *args: Argument) -> Request:
        return Request((key, *args), self)


class IRedis(Interface):
    """A Redis in one of the three modes.  Commands are pipelined as they come and end at their deadline at
    the latest."""

    ready: bool = Attribute("Whether commands are being answered.")
    error: RedisError | None = Attribute("Why not; None while ready.")
    times: Histogram = Attribute("How long servers took to answer.")
    name: str = Attribute("The configured addresses, for messages.")

    def start() -> None:
        """Begin to connect; goes on for ever, with back-off."""

    def stop() -> Deferred[None]:
        """Close all connections and fail what waits with ``RedisStoppedError``."""

    def execute(*args: Argument) -> Deferred[Reply]:
        """One command.  Fails with ``RedisError``."""

    def batch(requests: Sequence[Request]) -> Deferred[list[Reply]]:
        """Several at once; gives replies in their order, with a ``RedisError`` in the place of each that
        failed."""

    def subscribe(channel: str, received: Callable[[bytes], None], gap: Callable[[], None]) -> Callable[[], None]:
        """Listen to a channel on a connection of its own.  ``gap`` is called whenever listening (re)begins,
        since messages may have been missed.  Returns a function that ends this."""

    def watch(changed: Callable[[bool], None], disturbed: Callable[[], None]) -> None:
        """``changed`` is called with each change of ``ready``, ``disturbed`` whenever a server was replaced
        or restarted, so that what was written last may be gone."""

    def metrics() -> dict[str, float]:
        """Counters and gauges by name."""
