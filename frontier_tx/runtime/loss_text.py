"""Why a connection ended, in words for its user and for the log."""

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure


def loss_text(reason: Failure) -> str:
    """One line for what ``connectionLost`` is told."""
    error = reason.value
    if isinstance(error, ConnectionDone):
        return "the peer closed the connection"
    if type(error) is ConnectionLost:
        cause = str(error.args[0]) if error.args else ""
        return f"the connection was lost{f': {cause}' if cause else ''}"
    # Neither library is needed where there is no TLS, so their errors are known by their shapes.
    mismatches = getattr(error, "errors", None)
    if mismatches and type(error).__name__ == "VerificationError":
        return f"TLS: the certificate is not for {_wanted(mismatches[0])}"
    if error is not None and type(error).__module__ == "OpenSSL.SSL":
        return f"TLS: {openssl_text(error)}"
    return reason.getErrorMessage()


def openssl_text(error: BaseException) -> str:
    """The last and most telling reason that OpenSSL gives."""
    reasons = error.args[0] if error.args else ()
    if isinstance(reasons, list) and reasons and isinstance(reasons[-1], tuple):
        return str(reasons[-1][-1])
    return one_line(error)


def one_line(error: BaseException | None) -> str:
    """What an error says, in one line; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def _wanted(mismatch: object) -> str:
    wanted = getattr(mismatch, "mismatched_id", None)
    name = getattr(wanted, "hostname", None) or getattr(wanted, "ip", None)
    return name.decode("ascii", "replace") if isinstance(name, bytes) else str(name or "this host")
