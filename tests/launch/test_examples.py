"""The programs that the documents show, run as they stand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.redis.servers import RedisServer, free_ports

from .test_twistd import PATIENCE, ROOT, Running, configured, environment, run


def programs(page: str) -> list[str]:
    """The complete programs of a page; what only shows a part of one does not import anything."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    return [text for text in found if "import " in text]


def start(folder: Path, text: str, name: str) -> subprocess.Popen[str]:
    (folder / name).write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-u", name],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    # A service that outlived a test that failed would find its Frontlas again in a later one.
    Running.started.append(process)
    return process


def finish(process: subprocess.Popen[str]) -> list[str]:
    """The lines that it printed; it must end well."""
    try:
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, out
    return out.splitlines()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The ports of a gateway, for edges and for services."""
    server = Running(tmp_path, "frontier", "-c", configured(tmp_path, log={"level": "debug"}))
    said = server.wait_for("edgebound listens on")
    ports = [re.search(rf"{side} listens on 127\.0\.0\.1:(\d+)", said) for side in ("edgebound", "servicebound")]
    assert all(ports)
    yield tuple(port[1] for port in ports if port)  # type: ignore[misc]
    server.stop()


def pair(
    folder: Path, gateway: tuple[str, str], service: str, edge: str, ready: str
) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Start a service, and an edge when the service has announced a method or topic that the gateway's log shows."""
    texts = [text.replace("30012", gateway[0]).replace("30011", gateway[1]) for text in (service, edge)]
    first = start(folder, texts[0], "service.py")
    log = Running.__new__(Running)
    log.out, log.process = folder / "out", first  # type: ignore[assignment]
    log.wait_for(ready)
    return first, start(folder, texts[1], "edge.py")


def test_the_two_programs_of_the_readme(tmp_path: Path, gateway: tuple[str, str]) -> None:
    service, edge = programs("README.md")
    served, called = pair(tmp_path, gateway, service, edge, "<service")
    assert re.fullmatch(r"b'hello, edge \d+'", finish(called)[0])
    assert finish(served) == ["b'here I am' b'all well'"]


def test_the_cluster_of_the_readme(tmp_path: Path) -> None:
    """Its files and commands, right after each other, and the service with the one change; on other ports."""
    page = (ROOT / "README.md").read_text()
    files = dict(re.findall(r"^cat >(\S+) <<EOF\n(.*?)^EOF$", page, re.S | re.M))
    assert sorted(files) == ["frontier.yaml", "frontlas.yaml"]
    commands = [line.split()[1:] for line in re.findall(r"^twistd --pidfile=.*$", page, re.M)]
    assert [args[-1] for args in commands] == ["frontlas.yaml", "frontier.yaml"]
    to_redis, for_services, from_frontiers = free_ports(3)
    files["frontier.yaml"] += (
        "edgebound: {listen: {addr: 127.0.0.1:0}, edgeid_alloc_when_no_idservice_on: true}\n"
        "servicebound: {listen: {addr: 127.0.0.1:0}}\nobservability: {enable: false}\n"
    )
    files["frontlas.yaml"] += "observability: {enable: false}\n"
    ports = {"6379": to_redis, "40011": for_services, "40012": from_frontiers}
    for name, text in files.items():
        (tmp_path / name).write_text(re.sub(r"\b(6379|40011|40012)\b", lambda found: str(ports[found[0]]), text))
    redis = RedisServer(to_redis).start()
    try:
        for args in commands:
            done = run(tmp_path, *args)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        log = tmp_path / "frontier.log"
        until(log, "link is up")
        port = re.search(r"edgebound listens on 127\.0\.0\.1:(\d+)", log.read_text())
        assert port
        service, edge = programs("README.md")
        service, changes = re.subn(
            r'Service\("127.0.0.1", 30011, ', f'ClusterService("127.0.0.1:{for_services}", ', service
        )
        service = service.replace("import Service", "import ClusterService")
        assert changes == 1
        served = start(tmp_path, service, "service.py")
        until(log, "<service")
        called = start(tmp_path, edge.replace("30012", port[1]), "edge.py")
        assert re.fullmatch(r"b'hello, edge \d+'", finish(called)[0])
        assert finish(served) == ["b'here I am' b'all well'"]
        for name in ("frontlas.log", "frontier.log"):
            assert not re.search(r"Z (?!INFO )", (tmp_path / name).read_text()), (tmp_path / name).read_text()
    finally:
        for path in tmp_path.glob("*.pid"):
            os.kill(int(path.read_text()), signal.SIGTERM)
        redis.kill()


def until(log: Path, text: str) -> None:
    """Return when the log of a server has a text."""
    deadline = time.monotonic() + PATIENCE
    while text not in log.read_text():
        assert time.monotonic() < deadline, f"{text!r} never came:\n{log.read_text()}"
        time.sleep(0.02)


def test_the_first_steps_of_the_clients(tmp_path: Path, gateway: tuple[str, str]) -> None:
    service, edge, *_ = programs("docs/clients.md")
    assert 'Service("127.0.0.1", name' in service and 'Edge("127.0.0.1", meta' in edge
    service = service.replace('Service("127.0.0.1", name', 'Service("127.0.0.1", 30011, name')
    edge = edge.replace('Edge("127.0.0.1", meta', 'Edge("127.0.0.1", 30012, meta')
    served, called = pair(tmp_path, gateway, service, edge, "<service")
    try:
        assert finish(called) == ["b'rain for Monday'"]
        assert served.stdout is not None
        assert re.fullmatch(r"\d+ b'21\.5'\n", served.stdout.readline())
    finally:
        served.kill()
        served.communicate()


def test_a_carrier_of_ones_own(tmp_path: Path) -> None:
    text = programs("docs/extending.md")[1]
    assert finish(start(tmp_path, text, "carrier.py")) == [
        "b'hello over messages'", "3000000 bytes", "the registry has it at frontier01",
    ]  # fmt: skip


def test_policy_allocator_and_listener_of_ones_own(tmp_path: Path) -> None:
    lines = finish(start(tmp_path, programs("docs/extending.md")[2], "choice.py"))
    assert lines[:4] == ["comes service 1", "comes service 2", "comes edge 1", str([b"the first"] * 3)]


def test_a_protocol_of_ones_own_under_twistd(tmp_path: Path) -> None:
    text = programs("docs/extending.md")[0]
    assert "load_frontier()" in text
    path = configured(tmp_path)
    (tmp_path / "gateway.tac").write_text(text.replace("load_frontier()", f"load_frontier({path!r})"))
    server = Running(tmp_path, "-y", "gateway.tac")
    said = server.wait_for("edgebound listens on")
    port = re.search(r"edgebound listens on 127\.0\.0\.1:(\d+)", said)
    assert port
    assert finish(start(tmp_path, edge_that_registers(port[1]), "edge.py")) == []
    server.wait_for("sent 2 frames")
    server.stop()


def edge_that_registers(port: str) -> str:
    """A program that sends two frames."""
    return (
        "from twisted.internet.task import react\nfrom frontier_tx.clients import Edge\n"
        "async def main(reactor):\n"
        f"    async with Edge('127.0.0.1:{port}') as edge:\n"
        "        await edge.register('m', print)\n"
        "        await edge.register('n', print)\n"
        "react(main)\n"
    )


def test_an_atlas_of_ones_own(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "journal.tac").write_text(programs("docs/extending.md")[3].replace("40012", str(port)))
    journal = Running(tmp_path / "journal", "-y", "journal.tac")
    journal.wait_for("AtlasServerFactory starting")
    path = configured(
        tmp_path,
        frontlas={"enable": True, "dial": {"addrs": [f"127.0.0.1:{port}"]}},
        daemon={"frontier_id": "frontier07"},
    )
    server = Running(tmp_path, "frontier", "-c", path)
    found = re.search(r"edgebound listens on 127\.0\.0\.1:(\d+)", server.wait_for("link is up"))
    assert found
    assert finish(start(tmp_path, edge_that_registers(found[1]), "edge.py")) == []
    assert "frontier07 is here" in journal.wait_for("frontier07: edge_online")
    journal.wait_for("frontier07: edge_offline")
    server.stop()
    journal.wait_for("frontier07 is gone")
    journal.stop()


def test_the_metrics_of_the_documents(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    section = page.partition("## Health and metrics\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`((?:frontier|frontlas|control_plane)_\w+)`", section))
    assert len(named) > 15
    ports = free_ports(4)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    (tmp_path / "l").mkdir()
    content = {
        "control_plane": {"listen": {"addr": addresses[0]}},
        "frontier_plane": {"listen": {"addr": addresses[1]}},
        "observability": {"addr": addresses[2]},
    }
    (tmp_path / "l" / "l.yaml").write_text(yaml.safe_dump(content))
    frontlas = Running(tmp_path / "l", "frontlas", "-c", "l.yaml")
    frontlas.wait_for("observability listens")
    path = configured(
        tmp_path,
        frontlas={"enable": True, "dial": {"addrs": [addresses[1]]}},
        observability={"addr": addresses[3]},
    )
    frontier = Running(tmp_path, "frontier", "-c", path)
    frontier.wait_for("link is up")
    shown = ""
    for address in addresses[2:]:
        for path in ("healthz", "readyz", "metrics"):
            with urllib.request.urlopen(f"http://{address}/{path}", timeout=PATIENCE) as answer:
                assert answer.status == 200
                shown += answer.read().decode()
    assert named <= set(re.findall(r"^# HELP (\w+)", shown, re.M))
    frontier.stop()
    frontlas.stop()


def test_the_page_of_a_package_index_stands_alone() -> None:
    page, readme = (ROOT / "DESCRIPTION.md").read_text(), (ROOT / "README.md").read_text()
    assert not re.search(r"\]\((?!https?://)", page)
    for block in re.findall(r"```python\n.*?```", page, re.S):
        # There it is run.
        assert block in readme
