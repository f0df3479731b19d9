"""Edges and services as the tests see them, whoever plays them.

A driver takes an operation with its fields and gives a dictionary; with `go_driver` a Go program does it.
The operations and their fields are those of `goends/main.go`.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

#: How long one operation may take where a test does not say otherwise, seconds.
PATIENCE = 10.0


class EndError(Exception):
    """An operation failed; the text is the one that a program on that end would see."""


class Driver(Protocol):
    """Plays ends. `submit` raises nothing; its future gives the reply or an EndError."""

    def submit(self, op: str, **fields: object) -> Future[dict[str, Any]]: ...


@contextlib.contextmanager
def fails(*texts: str) -> Iterator[None]:
    """The operation inside must fail with exactly one of these texts."""
    with pytest.raises(EndError) as caught:
        yield
    assert str(caught.value) in texts


def encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def decoded(reply: Mapping[str, Any], key: str) -> bytes:
    return base64.b64decode(reply.get(key) or "")


@dataclass(frozen=True)
class Seen:
    """One run of a handler; `deadline` in seconds from its start, None where it had none."""

    data: bytes
    custom: bytes
    edge_id: int
    deadline: float | None
    ended: str


@dataclass(frozen=True)
class Received:
    """A message that waits for its acknowledgement."""

    driver: Driver
    name: str
    data: bytes
    topic: str
    custom: bytes
    edge_id: int

    def done(self) -> None:
        self.driver.submit("ack", name=self.name).result(PATIENCE)

    def refuse(self, text: str) -> None:
        self.driver.submit("ack", name=self.name, error=text).result(PATIENCE)


_names = (f"n{number}" for number in itertools.count())


class Speaker:
    """What ends and streams have in common: calls and messages."""

    def __init__(self, driver: Driver, name: str) -> None:
        self.driver = driver
        self.name = name

    def _do(self, op: str, patience: float = PATIENCE, **fields: object) -> dict[str, Any]:
        return self.driver.submit(op, name=self.name, **fields).result(patience)

    def register(self, method: str, **behaviour: object) -> None:
        """Behaviours: echo=True, data=bytes, error=text, panic=text, sleep_ms=int, until_done=True."""
        data = behaviour.pop("data", None)
        assert data is None or isinstance(data, bytes)
        self._do("register", method=method, behaviour={**behaviour, "data": encoded(data)})

    def seen(self, method: str, count: int = 1, ended: bool = False, wait: float = 5) -> list[Seen]:
        """The handler's runs once there are `count`; with `ended` only those whose context ended."""
        reply = self._do(
            "seen",
            method=method,
            count=count,
            wait_ms=round(wait * 1000),
            error="x" if ended else "",
            patience=wait + 5,
        )
        return [
            Seen(
                decoded(run, "data"),
                decoded(run, "custom"),
                run["edge_id"],
                run["deadline_ms"] / 1000 if run["deadline_ms"] else None,
                run["ended"],
            )
            for run in reply["runs"] or []
        ]

    def start_call(
        self, method: str, data: bytes = b"", *, custom: bytes | None = None, **options: object
    ) -> Future[dict[str, Any]]:
        """Options: edge_id, timeout_ms, deadline_ms, cancel_ms, is_async."""
        return self.driver.submit(
            "call", name=self.name, method=method, data=encoded(data), custom=encoded(custom), **options
        )

    def call(self, method: str, data: bytes = b"", *, patience: float = PATIENCE, **options: Any) -> bytes:
        return decoded(self.start_call(method, data, **options).result(patience), "data")

    def call_many(self, method: str, count: int, *, patience: float = PATIENCE, **options: object) -> float:
        """`width` of `count` calls under way, each answer compared; seconds that the slowest took."""
        calling = self.start_call_many(method, count, **options)
        return float(calling.result(patience)["slowest_ms"]) / 1000

    def start_call_many(self, method: str, count: int, **options: object) -> Future[dict[str, Any]]:
        """See `call_many`; the reply's `slowest_ms` are milliseconds."""
        return self.driver.submit("call_many", name=self.name, method=method, count=count, **options)

    def start_publish(
        self, data: bytes = b"", *, custom: bytes | None = None, **options: object
    ) -> Future[dict[str, Any]]:
        """Options: edge_id, topic, timeout_ms, deadline_ms, at_most_once, is_async."""
        return self.driver.submit("publish", name=self.name, data=encoded(data), custom=encoded(custom), **options)

    def publish(self, data: bytes = b"", *, patience: float = PATIENCE, **options: Any) -> None:
        self.start_publish(data, **options).result(patience)

    def start_publish_many(self, count: int, **options: object) -> Future[dict[str, Any]]:
        """The texts "0" to count-1, in this order, none waiting for another's acknowledgement."""
        return self.driver.submit("publish_many", name=self.name, count=count, **options)

    def receive(self, wait: float = 5) -> Received:
        name = next(_names)
        reply = self._do("receive", wait + 5, as_=name, wait_ms=round(wait * 1000))
        return Received(
            self.driver,
            name,
            decoded(reply, "data"),
            reply["topic"],
            decoded(reply, "custom"),
            reply["edge_id"],
        )

    def drain(self) -> None:
        """Acknowledge every message from now on."""
        self._do("drain")

    def drained(self, count: int, wait: float = 20) -> list[str]:
        """The next `count` texts that were drained."""
        texts: list[str] = self._do("drained", wait + 5, count=count, wait_ms=round(wait * 1000))["texts"]
        return texts

    def close(self) -> None:
        self._do("close")


class Stream(Speaker):
    """One stream; `meta` and `peer` as this side sees them."""

    def __init__(self, driver: Driver, name: str, meta: bytes, peer: str) -> None:
        super().__init__(driver, name)
        self.meta = meta
        self.peer = peer

    def write(self, data: bytes) -> None:
        self._do("write", data=encoded(data))

    def read(self, size: int, wait: float = 5) -> bytes:
        """Exactly `size` bytes, less where the stream ended before."""
        return decoded(self._do("read", wait + 5, size=size, wait_ms=round(wait * 1000)), "data")

    def ended(self, wait: float = 5) -> bool:
        """Whether the stream ends here with nothing more to read."""
        reply = self._do("read", wait + 5, size=1, wait_ms=round(wait * 1000))
        return bool(reply["eof"]) and not decoded(reply, "data")

    def start_write_bulk(self, count: int, size: int, seed: int) -> Future[dict[str, Any]]:
        """`count` blocks of `size` random bytes; the reply's `sha256` is the digest of them all."""
        return self.driver.submit("write_bulk", name=self.name, count=count, size=size, seed=seed)

    def start_read_bulk(self, count: int, size: int, wait: float) -> Future[dict[str, Any]]:
        return self.driver.submit("read_bulk", name=self.name, count=count, size=size, wait_ms=round(wait * 1000))


class End(Speaker):
    """A connected edge or service."""

    def __init__(self, driver: Driver, name: str, client_id: int) -> None:
        super().__init__(driver, name)
        self.client_id = client_id

    def start_open(self, peer: str, meta: bytes | None = None) -> tuple[str, Future[dict[str, Any]]]:
        name = next(_names)
        return name, self.driver.submit("open", name=self.name, as_=name, peer=peer, meta=encoded(meta))

    def open(self, peer: str, meta: bytes | None = None, patience: float = PATIENCE) -> Stream:
        name, future = self.start_open(peer, meta)
        reply = future.result(patience)
        return Stream(self.driver, name, decoded(reply, "meta"), reply["peer"])

    def accept(self, patience: float = 5) -> Stream:
        name = next(_names)
        reply = self._do("accept", patience, as_=name)
        return Stream(self.driver, name, decoded(reply, "meta"), reply["peer"])

    def streams(self) -> int:
        """Open streams, session 1 left out."""
        return int(self._do("streams")["count"])

    def cut(self) -> None:
        """End the connection without a word."""
        self._do("cut")

    def offline(self, wait: float = 5) -> None:
        """Returns when the connection has ended; raises EndError where it does not."""
        self._do("offline", wait + 5, wait_ms=round(wait * 1000))

    def reonline(self, wait: float) -> None:
        """Returns when a reconnecting end is back and has registered its methods again."""
        self.client_id = self._do("reonline", wait + 5, wait_ms=round(wait * 1000))["client_id"]


class Ends:
    """Connects edges and services to one gateway and closes them all at the end of a test."""

    def __init__(self, edges: Driver, services: Driver, edge_address: str, service_address: str) -> None:
        self.edges = edges
        self.services = services
        self.edge_address = edge_address
        self.service_address = service_address
        self._open: list[End] = []

    def _connect(self, driver: Driver, **fields: object) -> End:
        name = next(_names)
        reply = driver.submit("connect", as_=name, **fields).result(PATIENCE + 5)
        end = End(driver, name, reply["client_id"])
        self._open.append(end)
        return end

    def edge(self, meta: bytes = b"", *, wanted_id: int | None = None, retry: bool = False) -> End:
        return self._connect(
            self.edges,
            kind="edge",
            address=self.edge_address,
            meta=encoded(meta),
            wanted_id=wanted_id,
            retry=retry,
        )

    def service(
        self,
        name: str = "",
        topics: Sequence[str] = (),
        *,
        meta: bytes | None = None,
        wanted_id: int | None = None,
        retry: bool = False,
    ) -> End:
        """`meta` replaces the JSON that name and topics would make."""
        return self._connect(
            self.services,
            kind="service",
            address=self.service_address,
            service=name,
            topics=list(topics),
            meta=encoded(meta),
            wanted_id=wanted_id,
            retry=retry,
        )

    def edges_come_and_go(self, count: int, width: int, patience: float) -> list[int]:
        """`width` edges at once connect and leave again until `count` have; their IDs."""
        future = self.edges.submit("connect_many", kind="edge", address=self.edge_address, count=count, width=width)
        ids: list[int] = future.result(patience)["client_ids"]
        return ids

    def close(self) -> None:
        futures = [end.driver.submit("close", name=end.name) for end in self._open]
        for future in futures:
            # an end that a test has cut or closed has nothing to say any more
            with contextlib.suppress(EndError, TimeoutError):
                future.result(5)
        self._open.clear()


def unique(word: str) -> str:
    """A method, topic or service name that no other test uses."""
    return f"{word}-{next(_names)}"
