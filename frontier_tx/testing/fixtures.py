"""pytest fixtures: ``pytest_plugins = ["frontier_tx.testing.fixtures"]`` in the program's conftest.py.

``frontier_memory`` needs pytest alone, ``frontier_local`` pytest-twisted, ``frontier_aio`` and ``frontier_aio_local``
pytest-asyncio; each plug-in is asked for only by those who use its fixtures.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from typing import Any, cast

import pytest

from frontier_tx.testing.memory import MemoryGateway


@pytest.fixture
def frontier_memory() -> Iterator[MemoryGateway]:
    """A gateway in memory, with a clock that the test moves, for Twisted programs."""
    with MemoryGateway() as gateway:
        yield gateway


if find_spec("pytest_twisted"):
    import pytest_twisted
    from twisted.internet.defer import ensureDeferred

    @pytest.fixture
    def frontier_local() -> Iterator[Any]:
        """A gateway on free ports in the reactor of pytest-twisted."""
        from frontier_tx.testing.local import LocalGateway

        gateway = LocalGateway()
        pytest_twisted.blockon(ensureDeferred(gateway.start()))
        yield gateway
        pytest_twisted.blockon(ensureDeferred(gateway.stop()))


if find_spec("pytest_asyncio"):
    import pytest_asyncio

    from frontier_tx.testing.aio import LocalGateway as AioLocal
    from frontier_tx.testing.aio import MemoryGateway as AioMemory

    _fixture = cast("Callable[[Any], Any]", pytest_asyncio.fixture)

    @_fixture
    async def frontier_aio() -> AsyncIterator[AioMemory]:
        """A gateway in the test's own asyncio loop, without a port."""
        async with AioMemory() as gateway:
            yield gateway

    @_fixture
    async def frontier_aio_local() -> AsyncIterator[AioLocal]:
        """A gateway on free ports in the test's own asyncio loop."""
        async with AioLocal() as gateway:
            yield gateway
