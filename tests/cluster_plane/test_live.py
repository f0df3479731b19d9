"""A Frontlas process with Frontiers and edges, tried as its own description says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rpc.conformance import conform
from tests.web.conftest import serve


@pytest.fixture
def address() -> Iterator[str]:
    for found in serve(module="tests.web.cluster"):
        yield found.removeprefix("http://")


@pytest.mark.timeout(120)
def test_schemathesis(address: str) -> None:
    # Those of the first row never end, or end everything. Those of the second answer 500 to a question without ids, as
    # clients know it.
    without = ("/cluster/v1/events", "/cluster/v1/watch", "/cluster/v1/server/drain")
    known = ("/cluster/v1/edges", "/cluster/v1/services")
    assert conform(address, *without, *known) > 15
