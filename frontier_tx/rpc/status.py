"""gRPC status codes, the error that carries one, and the HTTP status that stands for each."""

from __future__ import annotations

from enum import IntEnum

from frontier_tx.errors import FrontierError


class Status(IntEnum):
    """The sixteen codes of gRPC and OK."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: dict[Status, int] = {
    Status.OK: 200,
    Status.CANCELLED: 499,
    Status.UNKNOWN: 500,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 400,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.INTERNAL: 500,
    Status.UNAVAILABLE: 503,
    Status.DATA_LOSS: 500,
    Status.UNAUTHENTICATED: 401,
}
"""The HTTP status of a REST answer to a call that failed with this code."""

_OF_HTTP = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}


def status_of_http(http_status: int) -> Status:
    """What a gRPC client makes of an answer that has an HTTP status but no gRPC status."""
    return _OF_HTTP.get(http_status, Status.UNKNOWN)


def status_of_number(number: str) -> Status:
    """The code in a ``grpc-status`` trailer; UNKNOWN for what is none."""
    try:
        return Status(int(number))
    except ValueError:
        return Status.UNKNOWN


class RpcError(FrontierError):
    """A call that failed: raised by handlers to answer with this status, and by the client for what was answered.

    ``message`` is one line for the caller; ``reason`` a word in capitals for programs, shown over REST (by default the
    name of the code), with the status ``http_status`` (by default the usual one of the code).
    """

    def __init__(self, status: Status, message: str, reason: str | None = None, http_status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = status.name if reason is None else reason
        self.http_status = HTTP_STATUS[status] if http_status is None else http_status

    def __repr__(self) -> str:
        return f"RpcError({self.status.name}, {self.message!r})"
