"""The two ends of the worlds that the tests of a file make for themselves."""

from __future__ import annotations

import pytest

from .world import Peer, World


@pytest.fixture
def edge(world: World) -> Peer:
    """The first that came to the test's ``world``."""
    return world.peers[0]


@pytest.fixture
def service(world: World) -> Peer:
    """The second one."""
    return world.peers[1]
