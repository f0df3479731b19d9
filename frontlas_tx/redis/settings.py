"""How to reach Redis: the keys of the ``redis`` section of frontlas.yaml with their defaults.

Keys that tune connection pools of other clients (``pool_fifo``, ``min_idle_conns``, ``max_idle``,
``max_active_conns``, ``conn_max_idle_time``, ``conn_max_life_time``, routing of reads to replicas) have no
counterpart: commands share a few pipelined connections that are kept for good, and every read goes to a
master.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple


class Address(NamedTuple):
    """Where a server listens: host and port, or the path of a Unix socket as host with port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default_port: int = 6379) -> Address:
        """From ``host:port``, ``[v6]:port``, ``host`` or ``/path``; raises ``ValueError`` naming the text."""
        text = text.strip()
        if text.startswith("/"):
            return cls(text, 0)
        host, colon, port = text.rpartition(":")
        if not colon or (":" in host and not host.startswith("[")):
            host, port = text, str(default_port)
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not an address: write host:port with a port from 1 to 65535")
        return cls(host.strip("[]") or "localhost", int(port))


class Mode(enum.Enum):
    """``redis.mode``."""

    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTLS:
    """TLS towards Redis and sentinels.  ``ca_certs`` are file names; without any the system's authorities
    count.

    ``server_name`` replaces the host in the check of the certificate, which is needed where sentinels or
    cluster nodes announce addresses that the certificates do not carry.
    """

    enable: bool = False
    ca_certs: tuple[str, ...] = ()
    cert: str = ""
    key: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standalone:
    """``redis.standalone``: ``addr`` is ``host:port`` or the path of a Unix socket."""

    network: str = "tcp"
    addr: str = "localhost:6379"
    db: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel:
    """``redis.sentinel``: user and password here are those of the sentinels, not of the master."""

    addrs: tuple[str, ...] = ()
    master_name: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """``redis.cluster``: ``addrs`` are any nodes of it; ``max_redirects`` how often a command follows a MOVED
    or ASK before it pauses."""

    addrs: tuple[str, ...] = ()
    max_redirects: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """The ``redis`` section.  Times are seconds, 0 means the default given at the property of the same name.

    ``max_retries`` bounds how often a command is sent again after its connection broke (-1: never).
    ``pool_size`` is the number of connections per server (0: 2).  ``max_waiting`` bounds the commands that
    wait for a connection.
    """

    mode: Mode = Mode.STANDALONE
    username: str = ""
    password: str = field(default="", repr=False)
    clientname: str = ""
    max_retries: int = 3
    min_retry_backoff: float = 0
    max_retry_backoff: float = 0
    dial_timeout: float = 0
    read_timeout: float = 0
    pool_size: int = 0
    pool_timeout: float = 0
    disable_identity: bool = False
    identity_suffix: str = ""
    max_waiting: int = 20_000
    tls: RedisTLS = RedisTLS()
    standalone: Standalone = Standalone()
    sentinel: Sentinel = Sentinel()
    cluster: Cluster = Cluster()

    @property
    def connect_within(self) -> float:
        """``dial_timeout``, 5 s: for connecting and logging in."""
        return self.dial_timeout or 5.0

    @property
    def answer_within(self) -> float:
        """``read_timeout``, 3 s: for the answer to a command that was sent."""
        return self.read_timeout or 3.0

    @property
    def done_within(self) -> float:
        """``pool_timeout``, ``read_timeout`` + 1 s: for a command as a whole, waiting and retries
        included."""
        return self.pool_timeout or self.answer_within + 1.0

    @property
    def connections(self) -> int:
        """Connections per server."""
        return min(self.pool_size, 64) if self.pool_size > 0 else 2

    @property
    def backoff(self) -> tuple[float, float]:
        """First and longest pause between two attempts to connect: 0.1 s and 3 s."""
        shortest = max(0.05, self.min_retry_backoff or 0.1)
        return shortest, max(shortest, self.max_retry_backoff or 3.0)
