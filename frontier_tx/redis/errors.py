"""Errors of the Redis client; each text is one line that names the server, what is wrong and what to do."""

from __future__ import annotations

from frontier_tx.errors import FrontierError
from frontier_tx.redis.address import Address


class RedisError(FrontierError):
    """Anything that the Redis client reports.

    :param about: fills the places in the ``text`` of the class, the address of the server first.
    """

    text = "{}"

    def __init__(self, *about: Address | str | float) -> None:
        super().__init__(self.text.format(*about))


class RedisUnreachableError(RedisError):
    """No connection can be made."""

    text = "redis {} cannot be reached ({}): start it or correct its address"


class RedisTimeoutError(RedisError):
    """The server is there but does not answer."""

    text = "redis {} did not answer within {:g} s: i/o timeout"


class RedisLostError(RedisError):
    """The connection broke while commands were under way; whether they ran is not known."""

    text = "the connection to redis {} ended ({})"


class RedisStrangerError(RedisError):
    """The server hung up before it answered anything."""

    text = (
        "redis {} hung up before it answered ({}): see whether it is a Redis, "
        "and whether it wants TLS (redis.tls.enable)"
    )


class RedisAnswerError(RedisError):
    """The server answers, but not as a Redis does."""

    text = "redis {} answers {} as no Redis does: see what listens there"


class RedisTLSError(RedisError):
    """No TLS connection comes about."""

    text = "redis {}: TLS failed ({}): correct redis.tls, or the port in its address"


class RedisLoginError(RedisError):
    """User or password are wrong or missing."""

    text = "redis {} refused the login ({}): correct {}"


class RedisModeError(RedisError):
    """The server is of another kind than configured."""

    text = "redis {} is {}: {}"


class RedisReplicaError(RedisError):
    """The server is a replica, which takes no writes."""

    text = "redis {} is a replica of {}: give the address of the master"


class RedisMasterUnknownError(RedisError):
    """The sentinels do not know the master's name."""

    text = "the sentinels know no master named {!r}: correct redis.sentinel.master_name"


class RedisBusyError(RedisError):
    """Too many commands wait for a connection."""

    text = "{1} commands already wait for redis {0}, no more are taken"


class RedisStoppedError(RedisError):
    """The client was stopped."""

    text = "the connection to redis was shut down"


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
