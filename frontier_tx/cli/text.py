"""Text that others wrote, for a terminal: no byte of an edge may move a cursor, change a colour or reverse a line."""

import base64
import json
from typing import Any


def shown(text: str, most: int = 0) -> str:
    """Return text with everything that does not print as itself written as an escape.

    Control characters, those that turn the direction of writing, separators of lines and code points that mean nothing
    are escaped. With ``most`` it is cut to so many characters.
    """
    if most and len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shown_lines(text: str) -> str:
    """The same, but a text of several lines keeps its lines, and tabulators stay."""
    return "\n".join("\t".join(shown(part) for part in line.split("\t")) for line in text.split("\n"))


def shown_bytes(data: bytes, most: int = 0) -> str:
    """Return bytes as a person can read them: UTF-8 as text, what is none as ``\\xNN``."""
    return shown(data.decode("utf-8", "backslashreplace"), most)


def data_fields(data: bytes, name: str = "data") -> dict[str, Any]:
    """Return bytes as they stand in JSON: ``data`` where they are UTF-8, ``data_base64`` where they are not."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON in which everything that does not print as itself is written as an escape, which means the same."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_json_escape, line)) for line in lines)


def _json_escape(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def amount(value: float, unit: str = "B") -> str:
    """Return a number with a prefix: ``1.5 MB``."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 1000 or prefix == "T":
            break
        value /= 1000
    digits = 0 if not prefix or abs(value) >= 100 else 1
    return f"{value:.{digits}f} {prefix}{unit}".strip()


def span(seconds: float) -> str:
    """Return a time as people say it: ``3d4h``, ``12m5s``, ``2.4s``, ``30ms``."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = int(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}{rest}{name}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"
