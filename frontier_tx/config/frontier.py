"""The whole of frontier.yaml."""

from __future__ import annotations

from dataclasses import dataclass, replace

from frontier_tx.config.access import AccessControl
from frontier_tx.config.common import (
    TLS,
    ControlPlaneLimits,
    Dial,
    Listen,
    Log,
    LogFile,
    Observability,
    PProf,
    RLimit,
    WireLimits,
)
from frontier_tx.config.kinds import Choice, Flag, Number, Text, Whole
from frontier_tx.config.queues import MQM
from frontier_tx.config.schema import section, setting

_COUNT = Whole(1, 100_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edgebound:
    """The port of the edges."""

    listen: Listen = section(Listen(addr="127.0.0.1:30012"), "listening port")
    edgeid_alloc_when_no_idservice_on: bool = setting(
        True, Flag(), "give an edge an ID when no service registered `get_edge_id`; off: refuse the edge"
    )
    edgeid_renew_when_idservice_comes: bool = setting(
        True,
        Flag(),
        "ask edges whose ID the gateway had to choose to connect again once a service registers `get_edge_id`; edges "
        "that do not reconnect by themselves are lost by that",
    )
    edgeid_own_allowed: bool = setting(
        True, Flag(), "let an edge bring an ID of its own, as the wire allows and no library does, past `get_edge_id`"
    )
    bypass_enable: bool = setting(False, Flag(), "relay connections that speak another protocol to `bypass`")
    bypass: Dial = section(Dial(), "servers behind the same port for other protocols: any of `addrs` that answers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servicebound:
    """The port of the services."""

    listen: Listen = section(Listen(addr="127.0.0.1:30011"), "listening port")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """REST, gRPC and a web page for operators."""

    enable: bool = setting(False, Flag(), "serve the control plane")
    listen: Listen = section(Listen(addr="127.0.0.1:30010"), "listening port")
    web: bool = setting(True, Flag(), "serve the web page at `/`")
    access: AccessControl = section(AccessControl())
    limits: ControlPlaneLimits = section(ControlPlaneLimits(), "bounds of callers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """How edges and services are brought together."""

    hashby: str = setting(
        "edgeid",
        Choice("edgeid", "srcip", "random"),
        "which of several services gets what an edge sends: by edge ID, by the edge's address, or at random",
    )
    edges_call_control_methods: bool = setting(
        False, Flag(), "let edges call `get_edge_id`, `edge_online` and `edge_offline` of services"
    )
    tell_stream_peer: bool = setting(
        False, Flag(), "tell a service the edge's ID as peer of a stream that the edge opened"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Spans for OpenTelemetry; needs `pip install 'frontier-tx[traces]'`."""

    enable: bool = setting(
        False, Flag(), "make a span for each call and message, and take the trace context of clients"
    )
    endpoint: str = setting(
        "http://127.0.0.1:4318/v1/traces",
        Text("an http or https URL", pattern=r"https?://[\x21-\x7e]{1,2000}"),
        "where a collector takes OTLP over HTTP",
    )
    ratio: float = setting(
        1.0, Number(0.0, 1.0), "share of what has no context that is traced; what has one follows its sender"
    )
    queue: int = setting(2048, Whole(1, 1_000_000), "spans that wait for the collector at most; further ones are lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dao:
    """The table of who is online. It is in memory whatever stands here."""

    backend: str = setting("buntdb", Choice("buntdb", "sqlite", "sqlite3"), "accepted for existing files, no effect")
    debug: bool = setting(False, Flag(), "accepted for existing files, no effect")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Counts reported to Frontlas."""

    enable: bool = setting(False, Flag(), "report counts of edges and services")
    interval: int = setting(30, Whole(1, 86_400, "seconds", zero_is_default=True), "time between two reports")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontlas:
    """Membership in a cluster."""

    enable: bool = setting(False, Flag(), "report to Frontlas")
    dial: Dial = section(Dial(), "where Frontlas listens for Frontiers (its `frontier_plane`)")
    metrics: Metrics = section(Metrics())
    exit_when_id_taken: bool = setting(
        False, Flag(), "end the process when another Frontier has the same ID; off: log it and keep trying"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """The process."""

    frontier_id: str = setting(
        "", Text("text of up to 256 characters, no control characters", pattern=r"[^\x00-\x1f\x7f]{0,256}"),
        "name of this Frontier, unique in its cluster; empty: made from host name and service port",
    )  # fmt: skip
    rlimit: RLimit = section(RLimit())
    pprof: PProf = section(PProf(addr="127.0.0.1:6060"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(WireLimits):
    """Bounds of the gateway, per connection unless said otherwise."""

    call_seconds: float = setting(
        30.0, Number(0.05, 86_400), "longest wait of a call or message for its answer, whatever its sender allows"
    )
    control_seconds: float = setting(
        9.0, Number(0.05, 3600), "time for all control functions of one edge together; an edge itself waits 10 s"
    )
    connections_per_address: int = setting(
        0,
        Whole(0, 1 << 30),
        "connections per listener from one address (of IPv6: from one /64 network) at once; 0 means as many as leave a "
        "fifth of the places for others, and any number from this machine",
    )
    handshakes: int = setting(
        20_000,
        _COUNT,
        "connections per listener that have not introduced themselves; beyond it one that is silent for 2 s makes room",
    )
    bypass_bytes: int = setting(
        268_435_456,
        Whole(65_536, 1 << 40, "bytes"),
        "what relayed connections hold together for sides that do not take it; beyond it the slowest are cut",
    )
    pending_per_connection: int = setting(100_000, _COUNT, "calls and messages under way")
    edge_window: int = setting(
        64, _COUNT, "messages that an edge may have before it acknowledged them; those behind them wait"
    )
    service_window: int = setting(128, _COUNT, "the same of a service")
    edge_calls: int = setting(
        256,
        _COUNT,
        "calls that an edge may have before it answers one of them; those behind them wait",
    )
    service_calls: int = setting(256, _COUNT, "the same of a service")
    memory_bytes: int = setting(
        1_073_741_824,
        Whole(67_108_864, 1 << 50, "bytes"),
        "memory of the whole process; five eighths of it may be filled with what is not delivered yet",
    )
    stream_window_bytes: int = setting(
        1_048_576,
        Whole(4096, 1 << 40, "bytes"),
        "bytes of a stream that a peer which speaks credit may have under way to the gateway",
    )
    methods_per_connection: int = setting(10_000, _COUNT, "methods registered")
    method_bytes: int = setting(
        4096, Whole(1, 1_048_576, "bytes"), "length of the name of a method, a topic or a service"
    )
    topics_per_connection: int = setting(10_000, _COUNT, "topics of a service")
    record_bytes: int = setting(
        134_217_728,
        Whole(1_048_576, 1 << 40, "bytes"),
        "metas, names, topics and methods of all peers together; beyond it those that bring most are refused first",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierConfig:
    """The configuration of a Frontier. `FrontierConfig()` is what runs when there is no file."""

    edgebound: Edgebound = section(Edgebound())
    servicebound: Servicebound = section(Servicebound())
    controlplane: ControlPlane = section(ControlPlane(), "", "control_plane")
    observability: Observability = section(Observability(addr="127.0.0.1:9091"))
    exchange: Exchange = section(Exchange())
    frontlas: Frontlas = section(Frontlas())
    mqm: MQM = section(MQM())
    tracing: Tracing = section(Tracing())
    limits: Limits = section(Limits())
    log: Log = section(Log(file=LogFile(path="/var/log/frontier/frontier.log")))
    daemon: Daemon = section(Daemon())
    dao: Dao = section(Dao())


#: What a file starts from: there, IDs are given out only where the file says so, as existing files expect.
FILE_BASE = FrontierConfig(edgebound=replace(Edgebound(), edgeid_alloc_when_no_idservice_on=False))


def listeners(config: FrontierConfig) -> list[tuple[str, str]]:
    """Key and address of every port that the configuration opens."""
    found = [
        ("edgebound.listen.addr", config.edgebound.listen.addr),
        ("servicebound.listen.addr", config.servicebound.listen.addr),
    ]
    if config.controlplane.enable:
        found.append(("controlplane.listen.addr", config.controlplane.listen.addr))
    if config.observability.enable:
        found.append(("observability.addr", config.observability.addr))
    if config.daemon.pprof.enable:
        found.append(("daemon.pprof.addr", config.daemon.pprof.addr))
    return found


def tls_of(config: FrontierConfig) -> list[tuple[str, TLS, bool]]:
    """Key and section of every TLS set-up in use, and whether it is a listener's."""
    found = [
        ("edgebound.listen.tls", config.edgebound.listen.tls, True),
        ("servicebound.listen.tls", config.servicebound.listen.tls, True),
    ]
    if config.controlplane.enable:
        found.append(("controlplane.listen.tls", config.controlplane.listen.tls, True))
    if config.edgebound.bypass_enable:
        found.append(("edgebound.bypass.tls", config.edgebound.bypass.tls, False))
    if config.frontlas.enable:
        found.append(("frontlas.dial.tls", config.frontlas.dial.tls, False))
    for name in ("kafka", "amqp", "nats", "nsq", "redis"):
        queue = getattr(config.mqm, name)
        if queue.enable:
            found.append((f"mqm.{name}.tls", queue.tls, False))
    return [each for each in found if each[1].enable]
