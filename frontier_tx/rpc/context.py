"""One call as its handler sees it: by whom, from where, until when.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from twisted.internet.defer import Deferred, succeed

from frontier_tx.rpc.contract import MethodSpec

Role = Literal["open", "read", "act", "call"]
"""What a method asks of its caller; ``open`` methods take everybody."""
EVERY_ROLE: frozenset[Role] = frozenset(("open", "read", "act", "call"))

AUDITED: frozenset[Role | None] = frozenset(("act", "call"))
"""Roles whose calls are written to the audit log."""

Turn = Callable[[], "Deferred[None]"]
"""Waits for the next turn of the connection that asked."""


def at_once() -> Deferred[None]:
    """The turn of a connection that shares its time with no other."""
    return succeed(None)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the name in the configuration, how it was shown (``token``, ``certificate``, ``anonymous``), and what
    the caller may do."""

    name: str
    shown_by: str
    roles: frozenset[Role]


ANYBODY = Caller("anonymous", "anonymous", EVERY_ROLE)
"""The caller where access is not controlled."""
STRANGER = Caller("a stranger", "", frozenset())
"""The caller with an unknown token."""


@dataclass(slots=True)
class CallContext:
    """What a handler may want to know about a call besides its request.

    ``metadata`` are the request headers, names in lower case; ``peer`` is ``host:port`` of the caller; ``via`` is
    ``grpc`` or ``rest``; ``deadline`` is in seconds of the reactor's clock, None without one. ``names`` are those in
    the caller's certificate, if it was asked for one. ``caller`` is set before the handler is called. A handler that
    has much to do does a few milliseconds of it, awaits ``turn()``, and goes on.
    """

    method: MethodSpec
    metadata: Mapping[str, str]
    peer: str
    via: str
    deadline: float | None = None
    turn: Turn = at_once
    names: tuple[str, ...] = field(default=(), kw_only=True)
    caller: Caller | None = field(default=None, kw_only=True)
