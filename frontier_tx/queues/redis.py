"""Redis: PUBLISH, or streams with a bound on their length. Stands on the connection of the registry's client."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.config.common import TLS
from frontier_tx.config.queues import RedisQueue
from frontier_tx.queues.build import Surroundings
from frontier_tx.queues.headers import PREFIX, headers_of
from frontier_tx.queues.interfaces import IBroker
from frontier_tx.queues.record import Record
from frontlas_tx.redis.connection import Connection, Login, open_connection, reply_error
from frontlas_tx.redis.settings import Address, RedisSettings, RedisTLS

CONNECT_SECONDS = 5.0
#: Errors that pass: Redis starts, its master is away, a script runs. The message is sent again.
PASSING = ("LOADING", "MASTERDOWN", "BUSY", "READONLY", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED")


def topics(section: RedisQueue) -> tuple[str, ...]:
    """The channels, or streams, that go to this queue."""
    return section.producer.channels


def make(section: RedisQueue, surroundings: Surroundings) -> "RedisBroker":
    """The way to the server of a section; the first address counts."""
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

    def connect(self, lost: Callable[[str], None]) -> "Deferred[None]":
        """See ``IBroker``."""
        section = self._section
        settings = RedisSettings(dial_timeout=CONNECT_SECONDS, tls=_tls(section.tls))
        login = Login(section.username, section.password, section.db, library="frontier", keys="mqm.redis.password")

        def opened(connection: Connection) -> None:
            self.disconnect()
            self._connection, self._lost = connection, lost
            connection.on_lost(lambda: self._ended(connection, connection.cause))

        attempt = open_connection(self._surroundings.reactor, self._address, settings, login)
        return attempt.addCallback(opened)

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
        command = self._add if self._section.stream.enable else self._publish
        for record in records:
            sent = connection.send(*command(record))
            sent.addCallbacks(
                partial(self._confirmed, record, confirmed), partial(self._refused, record, failed, connection)
            )

    def _publish(self, record: Record) -> tuple[str | int | bytes, ...]:
        return "PUBLISH", record.topic, record.value

    def _add(self, record: Record) -> tuple[str | int | bytes, ...]:
        stream = self._section.stream
        bound: tuple[str | int, ...] = ("MAXLEN", "~", stream.maxlen) if stream.maxlen else ()
        fields: list[str | bytes] = [stream.field, record.value]
        if self._surroundings.headers:
            for name, text in headers_of(record, self._surroundings.gateway).items():
                fields += [name.removeprefix(PREFIX), text]
        return "XADD", record.topic, *bound, "*", *fields

    def _confirmed(self, record: Record, confirmed: Callable[[Record], None], reply: Any) -> None:
        confirmed(record)

    def _refused(
        self, record: Record, failed: Callable[[Record, str], None], connection: Connection, failure: Failure
    ) -> None:
        why = reply_error(failure)
        if why is None:
            # The connection is lost, and the record is sent again.
            return
        if why.split(" ", 1)[0] in PASSING:
            self._ended(connection, why)
        else:
            failed(record, why)


def _tls(section: TLS) -> RedisTLS:
    own = section.certs[0] if section.mtls and section.certs else None
    return RedisTLS(
        enable=section.enable,
        ca_certs=section.ca_certs,
        cert=own.cert if own else "",
        key=own.key if own else "",
        server_name=section.server_name,
        insecure_skip_verify=section.insecure_skip_verify,
    )
