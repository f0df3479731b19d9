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
from frontier_tx.config.kinds import Choice, Flag, Whole
from frontier_tx.config.layers import Flags, Layer
from frontier_tx.config.loading import Loaded, assemble, read_file
from frontier_tx.config.redis import MODES, Redis
from frontier_tx.config.schema import Report, section, setting

#: A Go Frontier sends an edge's heartbeat every 20 s; a life below this leaves no room for a late one.
LEAST_EDGE_LIFE = 60
#: The key of the section that says how Frontlas speaks TLS with Frontiers.
CALLS_TLS = "control_plane.calls.tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Calls and messages of operators to edges, over the service ports of Frontiers."""

    enable: bool = setting(True, Flag(), "offer them; off: Frontlas never connects to a Frontier")
    tls: TLS = section(TLS(), "TLS towards `servicebound.listen` of the Frontiers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The port of cluster services and operators: REST and gRPC."""

    listen: Listen = section(Listen(addr="127.0.0.1:40011"), "listening port")
    web: bool = setting(True, Flag(), "serve the web page at `/`")
    calls: Calls = section(Calls())
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
        (CALLS_TLS, config.control_plane.calls.tls, False),
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
        report.problem("redis.mode", f"missing; expected {Choice(*MODES).expected}, or the same in REDIS_TYPE")
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
