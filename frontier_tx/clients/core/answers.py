"""Which texts of errors travel: callers may not read everything that a handler raises."""

from secrets import randbelow

from frontier_tx.errors import NO_SUCH_RPC, FrontierError

#: Characters of an error that a handler may send, and bytes of a method's name that a refusal repeats.
LONGEST_TEXT = 65_536
LONGEST_NAME = 1024


def no_such_rpc(method: bytes) -> str:
    """Return the error text for a call of an unknown method; a long name is cut, bad UTF-8 replaced."""
    cut = "..." if len(method) > LONGEST_NAME else ""
    return NO_SUCH_RPC + method[:LONGEST_NAME].decode("utf-8", "replace") + cut


def fitting(text: str) -> str:
    """Return an error's text as it can travel: cut to ``LONGEST_TEXT``, without characters that cannot be encoded."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def spoken_text(error: BaseException) -> str:
    """Return the text of an error that the peer may read; empty where it may not.

    It may read the errors of this distribution, also those that a handler got from its own calls, but not the private
    ones, which tell of addresses.
    """
    if isinstance(error, FrontierError) and not error.private:
        return fitting(str(error) or type(error).__name__)
    return ""


def reference() -> str:
    """Make the number under which the log has an error that the caller may not read."""
    return f"{randbelow(10**10):010}"
