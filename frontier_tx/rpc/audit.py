"""The audit log of a control port: who did what, from where, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor

from frontier_tx.rpc.context import CallContext
from frontier_tx.runtime.logfile import RotatingFile
from frontier_tx.runtime.lograte import LogRate
from frontier_tx.runtime.logs import Logger

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

    Lines of the log are limited as all its lines are, those of a file are not.

    :raises ConfigError: the file cannot be opened.
    """

    def __init__(self, path: str, now: Callable[[], float] = time.monotonic) -> None:
        self._file = RotatingFile(path, max_bytes=FILE_BYTES, max_backups=FILES) if path else None
        self._refusals = LogRate(REFUSALS, 60.0, now)

    def note(self, context: CallContext, request: Any, outcome: str, *, refused: bool = False) -> None:
        """A call has ended, or was refused. ``outcome`` is ``OK`` or the code and the text of the error."""
        if refused and not self._refusals.allows():
            return
        caller = context.caller
        who = caller.name if caller is not None else "unknown"
        what = f"{context.method.path} {target(request)}".strip()
        if self._file is None:
            log.info(
                "{who} from {peer} ({via}): {what}: {outcome}",
                who=who,
                peer=context.peer,
                via=context.via,
                what=what,
                outcome=outcome[:LONGEST],
            )
            return
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {
            "time": moment,
            "who": who,
            "shown_by": caller.shown_by if caller is not None else "",
            "from": context.peer,
            "via": context.via,
            "what": what,
            "outcome": outcome[:LONGEST],
        }
        self._file.write(msgspec.json.encode(line) + b"\n")


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
