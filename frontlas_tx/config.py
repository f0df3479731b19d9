"""The whole of frontlas.yaml on the machinery of `frontier_tx.config`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from frontier_tx.config.access import AccessControl, check_access
from frontier_tx.config.checks import check_limits, check_ports, check_tls
from frontier_tx.config.common import (
    TLS,
    ControlPlaneLimits,
    Listen,
    Log,
    LogFile,
    Observability,
    PProf,
    RLimit,
    WireLimits,
)
from frontier_tx.config.kinds import Choice, FirstAddress, Flag, Number, PeerAddresses, Text, Whole
from frontier_tx.config.layers import Flags, Layer
from frontier_tx.config.loading import Loaded, assemble, read_file
from frontier_tx.config.schema import Report, section, setting

#: A Go Frontier sends an edge's heartbeat every 20 s; a life below this leaves no room for a late one.
LEAST_EDGE_LIFE = 60

_NO_EFFECT = "accepted for existing files, no effect"
_MODES = ("standalone", "sentinel", "cluster")
_SECONDS = Number(0, 86_400, zero_is_default=True)
_DB = Whole(0, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The port of cluster services and operators: REST and gRPC."""

    listen: Listen = section(Listen(addr="127.0.0.1:40011"), "listening port")
    access: AccessControl = section(AccessControl())
    limits: ControlPlaneLimits = section(ControlPlaneLimits(), "bounds of callers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiration:
    """How long records stay when nothing renews them."""

    service_meta: int = setting(86_400, Whole(1, 31_536_000, "seconds", zero_is_default=True), "records of services")
    edge_meta: int = setting(
        0, Whole(0, 31_536_000, "seconds"), "records of edges; 0: as `service_meta`; less than 60 counts as 60"
    )

    @property
    def edge_life(self) -> int:
        """Seconds that the record of an edge lives."""
        return max(LEAST_EDGE_LIFE, self.edge_meta or self.service_meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPlane:
    """The port on which Frontiers report."""

    listen: Listen = section(Listen(addr="127.0.0.1:40012"), "listening port")
    expiration: Expiration = section(Expiration())
    peers_bytes: int = setting(
        1 << 30,
        Whole(1 << 20, 1 << 40, "bytes"),
        "memory for the edges and services that Frontiers have reported here, about 220 bytes for each",
    )


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

    mode: str = setting("", Choice(*_MODES), "kind of set-up; needed as soon as there is a `redis` section")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """The process."""

    rlimit: RLimit = section(RLimit())
    pprof: PProf = section(PProf(addr="127.0.0.1:6061"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontlasConfig:
    """The configuration of a Frontlas. `FrontlasConfig()` is what runs when there is no file."""

    control_plane: ControlPlane = section(ControlPlane(), "", "controlplane")
    frontier_plane: FrontierPlane = section(FrontierPlane(), "", "frontier_manager")
    registry: str = setting(
        "memory",
        Choice("memory", "redis"),
        "`memory` serves one machine and forgets on restart; default `redis` as soon as there is a `redis` section",
    )
    redis: Redis = section(Redis())
    observability: Observability = section(Observability(addr="127.0.0.1:9092"))
    limits: WireLimits = section(WireLimits(), "bounds of connections of Frontiers")
    log: Log = section(Log(file=LogFile(path="/var/log/frontier/frontlas.log")))
    daemon: Daemon = section(Daemon())


def load_frontlas(
    path: str | None = None, environ: Mapping[str, str] | None = None, flags: Flags | None = None
) -> Loaded[FrontlasConfig]:
    """The configuration of a Frontlas.

    :param path: frontlas.yaml; None for the embedded defaults.
    :param environ: environment variables, those of the process if None.
    :param flags: the command line.
    :raises ConfigError: with one line for each mistake.
    """
    text = None if path is None else read_file(path)
    return parse_frontlas(text, path, os.environ if environ is None else environ, flags)


def parse_frontlas(
    text: str | bytes | None,
    name: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Flags | None = None,
) -> Loaded[FrontlasConfig]:
    """The same from text at hand, ``name`` being what errors call it, and no environment unless given."""
    return assemble(FrontlasConfig(), text, name, environ or {}, flags or Flags(), _environment, _check)


def listeners(config: FrontlasConfig) -> list[tuple[str, str]]:
    """Key and address of every port that the configuration opens."""
    found = [
        ("control_plane.listen.addr", config.control_plane.listen.addr),
        ("frontier_plane.listen.addr", config.frontier_plane.listen.addr),
    ]
    if config.observability.enable:
        found.append(("observability.addr", config.observability.addr))
    if config.daemon.pprof.enable:
        found.append(("daemon.pprof.addr", config.daemon.pprof.addr))
    return found


def tls_of(config: FrontlasConfig) -> list[tuple[str, TLS, bool]]:
    """Key and section of every TLS set-up in use, and whether it is a listener's."""
    found = [
        ("control_plane.listen.tls", config.control_plane.listen.tls, True),
        ("frontier_plane.listen.tls", config.frontier_plane.listen.tls, True),
    ]
    if config.registry == "redis":
        found.append(("redis.tls", config.redis.tls, False))
    return [each for each in found if each[1].enable]


def _environment(config: FrontlasConfig, layer: Layer, present: frozenset[str]) -> FrontlasConfig:
    config = layer.port_from_env(config, "FRONTLAS_CONTROLPLANE_PORT", "control_plane.listen.addr")
    config = layer.port_from_env(config, "FRONTLAS_FRONTIERPLANE_PORT", "frontier_plane.listen.addr")
    kind = layer.environ.get("REDIS_TYPE", "")
    if "registry" not in present and ("redis" in present or kind):
        config = replace(config, registry="redis")
    if kind:
        return _redis_environment(config, layer, kind.lower())
    if layer.environ.get("REDIS_ADDRS"):
        layer.warn("environment REDIS_ADDRS", "ignored, as all REDIS_ variables are, because REDIS_TYPE is not set")
    return config


def _redis_environment(config: FrontlasConfig, layer: Layer, kind: str) -> FrontlasConfig:
    """REDIS_TYPE brings the other variables in; those that are not set leave the file's values alone."""
    config = layer.from_env(config, "REDIS_TYPE", "redis.mode")
    config = layer.from_env(config, "REDIS_USER", "redis.username", empty=True)
    config = layer.from_env(config, "REDIS_PASSWORD", "redis.password", empty=True)
    if kind == "standalone":
        config = layer.from_env(config, "REDIS_ADDRS", "redis.standalone.addr")
        return layer.from_env(config, "REDIS_DB", "redis.standalone.db")
    if layer.environ.get("REDIS_DB"):
        layer.warn("environment REDIS_DB", f"ignored, since it counts for REDIS_TYPE=standalone only, not {kind!r}")
    if kind == "sentinel":
        config = layer.from_env(config, "REDIS_ADDRS", "redis.sentinel.addrs")
        return layer.from_env(config, "MASTER_NAME", "redis.sentinel.master_name")
    if kind == "cluster":
        return layer.from_env(config, "REDIS_ADDRS", "redis.cluster.addrs")
    return config


def _check(config: FrontlasConfig, report: Report) -> None:
    check_ports(listeners(config), report)
    for path, tls, listens in tls_of(config):
        check_tls(path, tls, listens, report)
    check_limits(config.limits, report)
    check_access("control_plane.access", config.control_plane.access, config.control_plane.listen, report)
    expiration = config.frontier_plane.expiration
    if (expiration.edge_meta or expiration.service_meta) < LEAST_EDGE_LIFE:
        report.warnings.append(
            f"{report.name}: frontier_plane.expiration: records of edges live {LEAST_EDGE_LIFE} s, "
            "since a shorter life leaves no room for a heartbeat that is late"
        )
    if config.registry == "redis":
        _check_redis(config.redis, report)


def _check_redis(redis: Redis, report: Report) -> None:
    if not redis.mode:
        report.problem("redis.mode", f"missing; expected {Choice(*_MODES).expected}, or the same in REDIS_TYPE")
    if redis.mode == "standalone" and redis.standalone.network == "unix" and not redis.standalone.addr.startswith("/"):
        report.problem("redis.standalone.addr", "expected an absolute path while redis.standalone.network is unix")
    if redis.mode == "sentinel" and not redis.sentinel.addrs:
        report.problem("redis.sentinel.addrs", "missing; needed while redis.mode is sentinel")
    if redis.mode == "sentinel" and not redis.sentinel.master_name:
        report.problem("redis.sentinel.master_name", "missing; needed while redis.mode is sentinel")
    if redis.mode == "cluster" and not redis.cluster.addrs:
        report.problem("redis.cluster.addrs", "missing; needed while redis.mode is cluster")
    if len(redis.tls.certs) > 1:
        report.problem("redis.tls.certs", "several certificates; expected one at most")
