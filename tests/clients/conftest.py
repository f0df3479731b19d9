"""A gateway in this process on free loopback ports, and clients of it that leave with the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from frontier_tx.clients import Edge, Service
from frontier_tx.testing import LocalGateway


class World(LocalGateway):
    """A gateway whose clients are connected when they are made."""

    async def edge(self, **options: Any) -> Edge:  # type: ignore[override]
        made = super().edge(**options)
        await made.connect()
        return made

    async def service(self, **options: Any) -> Service:  # type: ignore[override]
        made = super().service(**options)
        await made.connect()
        return made


@pytest.fixture
def world() -> Iterator[World]:
    made = World(reactor)
    pytest_twisted.blockon(ensureDeferred(made.start()))
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))
