"""Tries a server as its own description says: with schemathesis, which makes up requests and looks at the answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings


def conform(address: str, *without: str) -> int:
    """Try every operation of ``/openapi.json`` but those of the paths ``without``; gives how many there were."""
    schemathesis = pytest.importorskip("schemathesis", reason="pip install -e '.[dev]'")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
    schema = schemathesis.openapi.from_url(f"http://{address}/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in without:
            continue

        @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def tries(case: Any) -> None:
            case.call_and_validate(checks=checks, timeout=10)

        tries()
        tried += 1
    return tried
