"""A real Prometheus scrapes both servers under load; the dashboards and alerts work with what it finds."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from frontier_tx.aio import Edge, HandlerError, RemoteError, Request, Service
from tests.cluster.processes import Frontier, Frontlas
from tests.launch.test_twistd import ROOT
from tests.redis.servers import RedisServer, free_ports, need, wait_until

pytestmark = pytest.mark.timeout(180)

PROMETHEUS = ROOT / "configs" / "prometheus"
DASHBOARDS = sorted((ROOT / "configs" / "grafana").glob("*.json"))
ALERTS = PROMETHEUS / "alerts.yml"


def panels() -> Iterator[tuple[str, list[str]]]:
    """The title and the expressions of each panel."""
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield f"{dashboard['title']}: {panel['title']}", [target["expr"] for target in panel["targets"]]


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from group["rules"]


class Prometheus:
    """A server of its own, which looks every half second."""

    def __init__(self, folder: Path, port: int, targets: dict[str, int]) -> None:
        self.port = port
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            need("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, path: str, **words: str) -> Any:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(words)}", timeout=10
        ) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def sees_all(self) -> bool:
        try:
            return {target["health"] for target in self.ask("targets")["activeTargets"]} == {"up"}
        except OSError:
            return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


async def traffic(edge_port: int, service_port: int, seconds: float) -> None:
    """Calls, messages and streams in both directions, some of which fail; edges come and go."""

    async def handler(request: Request) -> bytes:
        if request.data == b"no":
            raise HandlerError("no")
        return request.data

    async def take(end: Any) -> None:
        async for message in end:
            message.ack()

    async with Service(f"127.0.0.1:{service_port}", name="s", topics=["mine"]) as service:
        await service.register("echo", handler)
        until = asyncio.get_running_loop().time() + seconds
        taking = asyncio.create_task(take(service))
        while asyncio.get_running_loop().time() < until:
            async with Edge(f"127.0.0.1:{edge_port}") as edge:
                await edge.register("echo", handler)
                taken = asyncio.create_task(take(edge))
                edge_id = edge.edge_id
                assert edge_id is not None
                for each in range(10):
                    await edge.call("echo", b"x")
                    await service.call(edge_id, "echo", b"x")
                    await edge.publish("mine", b"x")
                    await edge.publish("queued", b"x")
                    await service.publish(edge_id, b"x")
                    with pytest.raises(RemoteError):
                        await edge.call("echo" if each % 2 else "unknown", b"no")
                stream = await service.open_stream(edge_id)
                stream.write(bytes(1000))
                await stream.close()
                await asyncio.sleep(0.1)
                taken.cancel()
        taking.cancel()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    need("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    ports = free_ports(9)
    redis = RedisServer(ports[0]).start()
    frontlas = Frontlas(folder, "frontlas", redis.port, ports[1:4])
    frontier = Frontier(folder, "frontier", [frontlas], ports[4:6])
    frontier.config["observability"] = {"addr": f"127.0.0.1:{ports[6]}"}
    frontier.config["controlplane"] = {"enable": True, "listen": {"addr": f"127.0.0.1:{ports[7]}"}}
    frontier.config["mqm"] = {
        "redis": {
            "enable": True,
            "addrs": [redis.addr],
            "stream": {"enable": True},
            "producer": {"channels": ["queued"]},
        },
        "spool": {"enable": True, "path": str(folder / "spool")},
    }
    frontier.write()
    server: Prometheus | None = None
    try:
        frontlas.start()
        frontier.start()
        server = Prometheus(folder, ports[8], {"frontier": ports[6], "frontlas": ports[3]})
        wait_until(server.sees_all, "Prometheus sees both", 30)
        asked = [f"http://127.0.0.1:{ports[7]}/v1/edges", f"http://127.0.0.1:{ports[1]}/cluster/v1/edges/count"]
        for _ in range(2):
            asyncio.run(traffic(ports[4], ports[5], 3))
            for url in asked:
                urllib.request.urlopen(url, timeout=5).close()
        wait_until(lambda: bool(server and server.values("rate(control_plane_requests_total[10s]) > 0")), "a rate", 10)
        yield server
    finally:
        if server is not None:
            server.close()
        for each in (frontier, frontlas, redis):
            each.close()


def test_each_panel_of_the_dashboards_has_data(prometheus: Prometheus) -> None:
    empty = []
    for title, expressions in panels():
        for each in expressions:
            expression = each.replace("$__rate_interval", "20s").replace("$instance", ".*")
            if not prometheus.values(expression):
                empty.append((title, expression))
    assert empty == []


def test_each_metric_has_its_unit_and_its_meaning(prometheus: Prometheus) -> None:
    known = {name for name in prometheus.ask("metadata") if name.startswith(("frontier_", "frontlas_"))}
    documented = set(re.findall(r"^\| `(front\w+)`", (ROOT / "docs" / "observability.md").read_text(), re.M))
    assert known and known <= documented


def test_no_alert_fires_on_a_good_day(prometheus: Prometheus) -> None:
    firing = {
        alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"
    }
    assert firing == set()
    # What the alerts look at is there: an expression without its condition has data.
    for alert in alerts():
        looked_at = re.sub(r"\s(==|>)\s.*$", "", alert["expr"].strip(), flags=re.S).replace("[5m]", "[20s]")
        if "reason=" not in looked_at and "outcome=" not in looked_at:
            assert prometheus.values(looked_at), alert["alert"]


@pytest.mark.parametrize("words", [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml")])
def test_promtool_takes_the_files(words: tuple[str, ...]) -> None:
    done = subprocess.run([need("promtool"), *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tried() -> None:
    done = subprocess.run(
        [need("promtool"), "test", "rules", "alerts_test.yml"],
        cwd=PROMETHEUS, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in tests[0]["alert_rule_test"]}
    assert fired == quiet == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_one(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    assert dashboard["uid"] and dashboard["title"] and dashboard["schemaVersion"] >= 36
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", file.read_text()))
    assert used <= names
    places = [tuple(panel["gridPos"][key] for key in ("x", "y")) for panel in dashboard["panels"]]
    assert len(places) == len(set(places)) and all(x < 24 for x, _ in places)
