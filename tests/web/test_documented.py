"""The commands of the documents for operators, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
EDGE = "7711464574676418585"
OK, TIMED_OUT = 0, 28


def commands(name: str) -> list[list[str]]:
    """The lines of a page that begin with curl."""
    lines = re.findall(r"^ *(curl .*)$", (ROOT / name).read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def asked(server: str, words: list[str], edge_id: str, method: str) -> subprocess.CompletedProcess[str]:
    """Run curl with these words, against another server, edge and method."""
    there = "http://" + urlsplit(server).netloc
    put = [word.replace("http://127.0.0.1:30010", there).replace(EDGE, edge_id) for word in words]
    put = [re.sub(r"/rpcs/\w+", f"/rpcs/{method}", word) for word in put]
    return subprocess.run(["curl", "-sSf", "--max-time", "3", *put], capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here: scripts/install-system-packages curl")
@pytest.mark.parametrize("name", ["README.md", "docs/operators.md"])
def test_the_commands_of_the_documents(name: str, frontier: str) -> None:
    with urlopen(f"{frontier}/v1/edges?meta=plant-1/&page=2&page_size=10") as answer:
        edges = json.load(answer)["edges"]
    lines = commands(name)
    assert len(lines) >= 3
    for number, words in enumerate(lines):
        if words[-1].endswith("/drain"):
            continue
        done = asked(frontier, words, edges[number]["edge_id"], "echo")
        assert done.returncode == (TIMED_OUT if "-N" in words else OK), (words, done.stdout, done.stderr)
