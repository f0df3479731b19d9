"""YAML text to nodes that still know their line. Values are read from the nodes by the schema.

Working on nodes and not on Python objects keeps three things: the line of each mistake, the text as it was written
(a password ``007`` stays ``007``), and safety against anchors that refer to themselves or multiply, because
only what the schema asks for is ever visited.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from frontier_tx.errors import ConfigError

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

__all__ = [
    "MAX_BYTES",
    "MappingNode",
    "Node",
    "ScalarNode",
    "SequenceNode",
    "compose",
    "describe",
    "is_null",
    "line_of",
    "pairs",
]

#: A configuration is a few kilobytes; more is a wrong file.
MAX_BYTES = 1_048_576
#: libyaml's composer recurses on the C stack and dies of a document nested some thousand levels.
MAX_DEPTH = 64

_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


def compose(text: str | bytes, name: str) -> Node | None:
    """The root node of one YAML document, None if it is empty.

    :param name: what error lines call the document, usually its path.
    :raises ConfigError: not YAML, nested too deep, too large, several documents.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES} bytes; this is not a configuration file")
    try:
        _check_depth(text, name)
        loader = Loader(text)
        try:
            node: Node | None = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_error(error, name)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from None
    except UnicodeError:
        raise ConfigError(f"{name}: not readable as YAML: the text is not UTF-8") from None
    return node


def _check_depth(text: str | bytes, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError(f"{name}:{line}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _syntax_error(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    said = " ".join(part for part in (error.context, error.problem) if part)
    return f"{where}: not readable as YAML: {' '.join(said.split())}"


def is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _NULL


def line_of(node: Node) -> int | None:
    """The line, counted from 1; None for a node that did not come from a file."""
    return node.start_mark.line + 1 if node.start_mark else None


def describe(node: Node, limit: int = 80) -> str:
    """What stands there, short, for an error text; no control character gets through."""
    if isinstance(node, ScalarNode):
        text = repr(node.value[: limit + 1]) if node.style or "\n" in node.value else node.value[: limit + 1]
        text = text if text.isprintable() and text else repr(text)
        return text if len(text) <= limit else f"{text[:limit]}…"
    if isinstance(node, SequenceNode):
        return f"a list of {len(node.value)}"
    return f"a section of {len(node.value)} keys"


def pairs(mapping: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Keys and values of a section; what ``<<`` merges in comes first, so that the section's own keys win."""
    yield from _merged(mapping, set())


def _merged(mapping: MappingNode, seen: set[int]) -> Iterator[tuple[Node, Node]]:
    if id(mapping) in seen:
        return
    seen.add(id(mapping))
    for key, value in mapping.value:
        if key.tag == _MERGE:
            sources = value.value if isinstance(value, SequenceNode) else [value]
            # The first of several sources wins, so it comes last.
            for source in reversed(sources):
                if isinstance(source, MappingNode):
                    yield from _merged(source, seen)
    for key, value in mapping.value:
        if key.tag != _MERGE:
            yield key, value
