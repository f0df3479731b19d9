"""Which texts of errors travel: what a handler failed with is not always meant for the caller."""

from secrets import randbelow

from frontier_tx.errors import NO_SUCH_RPC, FrontierError

#: Characters of an error that a handler may send, and bytes of a method's name that a refusal repeats.
LONGEST_TEXT = 65_536
LONGEST_NAME = 1024


def no_such_rpc(method: bytes) -> str:
    """Return what the caller of a method reads that nobody answers; the name is cut, and made readable."""
    cut = "..." if len(method) > LONGEST_NAME else ""
    return NO_SUCH_RPC + method[:LONGEST_NAME].decode("utf-8", "replace") + cut


def fitting(text: str) -> str:
    """Return an error's text as it can travel: not too long, and nothing in it that no end can read."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def spoken_text(error: BaseException) -> str:
    """Return what an error that is meant for the peer says; empty where it is not meant for him.

    Meant for him are the errors of this distribution, one that a handler got from a call of its own included, but for
    those that tell of addresses.
    """
    if isinstance(error, FrontierError) and not error.private:
        return fitting(str(error) or type(error).__name__)
    return ""


def reference() -> str:
    """Make a number under which the log has what a caller does not get to read."""
    return f"{randbelow(10**10):010}"
