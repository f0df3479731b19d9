"""From a path, the environment and the command line to a checked configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from frontier_tx.config.checks import check_frontier
from frontier_tx.config.document import MAX_BYTES, MappingNode, compose
from frontier_tx.config.frontier import FILE_BASE, FrontierConfig
from frontier_tx.config.layers import Flags, Layer
from frontier_tx.config.schema import Report, read_section
from frontier_tx.errors import ConfigError

C = TypeVar("C")

_ALLOCATION = "edgebound.edgeid_alloc_when_no_idservice_on"


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """A configuration, where it came from, and what the operator should hear about it."""

    config: C
    warnings: tuple[str, ...]
    #: The path of the file, or words for "there was none".
    source: str

    def noting(self, warnings: Iterable[str]) -> Loaded[C]:
        """The same with further warnings."""
        return replace(self, warnings=(*self.warnings, *warnings))


def load_frontier(
    path: str | None = None, environ: Mapping[str, str] | None = None, flags: Flags | None = None
) -> Loaded[FrontierConfig]:
    """The configuration of a Frontier.

    :param path: frontier.yaml; None for the embedded defaults.
    :param environ: environment variables, those of the process if None.
    :param flags: the command line.
    :raises ConfigError: with one line for each mistake.
    """
    text = None if path is None else read_file(path)
    return parse_frontier(text, path, os.environ if environ is None else environ, flags or Flags())


def parse_frontier(
    text: str | bytes | None,
    name: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Flags | None = None,
) -> Loaded[FrontierConfig]:
    """The same from text at hand, ``name`` being what errors call it, and no environment unless given."""

    def outside(config: FrontierConfig, layer: Layer, present: frozenset[str]) -> FrontierConfig:
        if "edgebound" not in present:
            # Such a file, or none, leaves edges to the embedded defaults.
            config = replace(config, edgebound=replace(config.edgebound, edgeid_alloc_when_no_idservice_on=True))
        elif _ALLOCATION not in present:
            layer.warn(
                layer.report.name,
                f"{_ALLOCATION} is not set, so edges get in only while a service registers get_edge_id; "
                "true lets the gateway give out ids, false silences this line",
            )
        return _frontier_environment(config, layer)

    return assemble(
        FrontierConfig() if text is None else FILE_BASE, text, name, environ or {}, flags or Flags(), outside,
        check_frontier,
    )  # fmt: skip


def assemble(
    base: C,
    text: str | bytes | None,
    name: str | None,
    environ: Mapping[str, str],
    flags: Flags,
    outside: Callable[[C, Layer, frozenset[str]], C],
    check: Callable[[C, Report], None],
) -> Loaded[C]:
    """All layers over ``base``: the document, the environment by ``outside``, the flags.

    ``outside`` is also told which sections the document has, and which keys they have, as dotted names.

    ``check`` runs only when every single value is right, since it would stumble over consequences otherwise.
    """
    source = "the embedded defaults" if text is None else name or "the configuration"
    report = Report(source)
    config = base
    present: frozenset[str] = frozenset()
    if text is not None:
        node = compose(text, source)
        if node is not None:
            config = read_section(base, node, "", report)
            if isinstance(node, MappingNode):
                present = frozenset(_names(node))
    layer = Layer(report, environ)
    config = layer.logs_from_env(config)
    config = outside(config, layer, present)
    config = layer.from_flags(config, flags)
    if not report.problems:
        check(config, report)
    if report.problems:
        raise ConfigError(*report.problems)
    return Loaded(config, tuple(report.warnings), source)


def _names(node: MappingNode) -> Iterator[str]:
    """The keys of a document and, behind a dot, of its sections."""
    for key, value in node.value:
        if isinstance(key.value, str):
            yield key.value
            if isinstance(value, MappingNode):
                yield from (f"{key.value}.{inner.value}" for inner, _ in value.value)


def read_file(path: str) -> bytes:
    """The bytes of a configuration file.

    :raises ConfigError: no such file, a directory, not readable, too large.
    """
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory; give the file in it") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{path!r}: {error}") from None


def _frontier_environment(config: FrontierConfig, layer: Layer) -> FrontierConfig:
    config = layer.port_from_env(config, "FRONTIER_EDGEBOUND_PORT", "edgebound.listen.addr")
    config = layer.port_from_env(config, "FRONTIER_SERVICEBOUND_PORT", "servicebound.listen.addr")
    config = layer.from_env(config, "FRONTIER_EDGEBOUND_ADVERTISED_ADDR", "edgebound.listen.advertised_addr")
    config = layer.from_env(config, "FRONTIER_SERVICEBOUND_ADVERTISED_ADDR", "servicebound.listen.advertised_addr")
    if node := layer.environ.get("NODE_NAME"):
        config = layer.set(config, "daemon.frontier_id", f"frontier-{node}", "environment NODE_NAME")
    if layer.environ.get("FRONTLAS_ADDR"):
        config = layer.from_env(config, "FRONTLAS_ADDR", "frontlas.dial.addrs")
        config = replace(config, frontlas=replace(config.frontlas, enable=True))
    return _drain_environment(config, layer)


def _drain_environment(config: FrontierConfig, layer: Layer) -> FrontierConfig:
    """FRONTIER_DRAIN_SECONDS: 0 is none; an invalid value is only a warning, as in the Go gateway."""
    trial = Layer(Report(""), layer.environ)
    drained = trial.from_env(config, "FRONTIER_DRAIN_SECONDS", "limits.drain_seconds")
    for problem in trial.report.problems:
        layer.report.warnings.append(f"{problem}; using {config.limits.drain_seconds:g}")
    return drained
