"""NATS and JetStream, with nats-py.

A plain server confirms nothing by itself. But it answers a PING behind a batch only when it has taken that batch, and
so its messages count as confirmed then. JetStream confirms each message when its stream has it. What is sent again
after a lost connection carries the same ``Nats-Msg-Id``, by which a stream drops what it has already.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from frontier_tx.config.queues import Nats
from frontier_tx.queues.asyncio_broker import AsyncioBroker, Session, ssl_context
from frontier_tx.queues.bridge import Results
from frontier_tx.queues.headers import headers_of
from frontier_tx.queues.interfaces import Surroundings, Unusable
from frontier_tx.queues.record import Record
from frontier_tx.runtime.loss_text import one_line
from frontier_tx.runtime.tls import from_start

CONNECT_SECONDS = 5
CLOSE_SECONDS = 1.0
#: Seconds that the server may take to answer the PING behind a batch.
CONFIRM_SECONDS = 10.0
#: Bytes of a subject: the server ends a connection for a line beyond its max_control_line, 4096 where it is not set.
MOST_SUBJECT_BYTES = 1024
#: Bytes of headers that a message may have beside its value, within the server's bound.
HEADER_ROOM = 1024
#: Status of an answer where nobody listens.
NO_RESPONDERS = "503"

_run = secrets.token_hex(8)
_numbers = itertools.count(1)


def topics(section: Nats) -> tuple[str, ...]:
    """The subjects that go to this queue."""
    return (section.jetstream.producer if section.jetstream.enable else section.producer).subjects


def make(section: Nats, surroundings: Surroundings) -> AsyncioBroker:
    """Make the broker of a section."""
    where = ", ".join(address.rpartition("@")[2] for address in section.addrs)
    kind: type[_Plain] = _JetStream if section.jetstream.enable else _Plain
    return AsyncioBroker(where, surroundings.bridge, lambda lost: kind(lost, section, surroundings))


class _Client(Client):
    """Refuses a server without TLS where TLS is wanted, before it logs in: the library would go on in the clear."""

    def _connect_command(self) -> bytes:
        server = self._current_server
        wanted = "tls" in self.options or (server is not None and server.uri.scheme == "tls")
        if wanted and not self._server_info.get("tls_required"):
            raise NatsError("the server offers no TLS, and mqm.nats wants it (tls.enable, or an address with tls://)")
        return super()._connect_command()


class _Plain(Session):
    """A connection to a server without a stream."""

    def __init__(self, lost: Callable[[str], None], section: Nats, surroundings: Surroundings) -> None:
        super().__init__(lost)
        self._section = section
        self._surroundings = surroundings
        self._client = _Client()
        self._told = False
        #: Errors that the server told of on its own account, since the last batch.
        self._complaints: list[str] = []

    async def open(self) -> None:
        section = self._section
        servers = [each if "://" in each else f"nats://{each}" for each in section.addrs]
        options: dict[str, Any] = {}
        if section.tls.enable:
            options["tls"] = ssl_context(section.tls)
            options["tls_hostname"] = section.tls.server_name or None
        if section.credentials:
            options["user_credentials"] = str(from_start(section.credentials))
        if section.token:
            options["token"] = section.token
        try:
            await self._client.connect(
                servers,
                name=f"frontier {self._surroundings.gateway}".strip(),
                connect_timeout=CONNECT_SECONDS,
                # The forwarder connects anew: it knows what was not confirmed.
                allow_reconnect=False,
                max_reconnect_attempts=1,
                closed_cb=self._closed,
                disconnected_cb=self._closed,
                error_cb=self._complained,
                **options,
            )
        except TimeoutError as error:
            raise Unusable(f"no answer within {CONNECT_SECONDS} s: is it NATS?") from error
        except NatsError as error:
            raise Unusable(self._complaints[-1] if self._complaints else str(error) or "no answer") from error

    async def _closed(self) -> None:
        if not self._told:
            self._told = True
            self.lost(self._complaints[-1] if self._complaints else "the server closed the connection")

    async def _complained(self, error: Exception) -> None:
        self._complaints.append(one_line(error))

    async def deliver(self, records: Sequence[Record], results: Results) -> Coroutine[Any, Any, None] | None:
        sent = []
        for record in records:
            why = self._unfit(record)
            if why:
                results.put(record, why)
                continue
            await self._client.publish(record.topic, record.value, headers=self._headers(record))
            sent.append(record)
        return self._confirm(sent, results)

    def _unfit(self, record: Record) -> str:
        if not _is_subject(record.topic):
            return f"{record.topic[:80]!r} is no subject that can be published to"
        room = self._client.max_payload - (HEADER_ROOM if self._surroundings.headers else 0)
        if len(record.value) > room:
            return f"{len(record.value)} bytes are too many for the server, which takes {room}"
        return ""

    def _headers(self, record: Record) -> dict[str, str] | None:
        if not self._surroundings.headers or not self._client._server_info.get("headers"):
            return None
        return headers_of(record, self._surroundings.gateway)

    async def _confirm(self, sent: Sequence[Record], results: Results) -> None:
        await self._client.flush(int(CONFIRM_SECONDS))
        # The server's errors come before its PONG, in the order of what caused them.
        complaints, self._complaints = self._complaints, []
        for record in sent:
            about = f'"{record.topic}"'.lower()
            results.put(record, next((each for each in complaints if about in each.lower()), ""))

    async def close(self) -> None:
        self._told = True
        if self._client.is_connected or self._client.is_connecting:
            # Where TLS failed the library waits for ever.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._client.close()


class _JetStream(_Plain):
    """A connection whose messages a stream takes."""

    def __init__(self, lost: Callable[[str], None], section: Nats, surroundings: Surroundings) -> None:
        super().__init__(lost, section, surroundings)
        #: Where the stream answers: below this, each record by a number.
        self._inbox = ""
        self._awaited: dict[str, tuple[Record, Results]] = {}

    async def open(self) -> None:
        await super().open()
        await self._use_stream(self._client.jetstream(timeout=CONNECT_SECONDS))
        self._inbox = f"{self._client.new_inbox()}."
        await self._client.subscribe(f"{self._inbox}*", cb=self._answered)

    async def _use_stream(self, context: JetStreamContext) -> None:
        name, subjects = self._section.jetstream.name, list(topics(self._section))
        try:
            try:
                found = await context.stream_info(name)
            except NotFoundError:
                if subjects:
                    await context.add_stream(StreamConfig(name=name, subjects=subjects))
                return
        except (NatsError, APIError) as error:
            raise Unusable(f"JetStream: the stream {name} cannot be used: {error}") from error
        missing = [each for each in subjects if not any(_covers(has, each) for has in found.config.subjects or ())]
        if missing:
            raise Unusable(
                f"JetStream: the stream {name} takes {', '.join(found.config.subjects or ()) or 'nothing'}, and not "
                f"{', '.join(missing)}: add that to its subjects, or name another stream in mqm.nats.jetstream.name"
            )

    async def deliver(self, records: Sequence[Record], results: Results) -> Coroutine[Any, Any, None] | None:
        for record in records:
            why = self._unfit(record)
            if why:
                results.put(record, why)
                continue
            number = str(next(_numbers))
            if not record.key:
                record.key = f"{_run}-{number}"
            headers = self._headers(record) or {}
            headers["Nats-Msg-Id"] = record.key
            headers["Nats-Expected-Stream"] = self._section.jetstream.name
            self._awaited[number] = record, results
            await self._client.publish(record.topic, record.value, self._inbox + number, headers)
        return None

    async def _answered(self, message: Msg) -> None:
        # The forwarder ends the connection where an answer does not come.
        record, results = self._awaited.pop(message.subject[len(self._inbox) :], (None, None))
        if record is None or results is None:
            return
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            results.put(record, f"no stream takes the subject {record.topic[:80]}")
        elif b'"error":' in message.data:
            results.put(record, f"the stream refused it: {_description(message.data)}")
        elif b'"stream"' in message.data:
            results.put(record)


def _description(answer: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(answer)["error"]["description"])
    return answer[:200].decode("utf-8", "replace")


def _is_subject(topic: str) -> bool:
    if len(topic) > MOST_SUBJECT_BYTES or len(topic.encode()) > MOST_SUBJECT_BYTES:
        return False
    return bool(topic) and all(topic.split(".")) and not any(c in topic for c in "*> \t\r\n\0")


def _covers(pattern: str, subject: str) -> bool:
    """Whether a subject of a stream, which may have wildcards, takes this one."""
    has, wanted = pattern.split("."), subject.split(".")
    for index, word in enumerate(has):
        if word == ">":
            return len(wanted) > index
        if index >= len(wanted) or word not in ("*", wanted[index]):
            return False
    return len(has) == len(wanted)
