"""The programs of docs/testing.md, run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.test_examples import programs


@pytest.mark.parametrize(("number", "said"), [(0, "all well\n"), (1, "it took too long\n")])
def test_programs(tmp_path: Path, number: int, said: str) -> None:
    file = tmp_path / "program.py"
    file.write_text(programs("docs/testing.md")[number])
    done = subprocess.run([sys.executable, file], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
