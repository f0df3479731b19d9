"""Configuration: typed sections, read from YAML, environment and command line, checked before anything is opened."""

from frontier_tx.config.address import is_unspecified, join_host_port, split_host_port
from frontier_tx.config.common import (
    TLS,
    CertKey,
    Dial,
    Listen,
    Log,
    LogFile,
    Observability,
    PProf,
    RLimit,
    WireLimits,
)
from frontier_tx.config.frontier import (
    ControlPlane,
    Daemon,
    Edgebound,
    Exchange,
    FrontierConfig,
    Frontlas,
    Limits,
    Metrics,
    Servicebound,
)
from frontier_tx.config.layers import Flags
from frontier_tx.config.loading import Loaded, load_frontier, parse_frontier
from frontier_tx.config.queues import AMQP, MQM, NSQ, Kafka, Nats, RedisQueue

__all__ = [
    "AMQP",
    "MQM",
    "NSQ",
    "TLS",
    "CertKey",
    "ControlPlane",
    "Daemon",
    "Dial",
    "Edgebound",
    "Exchange",
    "Flags",
    "FrontierConfig",
    "Frontlas",
    "Kafka",
    "Limits",
    "Listen",
    "Loaded",
    "Log",
    "LogFile",
    "Metrics",
    "Nats",
    "Observability",
    "PProf",
    "RLimit",
    "RedisQueue",
    "Servicebound",
    "WireLimits",
    "is_unspecified",
    "join_host_port",
    "load_frontier",
    "parse_frontier",
    "split_host_port",
]
