"""The W3C trace context of a call or a message, at the head of ``custom`` where both ends agreed to it.

One byte says how long the ``traceparent`` is that follows, in ASCII; 0: there is none. An empty ``custom`` stands for
that too. Where the ends did not agree nothing is put before anything.
"""

import re

#: What an end declares in its handshake: the version of the above.
VERSION = 1
_WELL_FORMED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def put(traceparent: str, custom: bytes) -> bytes:
    """``custom`` with the context before it; an empty ``traceparent`` says that there is none."""
    return bytes((len(traceparent),)) + traceparent.encode("ascii") + custom


def take(custom: bytes) -> tuple[str, bytes]:
    """Return the ``traceparent``, empty where there is none or it is not well formed, and ``custom`` without it."""
    if not custom:
        return "", custom
    end = 1 + custom[0]
    text = custom[1:end].decode("ascii", "replace")
    return (text if _WELL_FORMED.fullmatch(text) else ""), custom[end:]


def checked(traceparent: str) -> str:
    """The same ``traceparent``, empty where it is not well formed."""
    return traceparent if _WELL_FORMED.fullmatch(traceparent) else ""
