"""The files of the web page, as answers to requests: no transport, no disk once they are read."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Protocol

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


class Request(Protocol):
    """What an answer depends on."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the request, names in lower case."""


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file of the page, as it is and packed by gzip."""

    path: str
    media: str
    plain: bytes
    packed: bytes
    tag: str

    def serve(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of the answer to GET or HEAD; the length is not among the headers."""
        headers = [*_HEADERS, ("ETag", self.tag)]
        if self.tag in request.headers.get("if-none-match", ""):
            return 304, headers, b""
        headers.append(("Content-Type", self.media))
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            return 200, [*headers, ("Content-Encoding", "gzip")], self.packed
        return 200, headers, self.plain


def web_files(product: str) -> list[WebFile]:
    """The page of ``product``, which is ``frontier`` or ``frontlas``: ``/`` and what is under ``/ui/``."""
    return list(_read(files("frontier_tx.web") / "static", _PREFIX, product))


def _read(folder: Traversable, prefix: str, product: str) -> Iterator[WebFile]:
    for entry in folder.iterdir():
        media = _TYPES.get(entry.name.rpartition(".")[2])
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/", product)
        elif entry.name == "index.html":
            yield _made("/", _TYPES["html"], entry.read_bytes().replace(b'"frontier"', b'"%s"' % product.encode(), 1))
        elif media is not None:
            yield _made(prefix + entry.name, media, entry.read_bytes())


def _takes_gzip(accepted: str) -> bool:
    codings = (coding.partition(";") for coding in accepted.split(","))
    return any(name.strip() == "gzip" and "".join(rest.split()) != "q=0" for name, _, rest in codings)


def _made(path: str, media: str, plain: bytes) -> WebFile:
    # The tag is weak, for it names both codings of the body.
    return WebFile(path, media, plain, gzip.compress(plain, 9, mtime=0), f'W/"{sha256(plain).hexdigest()[:20]}"')
