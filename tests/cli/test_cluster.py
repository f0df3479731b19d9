"""The lists of a cluster, and calls to its edges, through a Frontlas process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.test_twistd import Running, configured, registry
from tests.redis.servers import free_ports, wait_until

from .runner import process, run


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    control, reports = (f"127.0.0.1:{port}" for port in free_ports(2))
    for name in ("frontlas", "frontier"):
        (tmp_path / name).mkdir()
    listen = {"control_plane": {"listen": {"addr": control}}, "frontier_plane": {"listen": {"addr": reports}}}
    frontlas = Running(tmp_path / "frontlas", "frontlas", "-c", registry(tmp_path / "frontlas", **listen))
    frontlas.wait_for("listens on")
    sections = {"frontlas": {"enable": True, "dial": {"addrs": [reports]}}, "daemon": {"frontier_id": "frontier07"}}
    frontier = Running(tmp_path / "frontier", "frontier", "-c", configured(tmp_path / "frontier", **sections))
    said = frontier.wait_for("link is up")
    found = re.search(r"edgebound listens on (127\.0\.0\.1:\d+)", said)
    assert found
    monkeypatch.setenv("FRONTIER_EDGE_ADDR", found[1])
    monkeypatch.delenv("FRONTIER_CONTROL_ADDR")
    monkeypatch.setenv("FRONTIER_FRONTLAS_ADDR", control)
    yield
    for each in (frontier, frontlas):
        each.process.kill()
        each.process.wait()


def test_lists_and_calls_reach_over_the_cluster(cluster: None) -> None:
    with process("edge", "serve", "up", "--meta", "robot", "--", "tr", "a-z", "A-Z") as (_, said):
        edge_id = said.split("edge ")[1].split()[0]
        wait_until(lambda: run("edges", "--json").json["count"] == 1, "the edge is listed")
        edge = run("edges", "--json").json["edges"][0]
        assert (edge["edge_id"], edge["frontier_id"]) == (edge_id, "frontier07")
        assert edge_id in run("edges").out and "frontier07" in run("edges", "--frontier", "frontier07").out
        assert edge_id not in run("edges", "--frontier", "other").out
        assert run("frontiers", "--json").json["frontiers"][0]["frontier_id"] == "frontier07"
        assert "frontier07" in run("frontiers").out
        assert run("call", edge_id, "up", "x").raw == b"X"
        assert run("show", edge_id, "--json").json["frontier_id"] == "frontier07"
        assert run("edges", "--meta", "rob", "--json").json["count"] == 1
        assert run("edges", "--meta", "other", "--json").json["count"] == 0
        assert run("call", "robot", "up", "x").raw == b"X"
        assert run("call", "robot", "up", "x", "--http").raw == b"X"
        assert run("status").out.startswith("ready")
        assert edge["meta"] == "robot" and run("show", "robot", "--json").json["methods"] == ["up"]
        gone = run("call", "17", "up")
        assert (gone.code, gone.err) == (4, "frontier: edge not online; `frontier edges` lists those that are\n")
        with process("sub", "news", "--name", "paper"):
            assert run("edge", "pub", "news", "x").code == 0
            wait_until(lambda: "paper" in run("services").out, "the service is listed")
            assert run("services", "--name", "pap", "--json").json["count"] == 1
        assert run("kick", "robot").out == f"kicked edge {edge_id}\n"
        assert run("kick", "17").code == 4


def test_no_frontlas() -> None:
    for arguments in (("edges",), ("call", "17", "m"), ("frontiers",)):
        done = run(*arguments, "--frontlas", "127.0.0.1:1")
        assert (done.code, done.err.count("\n")) == (3, 1)
    assert run("frontiers", "--server", "127.0.0.1").code == 2
