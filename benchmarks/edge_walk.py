"""The way of "an edge is online" from a Frontier through Frontlas to Redis and back, counted: files and functions.

    python -m benchmarks.edge_walk [--list]

A Frontier's reporter, a Frontlas and a Redis of its own, joined by real sockets, in one process. An edge comes online
when nothing else is under way; from then until the reporter has the answer each call of a function of this project is
noted (``sys.setprofile``). Counted are different functions, comprehensions left out, and the files that they are in. Of
some edges the one counts during which no timer ran.
``--list`` names them in the order of their first call.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater

from benchmarks.registry_cost import Server
from frontier_tx.atlas.messages import FrontierMeta
from frontier_tx.atlas.protocols import AtlasServerFactory
from frontier_tx.atlas.reporter import Reporter
from frontier_tx.config.redis import Redis, Standalone
from frontier_tx.redis.connect import make_redis
from frontier_tx.switch.legs import NO_TRANSPORT, Kind, Leg
from frontier_tx.switch.repository import Repository
from frontier_tx.timers import Alarms
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.states import Role
from frontlas_tx.frontier_plane import FrontierPlane
from frontlas_tx.registry.redis.registry import RedisRegistry
from frontlas_tx.registry.redis.scripts import ALL

reactor: Any = _reactor
ROOT = str(Path(__file__).parent.parent)
OURS = tuple(f"{ROOT}/{package}/" for package in ("frontier_tx", "frontlas_tx"))


class Walk:
    """Notes each function of this project that is called."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()

    def __call__(self, frame: FrameType, what: str, _argument: object) -> None:
        code = frame.f_code
        if what == "call" and code.co_filename.startswith(OURS) and not code.co_name.endswith("comp>"):
            self.calls[code.co_filename.removeprefix(f"{ROOT}/"), code.co_qualname] += 1


async def measure(port: int) -> Walk:
    """Some edges come online, one after the other; gives what was called for the one that needed least."""
    redis = make_redis(reactor, Redis(standalone=Standalone(addr=f"127.0.0.1:{port}")), ALL)
    registry = RedisRegistry(reactor, redis)
    await registry.start()
    alarms, outlet, repository = Alarms(reactor), Outlet(reactor), Repository()
    factory = AtlasServerFactory(FrontierPlane(registry, reactor), alarms, outlet)
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", listening.getHost().port)
    reporter = Reporter(repository, [endpoint], FrontierMeta("one", "a:1", "a:2", "boot"), reactor, alarms, outlet)
    reporter.start()
    await deferLater(reactor, 1.0)
    walks = []
    for edge_id in range(1, 22):
        leg = Leg(Kind.EDGE, Connection(Role.SERVER, 0.0), NO_TRANSPORT, "h:1", reactor.seconds())
        leg.id, leg.online = edge_id, True
        reported = reporter.reported
        while registry._clock.seconds() - registry._index._known_at > 0.1:
            # The look at the directory is not a part of the way.
            await deferLater(reactor, 0.01)
        walks.append(Walk())
        sys.setprofile(walks[-1])
        reporter.online(leg)
        while reporter.reported == reported:
            await deferLater(reactor, 0.0005)
        sys.setprofile(None)
        await deferLater(reactor, 0.02)
    assert await registry.frontier_of_edge(21) is not None
    await reporter.stop()
    await listening.stopListening()
    await registry.stop()
    alarms.stop()
    return min(walks, key=lambda walk: len(walk.calls))


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the functions")
    options = parser.parse_args()
    server = Server()

    async def run() -> None:
        try:
            walk = await measure(server.port)
        finally:
            reactor.stop()
        if options.list:
            for (file, name), times in walk.calls.items():
                print(f"{times:4} {file} {name}")
        files = Counter(file for file, _name in walk.calls)
        print(f"{len(walk.calls)} functions in {len(files)} files, {sum(walk.calls.values())} calls")

    reactor.callWhenRunning(lambda: ensureDeferred(run()))
    try:
        reactor.run()
    finally:
        sys.setprofile(None)
        server.close()


if __name__ == "__main__":
    main()
