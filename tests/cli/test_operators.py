"""The operators' commands, against a gateway process with its control plane."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from frontier_tx.cli.failures import Exit
from frontier_tx.cli.listing import pages
from tests.launch.test_twistd import Running, configured

from .runner import process, run


@dataclass
class Server:
    """Where the doors of a gateway are."""

    running: Running
    control: str


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    listen = {"network": "tcp", "addr": "127.0.0.1:0"}
    running = Running(tmp_path, "frontier", "-c", configured(tmp_path, controlplane={"enable": True, "listen": listen}))
    said = running.wait_for("edgebound listens on")
    running.wait_for("controlplane listens on")
    said = running.out.read_text()
    for side, variable in (("edgebound", "EDGE"), ("servicebound", "SERVICE"), ("controlplane", "CONTROL")):
        found = re.search(rf"{side} listens on (127\.0\.0\.1:\d+)", said)
        assert found
        monkeypatch.setenv(f"FRONTIER_{variable}_ADDR", found[1])
    yield Server(running, found[1])
    running.process.kill()
    running.process.wait()


def edge(meta: str) -> Any:
    return process("edge", "serve", "upper", "--meta", meta, "--", "tr", "a-z", "A-Z")


def test_an_edge_is_listed_shown_called_by_its_meta_and_kicked(server: Server) -> None:
    with edge("robot-7\x1b[2J\u202e") as (_, said):
        edge_id = said.split("edge ")[1].split()[0]
        table = run("edges").out.splitlines()
        assert table[0].split() == ["ID", "META", "ADDRESS", "ONLINE", "FOR"]
        assert table[1].split()[:2] == [edge_id, "robot-7\\x1b[2J\\u202e"]
        found = run("edges", "--json", "--rpc", "upper", "--meta", "robot").json
        assert (found["count"], found["edges"][0]["meta"]) == (1, "robot-7\x1b[2J\u202e")
        assert run("edges", "--json", "--all", "--order", "meta").json["count"] == 1
        assert run("edges", "--json", "--rpc", "other").json == {"edges": [], "count": 0}
        assert run("call", "robot-7\x1b[2J\u202e", "upper", "hi").raw == b"HI"
        shown = run("show", edge_id).out
        assert "upper" in shown and "\x1b" not in shown
        assert run("show", f"edge/{edge_id}", "--json").json["methods"] == ["upper"]
        done = run("kick", edge_id, "17", "--json")
        assert (done.code, done.json["kicked"]) == (4, [f"edge/{edge_id}"])
        assert done.json["failed"] == [{"who": "17", "message": "edge not online"}]


def test_a_service_is_listed_shown_and_kicked(server: Server) -> None:
    with process("sub", "readings", "--name", "meter") as (_, said):
        service_id = said.split("service ")[1].split()[0]
        assert run("services", "--topic", "readings").out.splitlines()[1].split()[:2] == [service_id, "meter"]
        assert run("show", "service/meter", "--json").json["service_id"] == service_id
        # An ID that no edge has is that of a service.
        assert run("show", service_id).out.splitlines()[0].split() == ["kind:", "service"]
        assert run("kick", f"service/{service_id}").out == f"kicked service {service_id}\n"


def test_nobody_is_there(server: Server) -> None:
    assert run("show", "17").code == run("show", "edge/17").code == run("show", "service/17").code == 4
    assert run("show", "robot").err == "frontier: neither an edge nor a service 'robot' is online\n"
    assert run("call", "robot", "m").code == 4
    assert run("show", "table/4").code == 2


def test_the_server_itself(server: Server) -> None:
    assert run("status").out.splitlines()[:2] == ["ready", f"server:       {server.control}"]
    assert run("status", "--json").json["draining"] is False
    assert run("version", "--json").json["server"]
    assert "edgebound:" in run("config").out
    assert run("config", "--json").json["controlplane"]["enable"] is True
    assert run("log-level").out == "info\n"
    assert run("log-level", "debug").out == run("log-level").out == "debug\n"
    assert run("log-level", "loud").code == 2
    assert json.loads(run("top", "-n", "1", "--interval", "0.1", "--json").out)["gauges"]["frontier_edges"] == 0
    assert "0 edges, 0 services" in run("top", "-n", "1", "--interval", "0.1").out


def test_draining_is_meant(server: Server) -> None:
    done = run("drain")
    assert (done.code, "--yes" in done.err) == (2, True)
    assert run("drain", "--yes").code == 0
    assert server.running.process.wait(20) in (0, -signal.SIGTERM)
    assert run("edges").code == 3


def test_events(server: Server) -> None:
    kinds = ("--snapshot", "--kinds", "edge_online,edge_offline,snapshot_end")
    with edge("robot\x1b"):
        assert json.loads(run("watch", *kinds, "-n", "1", "--json").out)["meta"] == "robot\x1b"
        line = run("watch", *kinds, "-n", "1").out.split()
        assert line[1] == "edge_online" and line[4] == "robot\\x1b"


def test_events_go_on_when_the_connection_is_lost(world: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontier_tx.cli.live.AGAIN", 0.01)
    events = b"".join(b'event: k\ndata: {"kind":"edge_online","edge_id":"%d"}\n\n' % number for number in range(2))
    with answering(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: alive\n\n" + events) as address:
        done = run("watch", "--json", "-n", "5", "--control-addr", address)
    assert [json.loads(line)["edge_id"] for line in done.out.splitlines()] == ["0", "1", "0", "1", "0"]
    assert done.err.count("ended the events") == 2


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that answers everything in the same way and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as peer:
                        peer.recv(65536)
                        peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 5), (403, 5), (404, 4), (429, 7), (503, 7), (504, 6), (500, 1), (422, 1), (400, 2), (418, 1)],
)
def test_statuses_become_exit_statuses(world: object, status: int, code: int) -> None:
    body = json.dumps({"code": status, "reason": "X", "message": "not \x1b[2J so", "metadata": {}}).encode()
    with answering(answer(status, body)) as address:
        done = run("status", "--control-addr", address)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("frontier: not \\x1b[2J so")


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"null", b"\xff", b'{"edges": 4}', b"[" * 100_000])
def test_answers_that_are_none(world: object, body: bytes) -> None:
    with answering(answer(200, body)) as address:
        done = run("edges", "--control-addr", address)
    assert done.code in (0, 1) and "fault" not in done.err and "Traceback" not in done.err


def test_no_control_plane(world: object) -> None:
    done = run("edges")
    assert done.code == 3
    assert done.err == (
        "frontier: cannot reach the control plane at 127.0.0.1:1: Connection refused. "
        "Is the gateway running, with `controlplane: {enable: true}`? `--server` says where\n"
    )
    assert run("call", "robot", "m").code == 3


def test_a_port_that_is_no_control_plane(world: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    done = run("edges", "--control-addr", os.environ["FRONTIER_SERVICE_ADDR"])
    assert done.code in (Exit.UNREACHABLE, Exit.TIMEOUT) and "Traceback" not in done.err


class Moving:
    """A control plane on which an edge leaves between every two pages, and many came in the same second."""

    def __init__(self, times: list[int]) -> None:
        self.edges = [{"edge_id": str(number), "create_time": str(when)} for number, when in enumerate(times)]
        self.asked = 0

    def page(self, kind: str, path: str, **query: Any) -> tuple[list[dict[str, str]], int, int]:
        assert (path, query["order"], query["page"]) == ("/edges", "+create_time", 1)
        since = int(query.get("start_time", 0))
        found = [each for each in self.edges if int(each["create_time"]) >= since][: query["page_size"]]
        self.asked += 1
        # Gone are those of the first page, which shifts all others.
        self.edges = self.edges[3:]
        return found, len(self.edges), 0


@pytest.mark.parametrize(
    "times", [list(range(1, 5000)), [7] * 5000, [1, 2] + [3] * 3500 + list(range(4, 900)), [], [5]]
)
def test_pages_lose_nobody_and_name_nobody_twice(times: list[int]) -> None:
    control = Moving(times)
    found = [int(each["edge_id"]) for each in pages(control, "edges", {})]  # type: ignore[arg-type]
    assert len(found) == len(set(found))
    assert set(found) >= set(range(3 * control.asked, len(times)))
    assert set(found) == set(range(len(times)))
