"""Every test has a gateway of its own, and neither contexts nor variables of the user's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .runner import World


@pytest.fixture(autouse=True)
def _nothing_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FRONTIER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FRONTIER_CONTEXTS", str(tmp_path / "contexts.yaml"))
    # Nobody listens there.
    monkeypatch.setenv("FRONTIER_CONTROL_ADDR", "127.0.0.1:1")


@pytest.fixture(autouse=True)
def _the_log_of_others() -> Iterator[None]:
    """The command owns its process, and so the log; here it gives it back."""
    loggers = [logging.getLogger(name) for name in ("frontier", "asyncio")]
    before = [(logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, logger.propagate, logger.handlers[:]) in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    monkeypatch.setenv("FRONTIER_SERVICE_ADDR", f"127.0.0.1:{world.gateway.service_port}")
    monkeypatch.setenv("FRONTIER_EDGE_ADDR", f"127.0.0.1:{world.gateway.edge_port}")
    yield world
    world.stop()
