"""Redis: PUBLISH, or streams with a bound on their length. Stands on the connection of the registry's client."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.config.queues import RedisQueue
from frontier_tx.config.redis import Redis
from frontier_tx.queues.headers import PREFIX, REMEMBERED, TIME, lasting_headers
from frontier_tx.queues.interfaces import IBroker, Surroundings, Unusable
from frontier_tx.queues.record import Record
from frontier_tx.queues.resp import Replies, command
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Login, open_connection
from frontier_tx.redis.errors import RedisError

CONNECT_SECONDS = 5.0
#: Errors that pass: Redis starts, its master is away, a script runs. The message is sent again.
PASSING = ("LOADING", "MASTERDOWN", "BUSY", "READONLY", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED")

_TIME = TIME.removeprefix(PREFIX).encode()


def topics(section: RedisQueue) -> tuple[str, ...]:
    """The channels, or streams, that go to this queue."""
    return section.producer.channels


def make(section: RedisQueue, surroundings: Surroundings) -> "RedisBroker":
    """Make the broker of a section; the first address counts."""
    return RedisBroker(section, surroundings)


@implementer(IBroker)
class RedisBroker:
    """One connection, whose commands are pipelined."""

    def __init__(self, section: RedisQueue, surroundings: Surroundings) -> None:
        self._section = section
        self._surroundings = surroundings
        self._address = Address.parse(section.addrs[0])
        self.where = str(self._address)
        self._connection: Connection | None = None
        self._lost: Callable[[str], None] = lambda reason: None
        self._replies = Replies()
        #: What the server has not answered, in the order of sending, and whom to tell.
        self._sent: deque[Record] = deque()
        self._confirmed: Callable[[Record], None] = lambda record: None
        self._failed: Callable[[Record, str], None] = lambda record, error: None

    def connect(self, lost: Callable[[str], None]) -> "Deferred[None]":
        """See ``IBroker``."""
        section = self._section
        tls = section.tls if section.tls.mtls else replace(section.tls, certs=())
        settings = Redis(dial_timeout=CONNECT_SECONDS, tls=tls)
        login = Login(section.username, section.password, section.db, library="frontier", keys="mqm.redis.password")

        def opened(connection: Connection) -> None:
            self.disconnect()
            self._connection, self._lost = connection, lost
            self._replies, self._sent = Replies(), deque()
            connection.take_over(lambda data: self._received(connection, data))
            connection.on_lost(lambda: self._ended(connection, connection.cause))

        attempt = open_connection(self._surroundings.reactor, self._address, settings, login)
        return attempt.addCallbacks(opened, _in_words_of_mqm)

    def _ended(self, connection: Connection, reason: str) -> None:
        if connection is self._connection:
            self._connection = None
            connection.abort()
            self._lost(reason)

    def disconnect(self) -> None:
        """See ``IBroker``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def send(
        self, records: Sequence[Record], confirmed: Callable[[Record], None], failed: Callable[[Record, str], None]
    ) -> None:
        """See ``IBroker``."""
        connection = self._connection
        assert connection is not None
        self._confirmed, self._failed = confirmed, failed
        self._sent.extend(records)
        build = self._add if self._section.stream.enable else self._publish
        connection.write(b"".join([build(record) for record in records]))

    def _publish(self, record: Record) -> bytes:
        return command(b"PUBLISH", record.topic.encode(), record.value)

    def _add(self, record: Record) -> bytes:
        stream = self._section.stream
        words = [b"XADD", record.topic.encode()]
        if stream.maxlen:
            words += (b"MAXLEN", b"~", b"%d" % stream.maxlen)
        words += (b"*", stream.field.encode(), record.value)
        if self._surroundings.headers:
            words += (_TIME, b"%d" % int(record.when * 1000))
            words += _fields(lasting_headers(record, self._surroundings.gateway))
        return command(*words)

    def _received(self, connection: Connection, data: bytes) -> None:
        if connection is not self._connection:
            return
        try:
            replies = self._replies.feed(data)
        except ValueError as error:
            self._ended(connection, str(error))
            return
        for why in replies:
            if not self._sent:
                self._ended(connection, "the server answers more than it was asked")
                return
            record = self._sent.popleft()
            if why is None:
                self._confirmed(record)
            elif why.split(" ", 1)[0] in PASSING:
                self._ended(connection, why)
                return
            else:
                self._failed(record, why)


def _in_words_of_mqm(failure: Failure) -> None:
    """The registry's connection names the keys of its own section in errors."""
    error = failure.value
    if not isinstance(error, RedisError):
        failure.raiseException()
    raise Unusable(re.sub(r"\bredis\.tls", "mqm.redis.tls", str(error))) from error


@lru_cache(REMEMBERED)
def _fields(headers: tuple[tuple[str, str], ...]) -> tuple[bytes, ...]:
    return tuple(part for name, text in headers for part in (name.removeprefix(PREFIX).encode(), text.encode()))
