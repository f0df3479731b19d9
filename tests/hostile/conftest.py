"""The gateway of these tests, and the Go program of those of ``tests.interop``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.gateways import StartedGateway, own_command, stop_all
from tests.interop.conftest import go

__all__ = ["gateway", "go"]


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """One that ends with the test, and has logged no failure."""
    started = StartedGateway("the gateway", own_command(), tmp_path_factory.mktemp("gateway"))
    started.start()
    yield started
    stop_all([started])
    assert "Traceback" not in started.log.read_text(errors="replace")
