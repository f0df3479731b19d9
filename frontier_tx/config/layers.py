"""The layers over a file: environment variables and command line flags; a flag beats them, they beat the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from frontier_tx.config.address import join_host_port, split_host_port
from frontier_tx.config.schema import Report, override

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line may set; None where it says nothing."""

    loglevel: str | None = None
    log_output: str | None = None
    log_format: str | None = None
    log_file: str | None = None
    daemon_rlimit_nofile: str | None = None


class Layer:
    """Sets keys from named sources outside the file; mistakes name the source and go to ``report``."""

    def __init__(self, report: Report, environ: Mapping[str, str]) -> None:
        self.report = report
        self.environ = environ

    def set(self, config: S, path: str, text: str, source: str) -> S:
        """``config`` with the key at ``path`` read from ``text``."""
        own = Report(source)
        config = override(config, path, text, own)
        self.report.problems += own.problems
        return config

    def from_env(self, config: S, variable: str, path: str, *, empty: bool = False) -> S:
        """The variable, if it is set; an empty one counts only with ``empty``."""
        text = self.environ.get(variable)
        if text is None or (not text and not empty):
            return config
        return self.set(config, path, text, f"environment {variable}")

    def port_from_env(self, config: S, variable: str, path: str) -> S:
        """The port of the address at ``path``, replaced by the variable."""
        port = self.environ.get(variable, "").strip()
        if not port:
            return config
        if not (port.isascii() and port.isdigit()):
            self.problem(f"environment {variable}", f"{port[:20]!r} is not allowed; expected a port from 0 to 65535")
            return config
        host, _ = split_host_port(_get(config, path))
        return self.set(config, path, f"{join_host_port(host, 0)[:-1]}{port}", f"environment {variable}")

    def logs_from_env(self, config: S) -> S:
        for variable, path in (
            ("LOG_LEVEL", "log.level"),
            ("LOG_OUTPUT", "log.output"),
            ("LOG_FORMAT", "log.format"),
            ("LOG_FILE", "log.file.path"),
        ):
            config = self.from_env(config, variable, path)
        return config

    def from_flags(self, config: S, flags: Flags) -> S:
        """The command line."""
        given: Iterable[tuple[str, str, str | None]] = (
            ("--loglevel", "log.level", flags.loglevel),
            ("--log-output", "log.output", flags.log_output),
            ("--log-format", "log.format", flags.log_format),
            ("--log-file", "log.file.path", flags.log_file),
            ("--daemon-rlimit-nofile", "daemon.rlimit.nofile", flags.daemon_rlimit_nofile),
        )
        for flag, path, text in given:
            if text:
                config = self.set(config, path, text, flag)
        if flags.daemon_rlimit_nofile and flags.daemon_rlimit_nofile.strip() != "-1":
            config = override(config, "daemon.rlimit.enable", "true", self.report)
        return config

    def problem(self, source: str, text: str) -> None:
        self.report.problems.append(f"{source}: {text}")

    def warn(self, source: str, text: str) -> None:
        self.report.warnings.append(f"{source}: {text}")


def _get(config: Any, path: str) -> str:
    for name in path.split("."):
        config = getattr(config, name)
    return str(config)
