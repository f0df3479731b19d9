"""File, environment, command line: which wins, and how mistakes in each are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from frontier_tx.config import Flags, load_frontier, parse_frontier
from frontier_tx.errors import ConfigError
from frontlas_tx.config import FrontlasConfig, parse_frontlas


def test_flag_beats_environment_beats_file_beats_default() -> None:
    text = "log: {level: debug, output: file, format: json}"
    environ = {"LOG_LEVEL": "warn", "LOG_OUTPUT": "stderr", "LOG_FILE": ""}
    log = parse_frontier(text, "f.yaml", environ, Flags(loglevel="error")).config.log
    assert (log.level, log.output, log.format) == ("error", "stderr", "json")
    assert log.file.path == "/var/log/frontier/frontier.log"


def test_ports_nodes_and_frontlas_from_the_environment() -> None:
    environ = {
        "FRONTIER_EDGEBOUND_PORT": "7",
        "FRONTIER_SERVICEBOUND_PORT": "8",
        "NODE_NAME": "n1",
        "FRONTLAS_ADDR": "a:1,b:2",
        "FRONTIER_DRAIN_SECONDS": "0",
        "FRONTIER_SERVICEBOUND_ADVERTISED_ADDR": "sb.example:9",
    }
    config = parse_frontier("edgebound: {listen: {addr: '[::1]:30012'}}", "f.yaml", environ).config
    assert config.edgebound.listen.addr == "[::1]:7"
    assert config.servicebound.listen.addr == "127.0.0.1:8"
    assert config.servicebound.listen.advertised_addr == "sb.example:9"
    assert config.daemon.frontier_id == "frontier-n1"
    assert config.frontlas.enable
    assert config.frontlas.dial.addrs == ("a:1", "b:2")
    assert config.limits.drain_seconds == 0


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"LOG_LEVEL": "loud"},
            "environment LOG_LEVEL: log.level: loud is not allowed; expected debug, info, warn or error",
        ),
        (
            {"FRONTIER_EDGEBOUND_PORT": "x"},
            "environment FRONTIER_EDGEBOUND_PORT: 'x' is not allowed; expected a port from 0 to 65535",
        ),
        (
            {"FRONTIER_EDGEBOUND_PORT": "70000"},
            "environment FRONTIER_EDGEBOUND_PORT: edgebound.listen.addr: 127.0.0.1:70000 is not allowed "
            "('70000' is not a port from 0 to 65535); expected host:port, such as 0.0.0.0:30012 or [::]:30012",
        ),
        (
            {"FRONTLAS_ADDR": "frontlas"},
            "environment FRONTLAS_ADDR: frontlas.dial.addrs: frontlas is not allowed (the port is missing); "
            "expected a list of host:port, or one text with commas",
        ),
    ],
)
def test_mistakes_in_the_environment(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_frontier(None, None, environ)
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize("value", ["-1", "soon", "nan"])
def test_a_bad_drain_time_is_a_warning(value: str) -> None:
    loaded = parse_frontier(None, None, {"FRONTIER_DRAIN_SECONDS": value})
    assert loaded.config.limits.drain_seconds == 30
    assert loaded.warnings[0].startswith(f"environment FRONTIER_DRAIN_SECONDS: limits.drain_seconds: {value} is not")
    assert loaded.warnings[0].endswith("; using 30")


@pytest.mark.parametrize(("text", "enabled", "nofile"), [("4096", True, 4096), ("-1", False, -1)])
def test_the_limit_of_open_files_from_the_command_line(text: str, enabled: bool, nofile: int) -> None:
    rlimit = parse_frontier(None, None, {}, Flags(daemon_rlimit_nofile=text)).config.daemon.rlimit
    assert (rlimit.enable, rlimit.nofile) == (enabled, nofile)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError) as caught:
            load_frontier(str(path), {})
        (problem,) = caught.value.problems
        assert problem.startswith(f"{path}: {said}")


def frontlas(text: str | None, **environ: str) -> FrontlasConfig:
    return parse_frontlas(text, "f.yaml", environ).config


def test_frontlas_uses_memory_until_redis_is_named() -> None:
    assert frontlas(None).registry == "memory"
    assert frontlas("log: {level: warn}").registry == "memory"
    assert frontlas("redis: {mode: standalone}").registry == "redis"
    assert frontlas("redis: {mode: standalone}\nregistry: memory").registry == "memory"
    assert frontlas(None, REDIS_TYPE="standalone", REDIS_ADDRS="h:1").registry == "redis"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "redis: {}",
            "f.yaml: redis.mode: missing; expected standalone, sentinel or cluster, or the same in REDIS_TYPE",
        ),
        ("redis: {mode: cluster}", "f.yaml: redis.cluster.addrs: missing; needed while redis.mode is cluster"),
        (
            "redis: {mode: sentinel, sentinel: {addr: 'h:1'}}",
            "f.yaml: redis.sentinel.master_name: missing; needed while redis.mode is sentinel",
        ),
        (
            "redis: {mode: replicated}",
            "f.yaml:1: redis.mode: replicated is not allowed; expected standalone, sentinel or cluster",
        ),
    ],
)
def test_frontlas_refuses(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_frontlas(text, "f.yaml")
    assert caught.value.problems == (problem,)


def test_both_names_of_the_frontier_plane() -> None:
    config = frontlas(
        "frontier_manager: {listen: {addr: '127.0.0.1:1'}, expiration: {service_meta: 90}}\n"
        "frontier_plane: {listen: {addr: '127.0.0.1:2'}}\n"
    )
    assert config.frontier_plane.listen.addr == "127.0.0.1:2"
    assert config.frontier_plane.expiration.service_meta == 90
    assert config.frontier_plane.expiration.edge_life == 90


def test_both_spellings_of_redis_keys() -> None:
    redis = frontlas(
        "redis: {mode: standalone, client_name: a, clientname: b, max_idle_conns: 3, conn_max_lifetime: 4,"
        " disable_indentity: true, standalone: {addrs: ['h:1', 'i:2']}}"
    ).redis
    assert (redis.clientname, redis.max_idle, redis.conn_max_life_time) == ("b", 3, 4)
    assert redis.disable_identity
    assert redis.standalone.addr == "h:1"


def test_short_lives_of_edges_are_raised_with_a_warning() -> None:
    loaded = parse_frontlas("frontier_plane: {expiration: {service_meta: 30, edge_meta: 30}}", "f.yaml")
    assert loaded.config.frontier_plane.expiration.edge_life == 60
    assert len(loaded.warnings) == 1
    assert parse_frontlas("frontier_plane: {expiration: {edge_meta: 120}}").warnings == ()


def test_redis_from_the_environment() -> None:
    text = "redis: {mode: standalone, username: u, password: p, standalone: {db: 3}}"
    kept = frontlas(text, REDIS_TYPE="standalone", REDIS_ADDRS="h:1,i:2").redis
    assert (kept.standalone.addr, kept.standalone.db, kept.username, kept.password) == ("h:1", 3, "u", "p")
    replaced = frontlas(text, REDIS_TYPE="sentinel", REDIS_ADDRS="h:1,i:2", MASTER_NAME="m", REDIS_PASSWORD="").redis
    assert (replaced.mode, replaced.sentinel.addrs, replaced.sentinel.master_name) == ("sentinel", ("h:1", "i:2"), "m")
    assert (replaced.username, replaced.password) == ("u", "")
    assert frontlas(text, REDIS_TYPE="cluster", REDIS_ADDRS="h:1").redis.cluster.addrs == ("h:1",)


def test_redis_variables_without_a_type_are_ignored_with_a_warning() -> None:
    loaded = parse_frontlas(None, None, {"REDIS_ADDRS": "h:1"})
    assert loaded.config.registry == "memory"
    assert loaded.warnings[0].startswith("environment REDIS_ADDRS: ignored")
