"""``python -m tests.hostile --minutes 10``: attack a gateway for a time, with honest pairs beside the attackers.
``python -m tests.hostile --hoard 10000``: as many connections have the gateway hold what they may.

Prints what was done; exit status 1 where an honest pair noticed something. ``--seed`` repeats a run, as far as the
timing of processes lets it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.gateways import StartedGateway, own_command, stop_all
from tests.go_modules import NoGo
from tests.hostile.drill import fuzz, hoard
from tests.interop.go_driver import GoDriver, build


def go_driver(folder: Path) -> GoDriver | None:
    """A pair of Go ends works beside the others where there is Go."""
    try:
        return GoDriver(build(folder), folder / "goends.log")
    except NoGo as why:
        print(f"without Go ends: {why}")
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--pairs", type=int, default=3, help="honest pairs")
    parser.add_argument(
        "--hoard", type=int, default=0, help="instead: so many connections that have the gateway hold things"
    )
    parser.add_argument("--width", type=int, default=20, help="connections of attackers at a time")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        gateway = StartedGateway("the gateway", own_command(), Path(folder))
        go = None if options.hoard else go_driver(Path(folder))
        try:
            gateway.start()
            if options.hoard:
                report = hoard(gateway, options.hoard, 50)
            else:
                report = fuzz(gateway, options.minutes * 60, options.seed, options.pairs, options.width, go)
        finally:
            stop_all([gateway])
            if go is not None:
                go.stop()
            log = gateway.log.read_text(errors="replace")
    print("\n".join(report.lines()))
    if "Traceback" in log:
        print(log[log.index("Traceback") - 2000 :][:6000])
        return 1
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
