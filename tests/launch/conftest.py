"""No server outlives the test that started it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .test_twistd import Running


@pytest.fixture(autouse=True)
def _no_server_is_left() -> Iterator[None]:
    yield
    started, Running.started = Running.started, []
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
