"""The kinds of values that a key can hold: how they are read, and what an error says is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from yaml.constructor import SafeConstructor

from frontier_tx.config.address import split_host_port
from frontier_tx.config.document import MappingNode, Node, ScalarNode, SequenceNode, is_null

T = TypeVar("T")

#: Tag of a value from the environment or the command line: plain text that any kind may read.
GIVEN = "given"

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_PLAIN_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

Scalar = str | int | float | bool


class Unfit(ValueError):
    """The value does not fit; the text says what would, `why` what exactly is wrong if that is not obvious."""

    def __init__(self, expected: str, why: str = "") -> None:
        super().__init__(expected)
        self.why = why


class Kind(Generic[T]):
    """How one kind of value is read from a node."""

    #: What is allowed, for errors and documentation.
    expected: str

    def read(self, node: Node) -> T:
        """:raises Unfit: the node does not hold such a value."""
        raise NotImplementedError

    def means_default(self, node: Node) -> bool:
        """Whether the value asks for the default. A missing value (``key:`` or ``key: null``) always does."""
        return is_null(node)

    def scalar(self, node: Node) -> ScalarNode:
        if isinstance(node, ScalarNode) and not is_null(node):
            return node
        raise Unfit(self.expected)


class Text(Kind[str]):
    """Any text. Numbers and words like ``yes`` are taken as they are written."""

    def __init__(self, expected: str = "text", *, pattern: str = "", empty_is_default: bool = False) -> None:
        self.expected = expected
        self._pattern = re.compile(pattern) if pattern else None
        self._empty_is_default = empty_is_default

    def means_default(self, node: Node) -> bool:
        return is_null(node) or (self._empty_is_default and _is_empty(node))

    def read(self, node: Node) -> str:
        text = str(self.scalar(node).value)
        if self._pattern is not None and not self._pattern.fullmatch(text):
            raise Unfit(self.expected)
        return text


class Choice(Text):
    """One of a few words, upper or lower case. Empty text asks for the default."""

    def __init__(self, *words: str, also: Mapping[str, str] | None = None, refused: Mapping[str, str] | None = None):
        super().__init__(_one_of(words), empty_is_default=True)
        self._words = {word.lower(): word for word in words} | dict(also or {})
        self._refused = refused or {}

    def read(self, node: Node) -> str:
        word = super().read(node).strip().lower()
        if word in self._refused:
            raise Unfit(self.expected, self._refused[word])
        try:
            return self._words[word]
        except KeyError:
            raise Unfit(self.expected) from None


class Flag(Kind[bool]):
    """``true`` or ``false``; YAML's ``yes``, ``no``, ``on``, ``off`` too."""

    expected = "true or false"

    def read(self, node: Node) -> bool:
        scalar = self.scalar(node)
        if scalar.tag not in (_BOOL, GIVEN) or scalar.value.lower() not in _TRUTHS:
            raise Unfit(self.expected)
        return _TRUTHS[scalar.value.lower()]


class Bounded(Kind[T]):
    """A number within bounds. With ``zero_is_default`` a 0 asks for the default, as existing files have it."""

    name: str

    def __init__(self, low: float, high: float, unit: str = "", *, zero_is_default: bool = False) -> None:
        self.low, self.high = low, high
        of_unit, default = f" of {unit}" if unit else "", " (0: the default)" if zero_is_default else ""
        self.expected = f"{self.name}{of_unit} from {low:.16g} to {high:.16g}{default}"
        self._zero_is_default = zero_is_default

    def means_default(self, node: Node) -> bool:
        return is_null(node) or (self._zero_is_default and _is_zero(node))


class Whole(Bounded[int]):
    """A whole number within bounds."""

    name = "a whole number"

    def read(self, node: Node) -> int:
        scalar = self.scalar(node)
        if scalar.tag not in (_INT, GIVEN):
            raise Unfit(self.expected)
        try:
            number = int(scalar.value) if scalar.tag == GIVEN else int(SafeConstructor().construct_yaml_int(scalar))
        except ValueError:
            raise Unfit(self.expected) from None
        if not self.low <= number <= self.high:
            raise Unfit(self.expected)
        return number


class Number(Bounded[float]):
    """A number, fractions allowed, within bounds: times in seconds."""

    name = "a number"

    def __init__(self, low: float, high: float, unit: str = "seconds", *, zero_is_default: bool = False) -> None:
        super().__init__(low, high, unit, zero_is_default=zero_is_default)

    def read(self, node: Node) -> float:
        scalar = self.scalar(node)
        # YAML 1.1 takes 1e3 for text; only quotes make it so here.
        if scalar.style or not _PLAIN_NUMBER.fullmatch(scalar.value):
            raise Unfit(self.expected)
        number = float(scalar.value)
        if not (math.isfinite(number) and self.low <= number <= self.high):
            raise Unfit(self.expected)
        return number


class ListenAddress(Text):
    """Where to listen: ``host:port``; without host on all addresses, port 0 for any free one."""

    def __init__(self) -> None:
        super().__init__("host:port, such as 0.0.0.0:30012 or [::]:30012", empty_is_default=True)

    def read(self, node: Node) -> str:
        text = super().read(node).strip()
        check_address(text, self.expected)
        return text


class PeerAddress(ListenAddress):
    """Where to connect to: ``host:port``, both needed."""

    def __init__(self) -> None:
        super().__init__()
        self.expected = "host:port, such as 127.0.0.1:40012"

    def read(self, node: Node) -> str:
        text = super().read(node)
        check_peer_address(text, self.expected)
        return text


class Texts(Kind[tuple[str, ...]]):
    """Several texts: a list, or one text with commas."""

    def __init__(self, expected: str = "a list of texts, or one text with commas") -> None:
        self.expected = expected

    def read(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, SequenceNode):
            texts = [str(self.scalar(item).value).strip() for item in node.value]
        else:
            texts = self.scalar(node).value.split(",")
        return tuple(text.strip() for text in texts if text.strip())


class ExactTexts(Texts):
    """A list of texts that are kept to the letter (topics); one text is a list of one."""

    def __init__(self, expected: str = "a list of texts, or one text") -> None:
        super().__init__(expected)

    def read(self, node: Node) -> tuple[str, ...]:
        items = node.value if isinstance(node, SequenceNode) else [node]
        return tuple(str(self.scalar(item).value) for item in items)


class PeerAddresses(Texts):
    """Addresses to connect to: a list, or one text with commas."""

    def __init__(self, *, unix: bool = False) -> None:
        super().__init__("a list of host:port, or one text with commas")
        self._unix = unix

    def read(self, node: Node) -> tuple[str, ...]:
        texts = super().read(node)
        for text in texts:
            if not (self._unix and text.startswith("/")):
                check_peer_address(text, self.expected)
        return texts


class LoginAddresses(Texts):
    """Addresses of brokers, each maybe with a scheme and a login before it; a port may be left out."""

    def __init__(self, *schemes: str) -> None:
        super().__init__("a list of host:port or user:password@host:port, or one text with commas")
        self._schemes = schemes

    def read(self, node: Node) -> tuple[str, ...]:
        texts = super().read(node)
        for text in texts:
            scheme, found, rest = text.rpartition("://")
            if found and scheme not in self._schemes:
                raise Unfit(self.expected, f"a scheme, if any, is {' or '.join(self._schemes)}")
            where = rest.rpartition("@")[2]
            has_port = ":" in where.rpartition("]")[2] if where.startswith("[") else ":" in where
            check_peer_address(where if has_port else f"{where}:1", self.expected)
        return texts


class FirstAddress(Kind[str]):
    """One address where existing files may hold a list: the first counts. A path means a Unix socket."""

    expected = "host:port, or the path of a Unix socket"

    def means_default(self, node: Node) -> bool:
        return is_null(node) or _is_empty(node)

    def read(self, node: Node) -> str:
        try:
            return PeerAddresses(unix=True).read(node)[0]
        except IndexError:
            raise Unfit(self.expected) from None


class Values(Kind[Mapping[str, Scalar]]):
    """A free section of names and plain values."""

    expected = "a section of names and plain values"

    def read(self, node: Node) -> Mapping[str, Scalar]:
        if not isinstance(node, MappingNode):
            raise Unfit(self.expected)
        return {str(self.scalar(key).value): self._value(self.scalar(value)) for key, value in node.value}

    def _value(self, scalar: ScalarNode) -> Scalar:
        try:
            if scalar.tag == _INT:
                return int(SafeConstructor().construct_yaml_int(scalar))
            if scalar.tag == _FLOAT:
                return float(SafeConstructor().construct_yaml_float(scalar))
        except ValueError:
            raise Unfit(self.expected) from None
        if scalar.tag == _BOOL:
            return _TRUTHS[scalar.value.lower()]
        return str(scalar.value)


def check_address(text: str, expected: str) -> tuple[str, int]:
    """:raises Unfit: ``text`` is not ``host:port``."""
    try:
        return split_host_port(text)
    except ValueError as error:
        raise Unfit(expected, str(error)) from None


def check_peer_address(text: str, expected: str) -> None:
    """:raises Unfit: ``text`` cannot be connected to."""
    host, port = check_address(text, expected)
    if not host:
        raise Unfit(expected, "the host is missing")
    if not port:
        raise Unfit(expected, "port 0 cannot be connected to")


def given(text: str) -> ScalarNode:
    """A node for text from outside a file."""
    return ScalarNode(GIVEN, text)


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.value.strip()


def _is_zero(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.style and node.value in ("0", "0.0")


def _one_of(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
