"""Configuration as text: the values in effect, files with every key explained, tables for the documentation."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from frontier_tx.config.schema import Key, keys_of, spelling_of

#: Stands where a secret is.
HIDDEN = "********"
_WIDTH = 110


def effective(config: Any) -> str:
    """The whole configuration as YAML that can be loaded again; secrets are hidden."""
    return _yaml(to_mapping(config))


def to_mapping(section: Any, *, hide: bool = True) -> dict[str, Any]:
    """A section as plain values, under the preferred spelling of each key."""
    plain = {}
    for name, key in keys_of(type(section)):
        value = getattr(section, name)
        plain[spelling_of(name)] = HIDDEN if hide and key.secret and value else _plain(value, hide)
    return plain


def commented_file(config: Any, heading: str) -> str:
    """A file with every key, its meaning and what is allowed above it, and the values of ``config``."""
    return "\n".join([*_comment(heading, ""), *_commented(config, "")]) + "\n"


def markdown_tables(config: Any) -> str:
    """A table for each section: key, default, what is allowed, meaning. Sections that are alike share one."""
    return "\n".join(_tables(config, "", "", {}))


def _commented(section: Any, indent: str) -> Iterator[str]:
    for name, key in keys_of(type(section)):
        value = getattr(section, name)
        spelt = spelling_of(name)
        if not indent:
            yield ""
        yield from _comment(_explained(key), indent)
        if dataclasses.is_dataclass(value):
            yield f"{indent}{spelt}:"
            yield from _commented(value, f"{indent}  ")
        else:
            if key.items is not None:
                yield from _comment(f"each with {_item_keys(key.items)}", indent)
            yield textwrap.indent(_yaml({spelt: _plain(value, False)}).rstrip(), indent)


def _explained(key: Key) -> str:
    return f"{key.doc}; {key.kind.expected}" if key.kind is not None else key.doc


def _item_keys(items: type[Any]) -> str:
    return ", ".join(f"{spelling_of(name)} ({key.doc})" for name, key in keys_of(items))


def _comment(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines():
        lines += textwrap.wrap(
            paragraph, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False
        ) or [f"{indent}#"]
    return lines


def _tables(section: Any, path: str, doc: str, told: dict[str, str]) -> Iterator[str]:
    # Equal values of equal classes; a mapping among the values has no hash, its text does as well.
    same = repr(section)
    if earlier := told.get(same):
        yield from (f"### `{path}`", "", f"{doc} Keys and defaults are those of `{earlier}`.", "")
        return
    if path:
        told[same] = path
    rows: list[str] = []
    inner: list[tuple[Any, str, str]] = []
    for name, key in keys_of(type(section)):
        value = getattr(section, name)
        spelt = spelling_of(name)
        if dataclasses.is_dataclass(value):
            inner.append((value, f"{path}.{spelt}" if path else spelt, _sentence(key.doc)))
            continue
        rows.append(_row(f"{spelt}", key, value))
        if key.items is not None:
            item = key.items()
            rows += [
                _row(f"{spelt}[].{spelling_of(own)}", each, getattr(item, own)) for own, each in keys_of(key.items)
            ]
    if rows:
        yield f"### `{path}`" if path else "### Top level"
        yield ""
        if doc:
            yield from (doc, "")
        yield from ("| key | default | allowed | meaning |", "|---|---|---|---|", *rows, "")
    elif path and "." not in path:
        yield from (f"### `{path}`", "", doc, "")
    for value, inner_path, inner_doc in inner:
        yield from _tables(value, inner_path, inner_doc, told)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _row(name: str, key: Key, value: Any) -> str:
    also = f" (also `{'`, `'.join(key.aliases)}`)" if key.aliases else ""
    allowed = key.kind.expected if key.kind is not None else "a list of sections"
    shown = _plain(value, False)
    default = f"`{_scalar(shown)}`" if shown not in ("", [], {}) else ""
    return f"| `{name}`{also} | {default} | {allowed} | {key.doc} |".replace("\n", " ")


def _scalar(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else _yaml(value).removesuffix("...\n").strip()


def _plain(value: Any, hide: bool) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value, hide=hide)
    if isinstance(value, tuple):
        return [_plain(item, hide) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=200)
    return text
