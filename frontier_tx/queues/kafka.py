"""Kafka, with aiokafka: one producer per connection; what goes to which partition when is in ``kafka_lanes``."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from frontier_tx.config.address import join_host_port, split_host_port
from frontier_tx.config.queues import Kafka
from frontier_tx.queues.asyncio_broker import AsyncioBroker, Session, ssl_context
from frontier_tx.queues.bridge import Results
from frontier_tx.queues.interfaces import Surroundings, Unusable
from frontier_tx.queues.kafka_lanes import Lanes
from frontier_tx.queues.record import Record
from frontier_tx.runtime.loss_text import one_line

PORT = 9092
CONNECT_SECONDS = 4.0
CLOSE_SECONDS = 2.0
#: How often a connection over which nothing is published is tried.
WATCH_SECONDS = 2.0

# What goes wrong is told by the forwarder, once; without a handler Python prints the library's warnings.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def topics(section: Kafka) -> tuple[str, ...]:
    """The topics that go to this queue."""
    return section.producer.topics


def make(section: Kafka, surroundings: Surroundings) -> AsyncioBroker:
    """Make the broker of a section."""
    return AsyncioBroker(
        ", ".join(section.addrs), surroundings.bridge, lambda lost: _Session(lost, section, surroundings)
    )


class _Session(Session):
    """One producer."""

    _producer: Any = None
    _watcher: asyncio.Task[None] | None = None

    def __init__(self, lost: Callable[[str], None], section: Kafka, surroundings: Surroundings) -> None:
        super().__init__(lost)
        self._section = section
        self._surroundings = surroundings
        self._lanes = Lanes(section, surroundings, lost)

    # -- connecting ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        security = self._security()
        reachable = await self._try_addresses(security)
        settings = self._section.producer
        compression = None if settings.compression == "none" or self._lanes.level is not None else settings.compression
        producer = self._producer = AIOKafkaProducer(
            bootstrap_servers=reachable,
            client_id=f"frontier-{self._surroundings.gateway}".strip("-"),
            # The broker drops repetitions only for a producer that waits for all replicas.
            acks=-1 if settings.idempotent else settings.required_acks,
            enable_idempotence=settings.idempotent,
            request_timeout_ms=max(1, int(settings.timeout * 1000)),
            retry_backoff_ms=max(1, int(settings.retry.backoff * 1000)),
            compression_type=compression,
            max_batch_size=self._lanes.batch_bytes,
            connections_max_idle_ms=None,
            **security,
        )
        if not settings.idempotent:
            # The library repeats a batch until it is this old. The lanes repeat it as `retry` says.
            producer._message_accumulator._batch_ttl = 0.0
        try:
            await producer.start()
            self._lanes.producer = producer
            if not await self._lanes.learn():
                named = ", ".join(f"{each.host}:{each.port}" for each in producer.client.cluster.brokers())
                raise Unusable(
                    f"none of the brokers can be reached at the addresses that they give: {named or 'none'} "
                    "(advertised.listeners)"
                )
        except kafka_errors.KafkaError as error:
            raise Unusable(one_line(error)) from error
        self._watcher = asyncio.ensure_future(self._watch())

    def _security(self) -> dict[str, Any]:
        tls, sasl = self._section.tls, self._section.sasl
        security: dict[str, Any] = {"security_protocol": "SSL" if tls.enable else "PLAINTEXT"}
        if tls.enable:
            security["ssl_context"] = ssl_context(tls)
        if sasl.mechanism:
            security["security_protocol"] = "SASL_SSL" if tls.enable else "SASL_PLAINTEXT"
            security["sasl_mechanism"] = sasl.mechanism
            security["sasl_plain_username"] = sasl.username
            security["sasl_plain_password"] = sasl.password
        return security

    async def _try_addresses(self, security: dict[str, Any]) -> list[str]:
        """The addresses, one that answers first. The library would not say why none does."""
        addresses = [_split(each) for each in self._section.addrs]
        errors = []
        for host, port in addresses:
            try:
                connection = await create_conn(host, port, request_timeout_ms=int(CONNECT_SECONDS * 1000), **security)
                try:
                    # A broker that wants a login closes the connection here.
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
            except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
                missing = " and ".join(
                    name
                    for name, given in (("tls", self._section.tls.enable), ("sasl", self._section.sasl.mechanism))
                    if not given
                )
                asked = isinstance(error, kafka_errors.KafkaConnectionError) and missing
                hint = f"; {missing} of mqm.kafka not set, does the broker want it?" if asked else ""
                if isinstance(error, ConnectionError) and self._section.tls.enable:
                    hint = "; does this listener of the broker speak TLS, as mqm.kafka.tls says?"
                errors.append(f"{one_line(error)} ({join_host_port(host, port)}){hint}")
                continue
            addresses.sort(key=lambda each: each != (host, port))
            return [join_host_port(*each) for each in addresses]
        raise Unusable("; ".join(errors))

    async def _watch(self) -> None:
        """Notice that the brokers are away while nothing is published."""
        client = self._producer.client
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not self._lanes.busy and not await client.force_metadata_update():
                self._lanes.end("the connection was lost")

    async def close(self) -> None:
        self._lanes.stop()
        if self._watcher is not None:
            self._watcher.cancel()
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # The library's stop() would send what waits, which the next connection sends too.
        producer._closed = True
        sending = producer._sender.sender_task
        if sending is not None:
            sending.cancel()
        closing = asyncio.ensure_future(producer.client.close())
        await asyncio.wait({closing, sending} if sending is not None else {closing}, timeout=CLOSE_SECONDS)

    async def deliver(self, records: Sequence[Record], results: Results) -> Coroutine[Any, Any, None] | None:
        self._lanes.deliver(records, results)
        return None


def _split(address: str) -> tuple[str, int]:
    return split_host_port(address) if address.rpartition(":")[2].isdigit() else (address.strip("[]"), PORT)
