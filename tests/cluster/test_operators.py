"""Operators of a cluster of real processes: calls and kicks reach edges at the Frontier that holds them."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frontier_tx.aio import Edge, HandlerError, Request
from tests.cluster.processes import Frontier, Frontlas, wait_until
from tests.cluster.test_cluster import apart
from tests.redis.servers import RedisServer, free_ports

Answer = tuple[int, Any]


class Cluster:
    """Redis, a Frontlas, and Frontiers one and two."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(8)
        self.redis = RedisServer(ports[0])
        self.frontlas = Frontlas(folder, "frontlas", self.redis.port, ports[1:4])
        self.one = Frontier(folder, "one", [self.frontlas], ports[4:6])
        self.two = Frontier(folder, "two", [self.frontlas], ports[6:8])
        self.servers = [self.frontlas, self.one, self.two]

    def ask(self, verb: str, path: str, body: bytes | None = None) -> Answer:
        """Status and parsed body, or the body as it is."""
        url = f"http://127.0.0.1:{self.frontlas.api}/cluster/v1{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, method=verb), timeout=15) as answer:
                data, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            data, status = error.read(), error.code
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data

    def frontiers(self) -> dict[str, Any]:
        """What is listed, by id."""
        _, found = self.ask("GET", "/frontiers/details")
        return {each["frontier_id"]: each for each in found["frontiers"]}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.redis.start()
        for server in made.servers:
            server.start()
        wait_until(lambda: made.frontlas.edges() == 0, "Frontlas answers", 30)
        wait_until(lambda: set(made.frontiers()) == {"one", "two"}, "both are listed", 30)
        yield made
    finally:
        for server in made.servers:
            server.close()
        made.redis.close()


async def an_edge(gateway: Frontier, meta: bytes) -> Edge:
    edge = Edge("127.0.0.1", gateway.edge_port, meta=meta, reconnect=None)
    await edge.connect()

    def refuse(request: Request) -> bytes:
        raise HandlerError("out of paper")

    await edge.register("echo", lambda request: request.data)
    await edge.register("fail", refuse)
    return edge


@pytest.mark.timeout(200)
def test_edges_of_two_frontiers(cluster: Cluster) -> None:
    async def story() -> None:
        edges = [await an_edge(cluster.one, b"pump-1"), await an_edge(cluster.two, b"pump-2")]
        await apart(wait_until, lambda: cluster.frontlas.edges() == 2, "both edges are counted")

        def all_is_reached() -> None:
            for number, (edge, holder) in enumerate(zip(edges, ("one", "two"), strict=True), 1):
                path = f"/edges/{edge.edge_id}"
                assert cluster.ask("POST", f"{path}/rpcs/echo", b"hello") == (200, b"hello")
                status, error = cluster.ask("POST", f"{path}/rpcs/fail", b"")
                assert (status, error["reason"], error["message"]) == (422, "EDGE_ERROR", "out of paper")
                _, details = cluster.ask("GET", f"{path}/details")
                assert (details["meta"], details["frontier_id"]) == (f"pump-{number}", holder)
                assert details["methods"] == ["echo", "fail"]
                _, found = cluster.ask("GET", f"/edges/search?meta=pump&frontier_id={holder}")
                assert [each["edge_id"] for each in found["edges"]] == [str(edge.edge_id)]
            assert cluster.ask("DELETE", f"/edges/{edges[0].edge_id}") == (200, {})
            assert cluster.ask("GET", f"/edges/{edges[0].edge_id}/details")[0] == 404
            assert "kicked" in cluster.one.log()
            cluster.two.send(signal.SIGSTOP)
            status, error = cluster.ask("POST", f"/edges/{edges[1].edge_id}/rpcs/echo?timeout=1s", b"x")
            assert (status, error["reason"]) == (504, "DEADLINE_EXCEEDED")
            cluster.two.send(signal.SIGCONT)
            assert cluster.ask("POST", f"/edges/{edges[1].edge_id}/rpcs/echo", b"x") == (200, b"x")

        await apart(all_is_reached)
        assert not edges[0].online
        for edge in edges:
            await edge.close()

    asyncio.run(story())
