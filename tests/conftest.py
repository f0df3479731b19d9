"""Shared by all tests: the rule on skips, settings of Hypothesis, and that no test leaves connections behind."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from hypothesis import is_hypothesis_test, settings
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client

#: With CI=true the machine is complete, so a skipped test is one that was lost.
CI = os.environ.get("CI", "").lower() == "true"

# Two busy cores make any deadline of a single example a matter of luck; each test has its own time limit.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile("ci" if CI else "default")

#: Whose tests run in one process, are told the time, and so can be measured (scripts/test --floors). Not those of
#: Hypothesis: a floor that is reached by luck is none.
COVERED = (
    *(f"tests/{name}/" for name in ("atlas", "clients", "cluster_plane", "config", "gateway", "registry")),
    *(f"tests/{name}" for name in ("switch/", "testing/", "wire/", "queues/test_fan_out.py")),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is covered."""
    for item in items:
        if item.nodeid.startswith(COVERED) and not is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("covered")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Turn a skip into a failure on CI."""
    outcome = yield
    report = outcome.get_result()
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: nothing may be skipped with CI=true, but: {reason}"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):  # type: ignore[no-untyped-def]
    """The same for whole modules, such as those of ``pytest.importorskip``."""
    outcome = yield
    report = outcome.get_result()
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: nothing may be skipped with CI=true, but: {report.longrepr}"


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    """Fail the test after which a TCP client of Twisted is still connected, or connects, though nobody waits for it."""
    before = connected()
    yield
    left = connected() - before
    # A transport that was aborted is gone with the next turn of the reactor, one that was lost with its peer's answer.
    end = time.monotonic() + 1.0
    while left and time.monotonic() < end:
        pytest_twisted.blockon(deferLater(_reactor(), 0.01))
        left = connected() - before
    assert not left, f"this test leaves connections behind: {sorted(map(repr, left))}"


def connected() -> set[Client]:
    """TCP clients of Twisted that are connected, or are about to be."""
    reactor = _reactor()
    return {each for each in (*reactor.getReaders(), *reactor.getWriters()) if isinstance(each, Client)}


def _reactor() -> Any:
    # Imported late: the plug-in chooses which one it is.
    from twisted.internet import reactor

    return reactor


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
    return port
