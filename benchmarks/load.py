"""The load generator `gwload`: built with Go where needed, run one case at a time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateways import HERE, Gateway, Trouble, stand_apart

#: One line of gwload: `case` and `errors` always, the other fields where they were measured.
Line = dict[str, Any]


@dataclass(frozen=True)
class Window:
    """How long a case runs, in seconds, and how many edges the idle case has."""

    seconds: float
    warmup: float
    edges: int
    #: Operations a second that the queue case offers; 0: as many as are taken.
    rate: float = 0


def build(folder: Path) -> Path:
    """Build gwload into `folder`; raises Trouble where Go is missing or the build fails."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise Trouble(
            "go is not on the PATH: install Go 1.24 or newer, or build benchmarks/gwload elsewhere "
            "(`go build -o gwload .`) and name the program with --gwload"
        )
    target = folder / "gwload"
    done = subprocess.run(
        [go, "build", "-o", str(target), "."],
        cwd=HERE / "gwload",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Trouble(f"gwload does not build:\n{done.stdout}")
    return target


class Load:
    """Runs a built gwload."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._current: subprocess.Popen[str] | None = None

    def cases(self, regex: str) -> list[str]:
        """Names of the cases that match, in the order in which they should run."""
        try:
            done = subprocess.run(
                [str(self.path), "--list", "--case", regex], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise Trouble(f"gwload does not run: {error}") from error
        if done.returncode:
            raise Trouble(done.stderr.strip())
        return done.stdout.split()

    def run(self, gateway: Gateway, case: str, window: Window) -> Line:
        """One case against one gateway; `errors` is above 0 where it failed, `error` says why."""
        line: Line = {"case": case, "errors": 1}
        if not gateway.alive():
            line["error"] = "the gateway is gone"
            return line
        command = [
            str(self.path),
            "--edge",
            gateway.edge,
            "--service",
            gateway.service,
            "--case",
            re.escape(case),
            "--seconds",
            str(window.seconds),
            "--warmup",
            str(window.warmup),
            "--edges",
            str(window.edges),
            "--rate",
            str(window.rate),
            "--json",
        ]
        if gateway.pid is not None:
            command += ["--pid", str(gateway.pid)]
        limit = 120 + window.seconds + window.warmup + (20 if case == "idle" else 0)
        with (gateway.folder / "gwload.log").open("ab") as errors:
            self._current = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                preexec_fn=stand_apart,
            )
        try:
            out = self._current.communicate(timeout=limit)[0]
            line = json.loads(out.splitlines()[0])
        except subprocess.TimeoutExpired:
            line["error"] = f"gwload did not end within {limit:.0f} s"
        except (IndexError, ValueError):
            line["error"] = f"gwload gave no result, status {self._current.returncode}"
        finally:
            self.stop()
        if not gateway.alive():
            line["errors"] = max(1, line["errors"])
            line["error"] = f"the gateway died; {line.get('error', '')}"
        return line

    def stop(self) -> None:
        """Kill the case under way, if any."""
        process, self._current = self._current, None
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
