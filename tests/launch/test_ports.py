"""Listening, and the one line that says why it failed."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.logger import globalLogPublisher

from frontier_tx.config import TLS, Listen, RLimit
from frontier_tx.errors import ConfigError
from frontier_tx.runtime.launch import Ports, StartFailed, raise_open_files


@pytest.fixture
def lines() -> Iterator[list[str]]:
    events: list[str] = []

    def note(event: Any) -> None:
        if "reason" in event:
            events.append(event["reason"])

    globalLogPublisher.addObserver(note)
    yield events
    globalLogPublisher.removeObserver(note)


class Closing:
    """A listening port of the memory reactor."""

    def __init__(self) -> None:
        self.closed = False

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 7)

    def stopListening(self) -> None:
        self.closed = True


class Refusing(MemoryReactor):
    """Opens ports until told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Closing] = []
        self.error: OSError | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if self.error is not None:
            raise CannotListenError(interface, port, self.error)
        self.tcpServers.append((port, factory, backlog, interface))
        self.ports.append(Closing())
        return self.ports[-1]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(98, "x"),
            "frontier: cannot listen on edgebound 127.0.0.1:7: address already in use; "
            "another frontier running? change edgebound.listen.addr",
        ),
        (
            OSError(13, "x"),
            "frontier: cannot listen on edgebound 127.0.0.1:7: permission denied; "
            "ports below 1024 need privileges; change edgebound.listen.addr",
        ),
        (
            OSError(99, "x"),
            "frontier: cannot listen on edgebound 127.0.0.1:7: cannot assign requested address; "
            "no interface of this machine has that address; change edgebound.listen.addr",
        ),
        (
            OSError(24, "x"),
            "frontier: cannot listen on edgebound 127.0.0.1:7: too many open files; change edgebound.listen.addr",
        ),
    ],
)
def test_one_line_and_the_other_ports_closed(error: OSError, line: str, lines: list[str]) -> None:
    reactor = Refusing()
    ports = Ports(reactor)
    ports.listen("servicebound.listen", Listen(addr="127.0.0.1:8"), Factory())
    reactor.error = error
    with pytest.raises(StartFailed) as caught:
        ports.listen("edgebound.listen", Listen(addr="127.0.0.1:7"), Factory())
    assert str(caught.value) == line
    assert caught.value.code == 1
    assert isinstance(caught.value, SystemExit)
    assert lines == [line]
    assert reactor.ports[0].closed


def test_a_host_that_is_not_known(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(StartFailed):
        Ports(Refusing(), "frontlas").listen("observability", Listen(addr="nowhere.example:7"), Factory())
    assert lines == [
        "frontlas: cannot listen on observability nowhere.example:7: name or service not known; "
        "correct the host in observability.addr"
    ]


@pytest.mark.parametrize(
    ("addr", "interfaces"),
    [("0.0.0.0:7", {"0.0.0.0"}), (":7", {"::", ""}), ("[::1]:7", {"::1"}), ("localhost:7", {"127.0.0.1", "::1"})],
)
def test_interfaces(addr: str, interfaces: set[str]) -> None:
    reactor = Refusing()
    Ports(reactor).listen("edgebound.listen", Listen(addr=addr), Factory())
    ((port, _, backlog, interface),) = reactor.tcpServers
    assert port == 7
    assert interface in interfaces
    assert backlog >= 1024


def test_closing() -> None:
    reactor = Refusing()
    ports = Ports(reactor)
    ports.listen("a.listen", Listen(addr="127.0.0.1:7"), Factory())
    fired: list[object] = []
    ports.close().addCallback(fired.append)
    ports.close().addCallback(fired.append)
    assert fired == [None, None]
    assert reactor.ports[0].closed


def test_tls_that_cannot_be_used_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"^a\.listen\.tls\.certs: missing"):
        Ports(Refusing()).listen("a.listen", Listen(addr="127.0.0.1:7", tls=TLS(enable=True)), Factory())


class Limits:
    """The system's limit of open files, with or without privileges."""

    def __init__(self, soft: int, hard: int, *, privileged: bool) -> None:
        self.now = (soft, hard)
        self.privileged = privileged

    def get(self, _: int) -> tuple[int, int]:
        return self.now

    def set(self, _: int, limits: tuple[int, int]) -> None:
        if limits[1] > self.now[1] and not self.privileged:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


@pytest.mark.parametrize(
    ("rlimit", "privileged", "after"),
    [
        (RLimit(), False, (4096, 4096)),
        (RLimit(enable=True, nofile=2000), False, (2000, 4096)),
        (RLimit(enable=True, nofile=9000), True, (9000, 9000)),
        (RLimit(enable=True, nofile=9000), False, (4096, 4096)),
        (RLimit(enable=True, nofile=-1), True, (1024, 4096)),
    ],
)
def test_open_files(rlimit: RLimit, privileged: bool, after: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(1024, 4096, privileged=privileged)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    raise_open_files(rlimit)
    assert limits.now == after
