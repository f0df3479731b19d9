"""Measure a gateway under load, alone or side by side with a second one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.figures import Run, in_words, read_limits, summarise, table, verdicts
from benchmarks.gateways import (
    HERE,
    Gateway,
    RunningGateway,
    StartedGateway,
    Trouble,
    cpu_ticks,
    own_command,
    settle,
    stop_all,
)
from benchmarks.load import Line, Load, Window, build

RESULTS = HERE / "results"
NOT_MET = 2


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="In a command {config} is a configuration file with free ports, {edge} and {service} are the "
        "addresses, {dir} is a folder of its own. Exit status: 0 fine, 1 errors, 2 a limit is not met.",
    )
    p.add_argument("--command", metavar="CMD", help="the gateway to measure (default: this project's, with twistd)")
    p.add_argument("--against", metavar="CMD", help="a second gateway, the base of the ratios")
    p.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="EDGE,SERVICE[,PID]",
        help="measure one that runs already; given twice: the second is the base of the ratios",
    )
    p.add_argument("--names", metavar="A[,B]", default="ours,other", help="what to call them in the table")
    p.add_argument("--rounds", type=int, default=3, help="each starts fresh gateways (default 3)")
    p.add_argument("--repeat", type=int, default=1, help="turns of each case in a round (idle always has one)")
    p.add_argument("--case", default="", metavar="REGEX", help="whole names, e.g. 'call.*|publish'; default all")
    p.add_argument("--seconds", type=float, default=3, help="measured window of each case (default 3)")
    p.add_argument("--warmup", type=float, default=1, help="seconds of load before it (default 1)")
    p.add_argument("--edges", type=int, default=1000, help="edges of the idle case (default 1000)")
    p.add_argument(
        "--limits",
        type=Path,
        metavar="FILE",
        help="ratios that must be met; default with two gateways: limits.txt beside this program",
    )
    p.add_argument("--template", type=Path, metavar="FILE", help="configuration to fill in for started gateways")
    p.add_argument("--gwload", type=Path, metavar="PATH", help="a built load generator (default: built with Go)")
    p.add_argument(
        "--result",
        default="latest",
        metavar="NAME",
        help="written to results/NAME.json and results/NAME.txt (default latest)",
    )
    p.add_argument("--results-folder", type=Path, default=RESULTS, metavar="DIR")
    p.add_argument("--all-metrics", action="store_true", help="p50 and p99.9 in the table too")
    p.add_argument("--keep", action="store_true", help="keep the temporary folder with logs")
    p.add_argument("--list", action="store_true", help="print the names of the cases and end")
    return p


def gateways_of(args: argparse.Namespace, folder: Path) -> list[Gateway]:
    """The one or two gateways that the options name; the measured one first."""
    names = [*args.names.split(","), "other"][:2]
    template = args.template.read_text() if args.template else None
    if len(args.address) > 2 or (args.address and args.command) or (len(args.address) == 2 and args.against):
        raise Trouble("name one or two gateways: --command or --address, and --against or a second --address")
    found: list[Gateway] = []
    for address in args.address:
        found.append(RunningGateway(names[len(found)], address, folder / str(len(found))))
    if not found:
        found.append(StartedGateway(names[0], args.command or own_command(), folder / "0", template))
    if args.against:
        found.append(StartedGateway(names[1], args.against, folder / "1", template))
    return found


def one_turn(load: Load, gateways: Sequence[Gateway], gateway: Gateway, case: str, window: Window) -> Line:
    """Run a case once everything is quiet, and note what the gateway beside it did meanwhile."""
    settle(gateways)
    others = [g.pid for g in gateways if g is not gateway and g.pid is not None]
    ticks = sum(cpu_ticks(pid) for pid in others)
    line = load.run(gateway, case, window)
    ticks = sum(cpu_ticks(pid) for pid in others) - ticks
    line["other_gateway_cpu_s"] = ticks / os.sysconf("SC_CLK_TCK")
    return line


def measure(load: Load, gateways: Sequence[Gateway], cases: Sequence[str], args: argparse.Namespace) -> list[Run]:
    """All rounds; the gateways take turns directly after each other, and swap who goes first."""
    window = Window(args.seconds, args.warmup, args.edges)
    runs = []
    for number in range(1, args.rounds + 1):
        for gateway in gateways:
            gateway.start()
        time.sleep(1)
        for case in cases:
            for turn in range(1, 2 if case == "idle" else args.repeat + 1):
                sides = list(enumerate(gateways))
                for side, gateway in sides if (number + turn) % 2 else sides[::-1]:
                    line = one_turn(load, gateways, gateway, case, window)
                    runs.append(Run(number, turn, case, side, line))
                    print(f"round {number} {case:<11} {gateway.name:<8} {in_words(case, line)}", flush=True)
                    if not gateway.alive():
                        print("  | " + "\n  | ".join(gateway.last_words()))
                        stop_all([gateway])
                        gateway.start()  # the other cases still have their turn
        stop_all(gateways)
    return runs


def report(args: argparse.Namespace, gateways: Sequence[Gateway], cases: Sequence[str], runs: Sequence[Run]) -> int:
    """Print and write the table; the exit status."""
    names = [gateway.name for gateway in gateways]
    rows = summarise(cases, len(names), runs)
    lines = [
        f"{args.rounds} rounds of {args.repeat} turns, windows of {args.seconds:g} s, "
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"{time.strftime('%Y-%m-%d')}",
        "",
        table(rows, names, args.all_metrics),
    ]
    judged = []
    if len(names) == 2:
        judged = verdicts(read_limits(args.limits or HERE / "limits.txt"), rows, cases)
        lines += ["", *(f"{'met        ' if met else 'FALLS SHORT'} {text}" for met, text in judged)]
    failed = [run for run in runs if run.result["errors"]]
    lines += [
        "",
        *(
            f"FAILED      round {run.round} {run.case} {names[run.side]}: {run.result.get('error', '')}"
            for run in failed
        ),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    print("\n" + text, end="")
    args.results_folder.mkdir(parents=True, exist_ok=True)
    (args.results_folder / f"{args.result}.txt").write_text(text)
    (args.results_folder / f"{args.result}.json").write_text(
        json.dumps(
            {
                "names": names,
                "seconds": args.seconds,
                "rounds": args.rounds,
                "repeat": args.repeat,
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "date": time.strftime("%Y-%m-%d"),
                "limits": [{"met": met, "text": text} for met, text in judged],
                "table": [dataclasses.asdict(row) for row in rows],
                "runs": [dataclasses.asdict(run) for run in runs],
            },
            indent=1,
        )
        + "\n"
    )
    print(f"\nwritten: {args.results_folder / args.result}.txt and .json")
    if failed:
        return 1
    return 0 if all(met for met, _ in judged) else NOT_MET


def stop_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    args = parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_on_signal)
    folder = Path(tempfile.mkdtemp(prefix="frontier-bench-"))
    gateways: list[Gateway] = []
    load: Load | None = None
    keep, status = True, 1
    try:
        gateways = gateways_of(args, folder)
        if args.limits:
            read_limits(args.limits)
        load = Load(args.gwload or build(folder))
        cases = load.cases(args.case)
        if args.list:
            print("\n".join(cases))
            keep, status = False, 0
            return status
        print(f"cases: {' '.join(cases)}; logs in {folder}", flush=True)
        runs = measure(load, gateways, cases, args)
        status = report(args, gateways, cases, runs)
        keep = args.keep or status == 1
    except Trouble as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        keep = any(gateway.last_words() for gateway in gateways)
    except KeyboardInterrupt:
        status = 130
    finally:
        # a second signal must not leave a gateway behind
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if load is not None:
            load.stop()
        stop_all(gateways)
        if keep:
            print(f"logs are kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
