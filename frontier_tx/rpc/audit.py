"""The audit log of a control port: who did what, from where, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from frontier_tx.rpc.context import CallContext, Caller
from frontier_tx.rpc.status import RpcError
from frontier_tx.runtime.logfile import RotatingFile
from frontier_tx.runtime.lograte import LogRate
from frontier_tx.runtime.logs import Logger, json_text
from frontier_tx.runtime.tls import from_start

FILE_BYTES = 100 * 1024 * 1024
"""Size at which a new file is begun."""
FILES = 10
"""Old files that are kept."""
LONGEST = 200
"""Characters of one value."""
REFUSALS = 20
"""Lines about calls that were refused for who made them, in a minute; anybody can cause them."""

log = Logger(namespace="frontier.audit")


class Audit:
    """Writes one line for each call that acts: to ``path`` as a JSON object, or to the log when that is empty.

    Lines of the log are limited as all its lines are, those of a file are not. ``key`` names the path in errors.

    :raises ConfigError: the file cannot be opened.
    """

    def __init__(self, path: str, key: str, now: Callable[[], float] = time.monotonic) -> None:
        file = str(from_start(path))
        self._file = RotatingFile(file, max_bytes=FILE_BYTES, max_backups=FILES, key=key) if path else None
        self._refusals = LogRate(REFUSALS, 60.0, now)

    def done(self, context: CallContext, caller: Caller, request: Any, error: BaseException | None) -> None:
        """A call has ended, well if there is no error."""
        outcome = "OK" if error is None else _shown(error)
        self._note(context, caller, f"{context.method.path} {target(request)}".strip(), outcome)

    def refused(self, context: CallContext, caller: Caller, error: RpcError) -> None:
        """A call was refused for who made it."""
        if (before := self._refusals.due()) is not None:
            self._note(context, caller, context.method.path, _shown(error) + before)

    def _note(self, context: CallContext, caller: Caller, what: str, outcome: str) -> None:
        if self._file is None:
            log.info(
                "{who} from {peer} ({via}): {what}: {outcome}",
                who=caller.name,
                peer=context.peer,
                via=context.via,
                what=what,
                outcome=outcome,
            )
            return
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "who": caller.name,
            "shown_by": caller.shown_by,
            "from": context.peer,
            "via": context.via,
            "what": what,
            "outcome": outcome,
        }
        self._file.write(json_text(line).encode() + b"\n")


def _shown(error: BaseException) -> str:
    if isinstance(error, RpcError):
        return f"{error.status.name}: {error.message[:LONGEST]}"
    return type(error).__name__


def target(request: Any) -> str:
    """The plain fields of a request that are set, as ``name=value``; payloads (bytes) are left out."""
    if request is None:
        return ""
    texts = []
    for field, value in request.ListFields():
        plain = field.message_type is None and not field.is_repeated and field.type != FieldDescriptor.TYPE_BYTES
        if plain:
            texts.append(f"{field.name}={str(value)[:LONGEST]}")
    return " ".join(texts)
