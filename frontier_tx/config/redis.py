"""How a Redis is reached: one server, sentinels or a cluster. Frontlas' section ``redis``; queues use parts of it."""

from dataclasses import dataclass

from frontier_tx.config.common import TLS
from frontier_tx.config.kinds import Choice, FirstAddress, Flag, Number, PeerAddresses, Text, Whole
from frontier_tx.config.schema import section, setting

_NO_EFFECT = "accepted for existing files, no effect"
MODES = ("standalone", "sentinel", "cluster")
_SECONDS = Number(0, 86_400, zero_is_default=True)
_DB = Whole(0, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standalone:
    """One Redis server."""

    network: str = setting("tcp", Choice("tcp", "unix"), "a path as `addr` means `unix` too")
    addr: str = setting("localhost:6379", FirstAddress(), "the server; of several the first counts", "addrs")
    db: int = setting(0, _DB, "database")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel:
    """A master watched by sentinels."""

    addrs: tuple[str, ...] = setting((), PeerAddresses(), "sentinels", "addr")
    master_name: str = setting("", Text(), "name of the master at the sentinels")
    db: int = setting(0, _DB, "database")
    username: str = setting("", Text(), "user at the sentinels; the master's is `redis.username`")
    password: str = setting("", Text(), "password at the sentinels", secret=True)
    route_by_latency: bool = setting(False, Flag(), _NO_EFFECT)
    route_randomly: bool = setting(False, Flag(), _NO_EFFECT)
    replica_only: bool = setting(False, Flag(), _NO_EFFECT)
    use_disconnected_replicas: bool = setting(False, Flag(), _NO_EFFECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Redis Cluster."""

    addrs: tuple[str, ...] = setting((), PeerAddresses(), "some of its nodes", "addr")
    max_redirects: int = setting(
        3, Whole(-1, 100, zero_is_default=True), "how often a command follows a redirection; -1: never"
    )
    route_by_latency: bool = setting(False, Flag(), _NO_EFFECT)
    route_randomly: bool = setting(False, Flag(), _NO_EFFECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """The store of the cluster."""

    mode: str = setting("", Choice(*MODES), "kind of set-up; needed as soon as there is a `redis` section")
    standalone: Standalone = section(Standalone())
    sentinel: Sentinel = section(Sentinel())
    cluster: Cluster = section(Cluster())
    username: str = setting("", Text(), "user")
    password: str = setting("", Text(), "password", secret=True)
    tls: TLS = section(TLS(), "TLS towards Redis")
    dial_timeout: float = setting(5.0, _SECONDS, "time for connecting and logging in")
    read_timeout: float = setting(3.0, _SECONDS, "time for the answer to a command")
    write_timeout: float = setting(3.0, _SECONDS, _NO_EFFECT)
    pool_timeout: float = setting(
        0.0, Number(0, 86_400), "time for a command with all waiting and retries; 0: `read_timeout` and 1 s more"
    )
    max_retries: int = setting(
        3, Whole(-1, 100, zero_is_default=True), "repeats of a command whose connection broke; -1: none"
    )
    min_retry_backoff: float = setting(0.1, _SECONDS, "first pause before connecting again")
    max_retry_backoff: float = setting(3.0, _SECONDS, "longest pause before connecting again")
    pool_size: int = setting(2, Whole(1, 10_000, zero_is_default=True), "connections per server, 64 at most")
    clientname: str = setting("", Text(), "name of the connections (CLIENT SETNAME)", "client_name")
    disable_identity: bool = setting(
        False, Flag(), "do not tell Redis the name and version of the library", "disable_indentity"
    )
    identity_suffix: str = setting("", Text(), "suffix of the library's name")
    shared_with_go: bool = setting(
        False,
        Flag(),
        "a Frontlas of the Go implementation uses the same Redis: its Frontiers are listed and counted too, for which "
        "the keyspace is scanned in small steps; not in a Redis Cluster, where that Frontlas cannot run",
    )
    compat_alive_keys: bool = setting(
        False, Flag(), "accepted, no effect: nothing reads `frontlas:alive:edges:*` and `frontlas:alive:services:*`"
    )
    exit_when_unreachable: bool = setting(
        False, Flag(), "end the process when Redis is out of reach at the start; off: keep trying, not ready"
    )
    protocol: int = setting(3, Whole(0, 3), f"{_NO_EFFECT}: RESP2 is spoken")
    pool_fifo: bool = setting(False, Flag(), _NO_EFFECT)
    min_idle_conns: int = setting(0, Whole(0, 1_000_000), _NO_EFFECT)
    max_idle: int = setting(0, Whole(0, 1_000_000), _NO_EFFECT, "max_idle_conns")
    max_active_conns: int = setting(0, Whole(0, 1_000_000), _NO_EFFECT)
    conn_max_idle_time: float = setting(0.0, Number(-1, 31_536_000), _NO_EFFECT)
    conn_max_life_time: float = setting(0.0, Number(-1, 31_536_000), _NO_EFFECT, "conn_max_lifetime")

    @property
    def done_within(self) -> float:
        """Seconds for a command as a whole, waiting and retries included."""
        return self.pool_timeout or self.read_timeout + 1.0

    @property
    def connections(self) -> int:
        """Connections per server."""
        return min(self.pool_size, 64)

    @property
    def backoff(self) -> tuple[float, float]:
        """First and longest wait between two attempts to connect, seconds."""
        first = max(0.05, self.min_retry_backoff)
        return first, max(first, self.max_retry_backoff)
