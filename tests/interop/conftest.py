"""A gateway process, and the ends that talk through it.

FRONTIER_GATEWAY_COMMAND names another gateway for the same tests, with `{config}` for its configuration. Where that is
the Go gateway, set FRONTIER_GATEWAY_DIFFERS too: tests marked `differs` hold what it does otherwise, and are left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateways import StartedGateway, own_command, stop_all
from tests.go_modules import BUILD_SECONDS, NoGo
from tests.interop.ends import Driver, Ends
from tests.interop.go_driver import GoDriver, build
from tests.interop.python_driver import PythonDriver

HERE = Path(__file__).parent
OTHER = os.environ.get("FRONTIER_GATEWAY_COMMAND", "")

TEMPLATE = """\
daemon:
  frontier_id: "interop"
edgebound:
  listen: {network: tcp, addr: "{{EDGE_ADDR}}", advertised_addr: "{{EDGE_ADDR}}"}
  edgeid_alloc_when_no_idservice_on: ALLOC
servicebound:
  listen: {network: tcp, addr: "{{SERVICE_ADDR}}", advertised_addr: "{{SERVICE_ADDR}}"}
exchange:
  hashby: HASHBY
controlplane:
  enable: false
frontlas:
  enable: false
observability:
  enable: false
"""

StartGateway = Callable[..., StartedGateway]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "differs(why): the Go gateway does otherwise, so it is left out there")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Whichever file a worker begins with builds the Go program, on a fresh machine with all of Go's library.
    for item in {item.path: item for item in reversed(items) if item.path.is_relative_to(HERE)}.values():
        item.add_marker(pytest.mark.timeout(2 * BUILD_SECONDS), append=False)
    if not os.environ.get("FRONTIER_GATEWAY_DIFFERS"):
        return
    for item in items:
        marker = item.get_closest_marker("differs")
        if marker:
            item.add_marker(pytest.mark.skip(reason=f"the Go gateway: {marker.args[0]}"))


@pytest.fixture(scope="session")
def start_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Starts gateways; all of them end with the session."""
    started: list[StartedGateway] = []

    def start(*, alloc: bool = True, hashby: str = "edgeid", more: str = "") -> StartedGateway:
        template = TEMPLATE.replace("ALLOC", str(alloc).lower()).replace("HASHBY", hashby) + more
        gateway = StartedGateway(
            "the gateway",
            OTHER or own_command(),
            tmp_path_factory.mktemp("gateway"),
            template,
            {"FRONTIER_DRAIN_SECONDS": "1"},
        )
        started.append(gateway)
        gateway.start()
        return gateway

    yield start
    stop_all(started)


@pytest.fixture(scope="session")
def gateway(start_gateway: StartGateway) -> StartedGateway:
    """One gateway for all tests that need no configuration of their own and change nothing for others."""
    return start_gateway()


@pytest.fixture(scope="module")
def module_gateway(start_gateway: StartGateway) -> Iterator[StartedGateway]:
    """A gateway of one module's own."""
    gateway = start_gateway()
    yield gateway
    stop_all([gateway])


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoDriver]:
    """The Go program that plays ends, built once."""
    folder = tmp_path_factory.mktemp("goends")
    try:
        program = build(folder)
    except NoGo as why:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(why))
        pytest.skip(str(why))
    driver = GoDriver(program, folder / "goends.log")
    yield driver
    driver.stop()


@pytest.fixture
def gateway_with(start_gateway: StartGateway) -> Iterator[StartGateway]:
    """Starts gateways that end with the test."""
    started: list[StartedGateway] = []

    def start(**options: Any) -> StartedGateway:
        started.append(start_gateway(**options))
        return started[-1]

    yield start
    stop_all(started)


ConnectTo = Callable[[StartedGateway], Ends]


@pytest.fixture
def ends_of(go: GoDriver, gateway_with: StartGateway) -> Iterator[ConnectTo]:
    """Ends at a given gateway; afterwards they leave, and the gateway must still be there.

    Asks for `gateway_with` only so that those gateways end after this.
    """
    made: list[tuple[Ends, StartedGateway]] = []

    def connect(gateway: StartedGateway) -> Ends:
        ends = Ends(go, go, gateway.edge, gateway.service)
        made.append((ends, gateway))
        return ends

    yield connect
    for ends, gateway in made:
        ends.close()
        assert gateway.alive(), "the gateway died:\n" + "\n".join(gateway.last_words())


#: Who plays edges and who plays services. Twisted's and asyncio's clients are one core, so each plays one of them here.
PAIRINGS = ["go-go", "go-asyncio", "twisted-go"]


@pytest.fixture(scope="session")
def players(go: GoDriver) -> Iterator[dict[str, Driver]]:
    """Drivers by the name of who plays."""
    python = {"asyncio": PythonDriver("asyncio"), "twisted": PythonDriver("twisted")}
    yield {"go": go, **python}
    for driver in python.values():
        driver.stop()


@pytest.fixture(params=PAIRINGS)
def paired(
    request: pytest.FixtureRequest, ends_of: ConnectTo, gateway: StartedGateway, players: dict[str, Driver]
) -> Ends:
    """Ends of each pairing in turn."""
    edges, services = str(request.param).split("-")
    ends = ends_of(gateway)
    ends.edges, ends.services = players[edges], players[services]
    return ends


@pytest.fixture
def ends(ends_of: ConnectTo, gateway: StartedGateway) -> Ends:
    return ends_of(gateway)
