"""Answers as Frontlas' control plane gives them, for its page: three Frontiers, one of them gone, and 120 edges."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from frontier_tx.web import web_files

FILES = {file.path: file for file in web_files("frontlas")}
HOSTILE = '<img src=x onerror="document.title=1">'
FRONTIERS = [
    {"frontier_id": name, "edges": str(edges), "services": "1", "version": "1.0.0", "connected": connected}
    for name, edges, connected in (("east", 60, True), ("west", 60, True), (HOSTILE, 0, False))
]


class Cluster:
    """What is connected."""

    def __init__(self) -> None:
        now = int(time.time())
        self.frontiers = [{**each, "last_seen": str(now - (0 if each["connected"] else 300))} for each in FRONTIERS]
        self.edges = {
            str(9_100_000_000_000_000_000 + number): {
                "meta": f"plant-{number % 3}/sensor-{number:03}",
                "addr": f"10.0.0.{number}:4000",
                "frontier_id": ("east", "west")[number % 2],
                "update_time": str(now - number),
            }
            for number in range(120)
        }

    def answer(self, verb: str, parts: list[str], query: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Status and body."""
        match verb, *parts:
            case "GET", "server":
                return 200, {"version": "1.0.0", "started": "1", "roles": ["read", "act", "call"], "edges": "120"}
            case "GET", "server", "stats":
                return 200, {"time": time.time(), "counters": {}, "gauges": {}, "quantiles": {}}
            case "GET", "server", "config":
                return 200, {"registry": "memory"}
            case "GET", "frontiers", "details":
                return 200, {"frontiers": self.frontiers}
            case "GET", "edges", "search":
                return 200, self.search(query)
            case "GET", "services", "search":
                return 200, {"services": [], "cursor": "0"}
            case _, "edges", edge_id, *_ if edge_id not in self.edges:
                return 404, {"code": 404, "reason": "NOT_FOUND", "message": "edge not online"}
            case "GET", "edges", edge_id, "details":
                return 200, {"edge_id": edge_id, "methods": ["echo"], **self.edges[edge_id]}
            case "DELETE", "edges", edge_id:
                del self.edges[edge_id]
                return 200, {}
            case "POST", "edges", _, "rpcs", "echo":
                return 200, body
        return 404, {}

    def search(self, query: dict[str, str]) -> dict[str, Any]:
        """A page of edges, by cursor."""
        texts = {name: query[name] for name in ("meta", "addr", "frontier_id") if name in query}
        found = [
            {"edge_id": edge_id, **edge}
            for edge_id, edge in self.edges.items()
            if all(edge[name].startswith(text) for name, text in texts.items())
        ]
        # As of a step that found nothing yet.
        begin, count = int(query.get("cursor", "0")) or -1, int(query["count"])
        if begin < 0:
            return {"edges": [], "cursor": "1000000"}
        begin %= 1_000_000
        end = begin + count
        return {"edges": found[begin:end], "cursor": str(end) if end < len(found) else "0"}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = [("Content-Type", "application/json")]
        file = FILES.get(target.path)
        if file is not None:
            status, headers, content = file.serve(Asked({name.lower(): text for name, text in self.headers.items()}))
        elif target.path == "/cluster/v1/events":
            # An answer without a length goes on until the connection ends.
            headers, status, content = [("Content-Type", "text/event-stream"), ("Connection", "close")], 200, b""
        else:
            parts = [unquote(part) for part in target.path.split("/")[3:]]
            status, answer = self.cluster.answer(self.command, parts, dict(parse_qsl(target.query)), body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, text in [*headers, ("Content-Length", str(len(content)))]:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET


class Asked:
    """A request, for a file."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


@contextmanager
def stand_in() -> Iterator[str]:
    """The address of such a Frontlas."""
    handler = type("ClusterHandler", (Handler,), {"cluster": Cluster()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
