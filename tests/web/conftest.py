"""A browser, and servers that its page is of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("selenium", reason="selenium drives the browser: pip install -e '.[test]'")

from tests.web.browser import Browser, chromium


@pytest.fixture(scope="session")
def _browser() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("no chromium and chromedriver here: scripts/install-system-packages chromium chromium-driver")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(_browser: Browser) -> Iterator[Browser]:
    """A browser of desktop size; after the test its console must be empty, and no other host asked for anything."""
    _browser.size(1280)
    _browser.complaints()
    yield _browser
    complaints = _browser.complaints()
    _browser.run("sessionStorage.clear()")
    _browser.driver.get("about:blank")
    assert complaints == []


def serve(*arguments: str, module: str = "tests.web.world") -> Iterator[str]:
    """Run a module with these arguments; gives the address that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def frontier() -> Iterator[str]:
    """The address of a Frontier with 120 edges, a hostile one and two services."""
    yield from serve()


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of one that takes the tokens `all-roles` and `read-only`, and nobody without."""
    yield from serve("token")


@pytest.fixture
def frontlas() -> Iterator[str]:
    """The address of a Frontlas with two Frontiers and 120 edges, and a Frontier that left a moment ago."""
    yield from serve(module="tests.web.cluster")
