"""Builds Go programs for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

#: What fetching the modules and building the programs of one module may take, each.
BUILD_SECONDS = 300


class NoGo(Exception):
    """The programs cannot be built here; the text says why."""


def build(module: Path, target: Path, *packages: str) -> None:
    """Build packages of a module into a folder; raises NoGo where there is no Go or no way to what it requires."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise NoGo(f"go is not on the PATH: Go 1.25 or newer builds the programs of {module.name}")
    fetched = _run(module, go, "mod", "download")
    if fetched.returncode:
        raise NoGo(f"the Go modules of {module.name} cannot be fetched: {fetched.stderr.strip()}")
    target.mkdir(exist_ok=True)
    built = _run(module, go, "build", "-o", f"{target}/", *packages)
    assert built.returncode == 0, f"{module.name} does not build:\n{built.stderr}"


def _run(module: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=module, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
