"""From the ``redis`` section of a configuration to a client of the right mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frontier_tx.config.redis import Redis
from frontier_tx.redis.client import RedisClient
from frontier_tx.redis.cluster import ClusterRedis
from frontier_tx.redis.interfaces import Script
from frontier_tx.redis.sentinel import SentinelRedis
from frontier_tx.redis.standalone import StandaloneRedis


def make_redis(reactor: Any, settings: Redis, scripts: Sequence[Script] = ()) -> RedisClient:
    """A client that is not started yet; raises ``ValueError`` for an address that is none, or where none is
    given."""
    if settings.mode not in ("sentinel", "cluster"):
        return StandaloneRedis(reactor, settings, scripts)
    section = settings.sentinel if settings.mode == "sentinel" else settings.cluster
    if not section.addrs:
        raise ValueError(f"redis.{settings.mode}.addrs is empty: give at least one host:port")
    if settings.mode == "cluster":
        return ClusterRedis(reactor, settings, scripts)
    if not settings.sentinel.master_name:
        raise ValueError("redis.sentinel.master_name is empty: give the name that the sentinels know the master by")
    return SentinelRedis(reactor, settings, scripts)
