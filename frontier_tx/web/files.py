"""The files of the web page, as answers to requests: no transport, no disk once they are read."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PREFIX = "/ui/"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # A browser asks each time whether its copy is still the same: a new version of the server shows at once.
    ("Cache-Control", "no-cache"),
    ("Vary", "Accept-Encoding"),
)


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """Status, headers and body of an answer; its length is not among the headers."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _File:
    media: str
    plain: bytes
    packed: bytes
    tag: str


class WebFiles:
    """The page of ``product``, which is ``frontier`` or ``frontlas``: ``/`` and what is under ``/ui/``."""

    def __init__(self, product: str) -> None:
        self._files: dict[str, _File] = {}
        self._read(files("frontier_tx.web") / "static", _PREFIX)
        page = self._files.pop(_PREFIX + "index.html")
        self._files["/"] = _made(page.media, page.plain.replace(b'"frontier"', b'"%s"' % product.encode(), 1))

    @property
    def paths(self) -> list[str]:
        """All paths that have an answer."""
        return list(self._files)

    def answer(self, verb: str, path: str, headers: Mapping[str, str]) -> WebAnswer | None:
        """The answer to a request with these headers (names in lower case), None where nothing of the page is asked
        for. ``path`` is without a query."""
        file = self._files.get(path)
        if file is None or verb not in ("GET", "HEAD"):
            return None
        common = [*_HEADERS, ("ETag", file.tag)]
        if file.tag in headers.get("if-none-match", ""):
            return WebAnswer(304, common, b"")
        fields = [("Content-Type", file.media), *common]
        if _takes_gzip(headers.get("accept-encoding", "")):
            return WebAnswer(200, [*fields, ("Content-Encoding", "gzip")], file.packed)
        return WebAnswer(200, fields, file.plain)

    def _read(self, folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                self._read(entry, f"{prefix}{entry.name}/")
            elif media := _TYPES.get(entry.name.rpartition(".")[2]):
                self._files[prefix + entry.name] = _made(media, entry.read_bytes())


def _takes_gzip(accepted: str) -> bool:
    codings = (coding.partition(";") for coding in accepted.split(","))
    return any(name.strip() == "gzip" and "".join(rest.split()) != "q=0" for name, _, rest in codings)


def _made(media: str, plain: bytes) -> _File:
    # Weak, for it names both codings of the body.
    return _File(media, plain, gzip.compress(plain, 9, mtime=0), f'W/"{sha256(plain).hexdigest()[:20]}"')
