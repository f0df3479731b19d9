"""A whole cluster of real processes: Redis, two Frontlas, two gateways, edges; and what is left when parts die."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from frontier_tx.aio import Edge
from tests.cluster.processes import Frontier, Frontlas, Server, wait_until
from tests.redis.servers import RedisServer, free_ports

EDGES = 10


class Cluster:
    """Redis, Frontlas a and b, gateways one and two."""

    def __init__(self, folder: Path) -> None:
        # Taken all at once: a port that nobody listens on yet would be given out twice.
        self.ports = free_ports(13)
        self.redis = RedisServer(self.ports[0])
        self.a = Frontlas(folder, "a", self.redis.port, self.ports[1:4])
        self.b = Frontlas(folder, "b", self.redis.port, self.ports[4:7])
        self.one = Frontier(folder, "one", [self.a, self.b], self.ports[7:9])
        self.two = Frontier(folder, "two", [self.b, self.a], self.ports[9:11])
        self._servers: list[Server] = [self.a, self.b, self.one, self.two]

    def start(self) -> None:
        self.redis.start()
        for server in self._servers:
            server.start()
        for frontlas in (self.a, self.b):
            what = f"{frontlas.name} lists both gateways"
            wait_until(lambda frontlas=frontlas: self.listed(frontlas) == ["one", "two"], what, 30)

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self.redis.close()

    @staticmethod
    def listed(frontlas: Frontlas) -> list[str]:
        answer = frontlas.ask("/cluster/v1/frontiers")
        return sorted(each["frontierId"] for each in answer["frontiers"]) if isinstance(answer, dict) else []

    def agree(self, count: int, seconds: float = 25) -> None:
        """Both Frontlas count so many edges."""
        for frontlas in (self.a, self.b):
            what = f"{frontlas.name} counts {count} edges, not {frontlas.edges()}"
            wait_until(lambda frontlas=frontlas: frontlas.edges() == count, what, seconds)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


@asynccontextmanager
async def edges_at(*gateways: Frontier) -> AsyncIterator[list[Edge]]:
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(Edge("127.0.0.1", gateway.edge_port, meta=b"edge"))
            for gateway in gateways
            for _ in range(EDGES)
        ]
        yield made


async def apart(work: object, *args: object) -> None:
    """Run something that blocks while the edges of this loop stay alive."""
    await asyncio.get_running_loop().run_in_executor(None, work, *args)  # type: ignore[arg-type]


@pytest.mark.timeout(400)
def test_a_cluster_through_the_death_of_its_parts(cluster: Cluster) -> None:
    """One story, as starting the processes is what takes the time."""

    async def story() -> None:
        async with edges_at(cluster.one, cluster.two) as edges:
            first, last = edges[0].edge_id, edges[-1].edge_id
            await apart(cluster.agree, 2 * EDGES)
            assert cluster.a.holder(first) == cluster.b.holder(first) == "one"
            assert cluster.a.holder(last) == "two"
            assert cluster.a.ask("/cluster/v1/frontier?edge_id=4711") == 404

            # Redis comes back empty: both Frontlas write again what their gateways told them.
            cluster.redis.cli("FLUSHALL")
            await apart(cluster.agree, 2 * EDGES, 45)
            assert cluster.b.holder(first) == "one"

            # A Frontlas is killed: its gateways go to the other one, and nothing is lost.
            cluster.a.send(signal.SIGKILL)
            await apart(wait_until, lambda: cluster.b.edges() == 2 * EDGES, "b counts all edges", 45)
            cluster.a.start()
            await apart(cluster.agree, 2 * EDGES, 45)

            # A gateway is killed: its edges are offline, those of the other one are not. That is at once where its link
            # ends with it, and with its lease (30 s) where the link was just lost with the Frontlas that died.
            cluster.two.send(signal.SIGKILL)
            await apart(cluster.agree, EDGES, 45)
            assert cluster.a.holder(last) == ""
            assert cluster.a.holder(first) == "one"
            cluster.two.start()
            # Its edges come back by themselves, with new ids.
            await apart(cluster.agree, 2 * EDGES, 45)
        await apart(cluster.agree, 0)

    asyncio.run(story())


@pytest.mark.timeout(200)
def test_a_second_gateway_with_the_same_id_is_refused_on_both_sides(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Frontier(folder, "one", [cluster.a], cluster.ports[11:])
    try:
        other.start()
        wait_until(lambda: "frontier already set" in other.log(), "the newcomer is told", 20)
        assert cluster.listed(cluster.a) == ["one", "two"]
        wait_until(lambda: "frontier already set" in cluster.a.log(), "the log of Frontlas names it", 20)
    finally:
        other.close()


@pytest.mark.timeout(200)
def test_a_second_gateway_with_the_same_id_ends_where_it_is_to(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Frontier(folder, "one", [cluster.a], cluster.ports[11:], exit_when_id_taken=True)
    try:
        other.start()
        assert other.wait(20) == 1
        assert "exit_when_id_taken" in other.log().splitlines()[-1]
    finally:
        other.close()
