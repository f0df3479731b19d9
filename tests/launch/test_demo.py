"""The demonstrations tell their story to the end, and tidy up when they are interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.redis.servers import need

from .test_twistd import PATIENCE, default_signals, environment

#: Lines of which each is in the output, in this order.
STORY = {
    "frontier_tx.demos.gateway": [
        r"\$ twistd -n --pidfile= frontier",
        r"calls 'temperature' at the edge +-> 21\.5 C",
        r"-> edge \d+, you are in hall 3",
        r"-> error: edge not online",
        r"-> [\d,]+ calls/s",
        r"has the acknowledgement",
        r"the edge refused it: the valve is stuck",
        r"\[#{40}\] 100 %",
        r"has the whole file, sha256 [0-9a-f]{16}\.\.\., as sent",
        r"all processes stopped",
    ],
    "frontier_tx.demos.queue": [
        r"published '0' to the topic 'readings' and has the acknowledgement: Redis has it",
        r"reads the stream 'readings': value 0, edge-id \d+, topic readings",
        r"published 199 more +-> [\d,]+ messages/s, all acknowledged\n",
        r"redis \| kill -9",
        r"published 200 more +-> [\d,]+ messages/s, all acknowledged: on the disk",
        r"/readyz: ready; queue redis: .*, 200 messages \(\d+ bytes\) in its spool",
        r"gateway \| kill -9",
        r"200 messages \(\d+ bytes\) in its spool",
        r"has 400 messages, in the order in which they were published",
        r"/readyz: ready\n",
        r"all processes stopped",
    ],
    "frontier_tx.demos.cluster": [
        r"frontlas \| services ask on port \d+",
        r"frontier03 \| edges connect to port \d+",
        r"calls all 6: all answer",
        r"frontier03 \| kill -9",
        r"all are back, elsewhere",
        r"calls all 6 again: all answer",
        r"frontlas \| edges are at: (frontier0[12] \d(, )?)+\n",
        r"all processes stopped",
    ],
}
OPTIONS = {
    "frontier_tx.demos.gateway": ["--megabytes", "2"],
    "frontier_tx.demos.queue": ["--messages", "200"],
    "frontier_tx.demos.cluster": ["--edges", "6"],
}
#: So that it goes on until it is interrupted.
LONG = {
    "frontier_tx.demos.gateway": ["--megabytes", "9000"],
    "frontier_tx.demos.queue": ["--messages", "9000000"],
    "frontier_tx.demos.cluster": [],
}


#: What a shell may have set for other servers.
ELSEWHERE = {
    "FRONTIER_EDGEBOUND_PORT": "1",
    "FRONTLAS_CONTROLPLANE_PORT": "1",
    "REDIS_TYPE": "cluster",
    "LOG_FORMAT": "json",
}


def start(module: str, folder: Path, options: list[str]) -> subprocess.Popen[str]:
    if module != "frontier_tx.demos.gateway":
        need("redis-server")
    return subprocess.Popen(
        [sys.executable, "-u", "-m", module, *options],
        cwd=folder,
        env=environment(TMPDIR=str(folder), **ELSEWHERE),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
    )


def of_session(number: int) -> list[str]:
    """The processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
            if session == number:
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended meanwhile
    return found


@pytest.mark.parametrize("module", STORY)
def test_the_story_is_told_to_its_end(module: str, tmp_path: Path) -> None:
    process = start(module, tmp_path, OPTIONS[module])
    out, _ = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, out
    assert re.search(".*".join(STORY[module]), out, re.S), out
    assert "\r" not in out
    assert of_session(process.pid) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("module", STORY)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_story_leaves_nothing_behind(module: str, number: int, tmp_path: Path) -> None:
    process = start(module, tmp_path, LONG[module])
    assert process.stdout is not None
    told = ""
    deadline = time.monotonic() + PATIENCE
    while "| edges connect to" not in told and time.monotonic() < deadline:
        told += process.stdout.readline()
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, told + out
    assert out.endswith("interrupted; all processes stopped\n") and "Traceback" not in out
    assert of_session(process.pid) == []
    assert os.listdir(tmp_path) == []
