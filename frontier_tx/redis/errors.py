"""Errors of the Redis client; each text is one line that names the server, what is wrong and what to do."""

from __future__ import annotations

from frontier_tx.errors import FrontierError
from frontier_tx.redis.address import Address


class RedisError(FrontierError):
    """Anything that the Redis client reports."""


class RedisUnreachableError(RedisError):
    """No connection can be made."""

    def __init__(self, address: Address | str, cause: str) -> None:
        super().__init__(f"redis {address} cannot be reached ({cause}): start it or correct its address")


class RedisTimeoutError(RedisError):
    """The server is there but does not answer."""

    def __init__(self, address: Address | str, seconds: float) -> None:
        super().__init__(f"redis {address} did not answer within {seconds:g} s: i/o timeout")


class RedisLostError(RedisError):
    """The connection broke while commands were under way; whether they ran is not known."""

    def __init__(self, address: Address | str, cause: str) -> None:
        super().__init__(f"the connection to redis {address} ended ({cause})")


class RedisStrangerError(RedisError):
    """The server hung up before it answered anything."""

    def __init__(self, address: Address | str, cause: str) -> None:
        super().__init__(
            f"redis {address} hung up before it answered ({cause}): see whether it is a Redis, and whether it wants "
            "TLS (redis.tls.enable)"
        )


class RedisAnswerError(RedisError):
    """The server answers, but not as a Redis does."""

    def __init__(self, address: Address | str, command: str) -> None:
        super().__init__(f"redis {address} answers {command} as no Redis does: see what listens there")


class RedisTLSError(RedisError):
    """No TLS connection comes about."""

    def __init__(self, address: Address | str, cause: str) -> None:
        super().__init__(f"redis {address}: TLS failed ({cause}): correct redis.tls, or the port in its address")


class RedisLoginError(RedisError):
    """User or password are wrong or missing."""

    def __init__(self, address: Address | str, answer: str, keys: str = "redis.username and redis.password") -> None:
        super().__init__(f"redis {address} refused the login ({answer}): correct {keys}")


class RedisModeError(RedisError):
    """The server is of another kind than configured."""

    def __init__(self, address: Address | str, found: str, wanted: str) -> None:
        super().__init__(f"redis {address} is {found}: {wanted}")


class RedisReplicaError(RedisError):
    """The server is a replica, which takes no writes."""

    def __init__(self, address: Address | str, master: str) -> None:
        super().__init__(f"redis {address} is a replica of {master}: give the address of the master")


class RedisMasterUnknownError(RedisError):
    """The sentinels do not know the master's name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the sentinels know no master named {name!r}: correct redis.sentinel.master_name")


class RedisBusyError(RedisError):
    """Too many commands wait for a connection."""

    def __init__(self, address: Address | str, waiting: int) -> None:
        super().__init__(f"{waiting} commands already wait for redis {address}, no more are taken")


class RedisStoppedError(RedisError):
    """The client was stopped."""

    def __init__(self) -> None:
        super().__init__("the connection to redis was shut down")


#: What to do, where the server's own words do not say it.
CURES = {
    "OOM": "give it more memory (maxmemory) or take out what is not ours",
    "MISCONF": "its disk is full or may not be written to; its log says more",
    "NOPERM": "allow this user all commands on keys and channels frontlas:*",
    "NOREPLICAS": "bring its replicas back, or lower min-replicas-to-write",
}


class RedisReplyError(RedisError):
    """The server answered a command with an error; ``code`` is its first word."""

    def __init__(self, address: Address | str, text: str) -> None:
        self.code = text.split(" ", 1)[0]
        # Where in which script it happened says nothing to whoever runs the server.
        said, cure = text.partition(" script: ")[0], CURES.get(self.code)
        if cure is not None:
            said = f"{said.rstrip('.')}: {cure}"
        super().__init__(f"redis {address}: {said}")
