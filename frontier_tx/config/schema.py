"""Sections as frozen dataclasses, whose fields say how they are read, and the reader that fills them.

A section is read *over* another instance of itself: what the text leaves out keeps the value of that one.
So the embedded defaults, the file, the environment and the command line are layers of the same thing.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from frontier_tx.config.document import MappingNode, Node, ScalarNode, SequenceNode, describe, is_null, line_of, pairs
from frontier_tx.config.kinds import Kind, Unfit, given

T = TypeVar("T")
S = TypeVar("S")

_KEY = "frontier_tx.config.key"


@dataclass(frozen=True, slots=True)
class Key:
    """What the schema knows of one key besides its name and default."""

    doc: str
    #: How the value is read; None for a section or a list of sections.
    kind: Kind[Any] | None = None
    #: The dataclass of the items of a list of sections.
    items: type[Any] | None = None
    #: Other spellings; where several are present the field's own name wins, then the first of these.
    aliases: tuple[str, ...] = ()
    #: Never printed.
    secret: bool = False


def setting(default: T, kind: Kind[Any], doc: str, *aliases: str, secret: bool = False) -> T:
    """A field that holds one value."""
    known = Key(doc, kind, None, aliases, secret)
    made: T
    if isinstance(default, dict):
        made = field(default_factory=lambda: default, metadata={_KEY: known})
    else:
        made = field(default=default, repr=not secret, metadata={_KEY: known})
    return made


def section(default: T, doc: str = "", *aliases: str) -> T:
    """A field that holds a section, an instance of another such dataclass; its docstring is the default ``doc``."""
    known = Key(doc or (type(default).__doc__ or "").strip(), None, None, aliases)
    made: T = field(default=default, metadata={_KEY: known})
    return made


def sections(items: type[T], doc: str, *aliases: str) -> tuple[T, ...]:
    """A field that holds a list of sections; a single section is a list of one."""
    made: tuple[T, ...] = field(default=(), metadata={_KEY: Key(doc, None, items, aliases)})
    return made


def keys_of(cls: type[Any]) -> Iterator[tuple[str, Key]]:
    """Name and key of each field, in order."""
    for each in dataclasses.fields(cls):
        if _KEY in each.metadata:
            yield each.name, each.metadata[_KEY]


def taken(cls: type[T], *sections: Any) -> T:
    """An instance of the dataclass ``cls`` with what ``sections`` call by the names of its fields."""
    names = [each.name for each in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: getattr(each, name) for each in sections for name in names if hasattr(each, name)})


def spelling_of(attribute: str) -> str:
    """The key of a field: its name, without the underscore that keeps it off Python's own words (``async_``)."""
    return attribute.removesuffix("_")


class Report:
    """What is wrong with a document: problems, which refuse it, and warnings, which do not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def where(self, node: Node) -> str:
        line = line_of(node)
        return f"{self.name}:{line}" if line is not None else self.name

    def unfit(self, path: str, node: Node, error: Unfit, *, secret: bool = False) -> None:
        shown = "a secret value" if secret and isinstance(node, ScalarNode) else describe(node)
        why = f" ({error.why})" if error.why else ""
        self.problems.append(f"{self.where(node)}: {path}: {shown} is not allowed{why}; expected {error}")

    def problem(self, path: str, text: str, node: Node | None = None) -> None:
        where = self.where(node) if node is not None else self.name
        self.problems.append(f"{where}: {path}: {text}")

    def unknown(self, path: str, node: Node, nearest: str | None) -> None:
        hint = f"; did you mean {nearest}?" if nearest else ""
        self.warnings.append(f"{self.where(node)}: unknown key {path} is ignored{hint}")


def read_section(base: S, node: Node, path: str, report: Report) -> S:
    """A copy of ``base`` with what the section ``node`` says; mistakes go to ``report`` and change nothing."""
    if is_null(node):
        return base
    if not isinstance(node, MappingNode):
        report.unfit(path or "the whole file", node, Unfit("a section of keys"))
        return base
    spellings = _spellings(type(base))
    found: dict[str, list[tuple[int, str, Node]]] = {}
    for spelt, value in _unique_pairs(node, path, report):
        if spelt not in spellings:
            report.unknown(_join(path, spelt), value, _nearest(spelt, path, spellings))
            continue
        name, rank = spellings[spelt]
        found.setdefault(name, []).append((rank, spelt, value))
    known = dict(keys_of(type(base)))
    changes: dict[str, Any] = {}
    for name, candidates in found.items():
        # The preferred spelling is read last: for sections it then wins key by key.
        value = getattr(base, name)
        for _, spelt, value_node in sorted(candidates, key=lambda candidate: -candidate[0]):
            value = _read_value(value, known[name], value_node, _join(path, spelt), report)
        changes[name] = value
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


def _read_value(base: Any, key: Key, node: Node, path: str, report: Report) -> Any:
    if key.items is not None:
        return _read_items(key.items, base, node, path, report)
    if key.kind is None:
        return read_section(base, node, path, report)
    if key.kind.means_default(node):
        return base
    try:
        return key.kind.read(node)
    except Unfit as error:
        report.unfit(path, node, error, secret=key.secret)
        return base


def _read_items(items: type[Any], base: Any, node: Node, path: str, report: Report) -> Any:
    if is_null(node):
        return base
    if isinstance(node, MappingNode):
        return (read_section(items(), node, path, report),)
    if not isinstance(node, SequenceNode):
        report.unfit(path, node, Unfit("a list of sections"))
        return base
    return tuple(read_section(items(), item, f"{path}[{index}]", report) for index, item in enumerate(node.value))


def _unique_pairs(node: MappingNode, path: str, report: Report) -> Iterator[tuple[str, Node]]:
    first: dict[str, Node] = {}
    for own_key, _ in node.value:
        if isinstance(own_key, ScalarNode):
            if own_key.value in first and own_key.tag != "tag:yaml.org,2002:merge":
                earlier = line_of(first[own_key.value])
                report.problem(_join(path, own_key.value), f"given twice, first in line {earlier}", own_key)
            first.setdefault(own_key.value, own_key)
    values: dict[str, Node] = {}
    for key_node, value in pairs(node):
        if isinstance(key_node, ScalarNode):
            values[key_node.value] = value
        else:
            report.unfit(_join(path, "?"), key_node, Unfit("a name as key"))
    yield from values.items()


def override(base: S, path: str, text: str, report: Report, *, within: str = "") -> S:
    """A copy of ``base`` with the key at the dotted ``path`` read from ``text``; ``report.name`` is its source."""
    name, _, rest = path.partition(".")
    if rest:
        inner = override(getattr(base, name), rest, text, report, within=_join(within, name))
        return dataclasses.replace(base, **{name: inner})  # type: ignore[type-var]
    key = dict(keys_of(type(base)))[name]
    assert key.kind is not None
    node = given(text)
    try:
        value = key.kind.read(node)
    except Unfit as error:
        report.unfit(_join(within, path), node, error, secret=key.secret)
        return base
    return dataclasses.replace(base, **{name: value})  # type: ignore[type-var]


def _spellings(cls: type[Any]) -> dict[str, tuple[str, int]]:
    """Every accepted spelling: the field it belongs to, and its rank, 0 for the preferred one."""
    return {
        spelt: (name, rank)
        for name, key in keys_of(cls)
        for rank, spelt in enumerate((spelling_of(name), *key.aliases))
    }


def _nearest(spelt: str, path: str, spellings: dict[str, tuple[str, int]]) -> str | None:
    lowered = {each.lower(): each for each in spellings}
    close = difflib.get_close_matches(spelt.lower()[:100], lowered, 1, 0.5)
    return _join(path, lowered[close[0]]) if close else None


def _join(path: str, name: str) -> str:
    shown = name if name.isprintable() and len(name) <= 80 else repr(name[:80])
    return f"{path}.{shown}" if path else shown
