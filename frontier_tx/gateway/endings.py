"""Why connections ended, as one of a few words for the metrics; the log has the whole sentence."""

from frontier_tx.errors import Replaced, ServiceOnline

#: Each word, with what it says of a connection.
MEANINGS = {
    "goodbye": "The peer said goodbye.",
    "closed": "The peer closed it without a goodbye.",
    "lost": "The network or the peer's host failed.",
    "heartbeat": "Nothing came from the peer for two of its heartbeats.",
    "handshake": "The peer did not introduce itself in time.",
    "refused": "The peer introduced itself and was not let in.",
    "silent": "The peer never said a word, as probes do.",
    "protocol": "The peer sent what this protocol does not allow, or speaks another one.",
    "tls": "TLS failed.",
    "stalled": "The peer stopped in the middle of a frame, or took nothing of what was sent to it.",
    "replaced": "Another peer came with the same id.",
    "renewed": "The edge was asked to come again for an id.",
    "unwelcome": "A service that was told of the edge did not want it.",
    "kicked": "An operator closed it.",
    "draining": "The gateway stops.",
    "memory": "Memory was short, and the rest of a frame took too long.",
    "error": "The gateway failed.",
}

_TEXTS = {
    "": "goodbye",
    "the peer closed the connection": "closed",
    "goodbye was not answered": "goodbye",
    "the gateway stops": "draining",
    "internal error": "error",
    "closed before the handshake was done": "handshake",
    "kicked, and it did not say goodbye": "kicked",
}
_BEGINNINGS = (
    ("the connection was lost", "lost"),
    ("timeout: no handshake", "handshake"),
    ("timeout: the gateway is short of memory", "memory"),
    ("timeout: ", "stalled"),
    ("TLS: ", "tls"),
    ("unsupported packet", "protocol"),
    ("illegal ", "protocol"),
    ("packet declared", "protocol"),
    ("it speaks ", "protocol"),
)
#: What this end was closing a connection for.
_ASKED = {"": "kicked", Replaced.text: "replaced", ServiceOnline.text: "renewed"}


def of_close(reason: str) -> str:
    """The word for a connection that the gateway closes in order, by the reason that the peer is told."""
    return _ASKED.get(reason, "unwelcome")


def of_end(reason: str) -> str:
    """The word for the reason that a connection ended with."""
    found = _TEXTS.get(reason)
    if found is not None:
        return found
    return next((word for beginning, word in _BEGINNINGS if reason.startswith(beginning)), "lost")
