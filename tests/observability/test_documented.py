"""docs/observability.md lists what /metrics shows, and promtool has nothing to say against it."""

from __future__ import annotations

import re
import runpy
import subprocess

import pytest
from prometheus_client import generate_latest

from frontier_tx.gateway.endings import MEANINGS
from frontier_tx.switch.tally import Tally
from tests.launch.test_twistd import ROOT
from tests.redis.servers import need

PAGE = ROOT / "docs" / "observability.md"
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "write-metrics-docs"))


def test_the_tables_are_up_to_date() -> None:
    assert PAGE.read_text() == SCRIPT["written"](), "run scripts/write-metrics-docs"


@pytest.mark.parametrize("server", ["frontier", "frontlas"])
def test_promtool_has_nothing_to_say(server: str) -> None:
    done = subprocess.run(
        [need("promtool"), "check", "metrics"], input=generate_latest(SCRIPT[server]()), capture_output=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_each_word_is_explained() -> None:
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.M))
    assert set(Tally().outcomes()) <= set(rows)
    assert {word: rows[word] for word in MEANINGS} == MEANINGS


def test_names_in_other_documents_are_those_of_the_tables() -> None:
    known = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram)", PAGE.read_text(), re.M))
    for name in ("limits", "configuration", "queues", "cluster-plane", "gateway", "operators", "registry"):
        text = (ROOT / "docs" / f"{name}.md").read_text()
        shown = set(
            re.findall(r"`((?:frontier|frontlas|control_plane)_\w+_(?:total|bytes|seconds|limit|waiting))[`{]", text)
        )
        assert shown <= known, name
