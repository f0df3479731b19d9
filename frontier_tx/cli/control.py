"""The control plane of a Frontier or a Frontlas, as a blocking client: what operators ask goes this way."""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from frontier_tx import __version__
from frontier_tx.cli.failures import Exit, Failure, fail, unreachable
from frontier_tx.cli.settings import DOORS, Address, Settings

#: Bytes of one answer; a list of a million edges is a tenth of it.
MOST_BYTES = 1 << 30
#: Bytes of one line of an event.
MOST_LINE = 1 << 20
#: Records of one page.
PAGE = 1000

_STATUSES = {
    400: Exit.USAGE,
    401: Exit.REFUSED,
    403: Exit.REFUSED,
    404: Exit.NOT_FOUND,
    408: Exit.TIMEOUT,
    413: Exit.USAGE,
    422: Exit.PEER,
    429: Exit.BUSY,
    499: Exit.CUT,
    503: Exit.BUSY,
    504: Exit.TIMEOUT,
}
_CAMEL = re.compile("[a-z]+(?:[A-Z][a-z0-9]*)+")
_HINTS = {
    "control": "Is the gateway running, with `controlplane: {enable: true}`? `--server` says where",
    "frontlas": "Is Frontlas running, and is this its control plane? `--frontlas` says where",
}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Control:
    """Asks one server.

    :param settings: where it is, and as whom.
    :param seconds: for connecting, and for each answer.
    """

    def __init__(self, settings: Settings, seconds: float) -> None:
        self.clustered = settings.clustered
        self._door = "frontlas" if self.clustered else "control"
        self.address: Address = settings.address(self._door)
        self.root = "/cluster/v1" if self.clustered else "/v1"
        self.seconds = seconds
        self._settings = settings
        self._kept: http.client.HTTPConnection | None = None

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of ``path`` below the root."""
        return self.ask("GET", path, query)

    def page(self, kind: str, path: str, **query: Any) -> tuple[list[dict[str, Any]], int, int]:
        """Return the records of a list, how many there are in all, and the cursor behind them, 0 at the end."""
        found = self.get(path, **query)
        try:
            records = [dict(each) for each in found.get(kind) or []]
            return records, int(found.get("count") or 0), int(found.get("cursor") or 0)
        except (TypeError, ValueError):
            fail(Exit.PEER, f"what {self.address} answers is no list of {kind}; is this the right port?")

    def ask(self, method: str, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Do a request and return the JSON object that it answers with."""
        _, body = self.raw(method, path, query or {})
        try:
            found = json.loads(body) if body else {}
            if not isinstance(found, dict):
                raise ValueError
            return _snake_case(found) if self.clustered else found
        except (ValueError, RecursionError):
            fail(Exit.PEER, f"what {self.address} answers is no JSON; is this the right port?")

    def raw(self, method: str, path: str, query: Mapping[str, Any], body: bytes | None = None) -> tuple[str, bytes]:
        """Do a request; return the answer's content type and its body.

        :raises Failure: it could not be asked, or it answers with an error.
        """
        answer = self._answer(method, path, query, body, self.seconds)
        try:
            data = answer.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        if len(data) > MOST_BYTES:
            fail(Exit.PEER, f"the answer of {self.address} is larger than {MOST_BYTES} bytes")
        if answer.status >= 300:
            raise self._refused(answer.status, data)
        return answer.headers.get("Content-Type", ""), data

    def events(self, path: str, query: Mapping[str, Any], silence: float) -> Iterator[tuple[str, Any]]:
        """Yield kind and content of each event of a stream, for as long as it lasts.

        :param silence: seconds after which a server that says nothing is lost.
        """
        self.close()
        answer = self._answer("GET", path, query, None, silence)
        if answer.status >= 300:
            raise self._refused(answer.status, answer.read(65536))
        kind, data = "message", []
        try:
            while line := answer.readline(MOST_LINE):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                name, _, value = text.partition(":")
                if name == "event":
                    kind = value.removeprefix(" ")
                elif name == "data":
                    data.append(value.removeprefix(" "))
                elif not text:
                    if data:
                        yield kind, json.loads("\n".join(data))
                    kind, data = "message", []
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection up."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _answer(
        self, method: str, path: str, query: Mapping[str, Any], body: bytes | None, seconds: float
    ) -> http.client.HTTPResponse:
        target = self.root + path
        asked = {name: str(value) for name, value in query.items() if value not in (None, "")}
        if asked:
            target += "?" + urlencode(asked, errors="surrogateescape")
        headers = {"Accept": "application/json", "User-Agent": f"frontier/{__version__}"}
        if self._settings.token:
            headers["Authorization"] = f"Bearer {self._settings.token}"
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        # A server may have closed the connection since the last request; what only reads may be asked again.
        for again in (self._kept is not None and method == "GET", False):
            connection = self._connected(seconds)
            try:
                connection.request(method, target, body=body, headers=headers)
                return connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not again:
                    raise self._lost(error) from None
            except UnicodeEncodeError:
                fail(Exit.USAGE, "a token consists of printable ASCII characters")
            except ValueError as error:
                fail(Exit.USAGE, f"this cannot be asked for: {error}")
        raise AssertionError

    def _connected(self, seconds: float) -> http.client.HTTPConnection:
        if self._kept is not None:
            return self._kept
        address = self.address
        connection: http.client.HTTPConnection
        if not address.port:
            connection = _UnixConnection(address.host.removeprefix("unix:"), seconds)
        elif address.tls:
            connection = http.client.HTTPSConnection(
                address.host, address.port, timeout=seconds, context=self._settings.tls()
            )
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=seconds)
        try:
            connection.connect()
        except (OSError, ssl.SSLError) as error:
            raise unreachable(str(address), DOORS[self._door][1], error, _HINTS[self._door]) from None
        self._kept = connection
        return connection

    def _lost(self, error: Exception) -> Failure:
        if isinstance(error, TimeoutError):
            return Failure(Exit.TIMEOUT, f"{self.address} did not answer in time; `--timeout` gives it longer")
        if isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
            return Failure(Exit.UNREACHABLE, f"what answers at {self.address} is no control plane: {error!r}")
        return Failure(Exit.UNREACHABLE, f"the connection to {self.address} was lost: {error}")

    def _refused(self, status: int, data: bytes) -> Failure:
        code = _STATUSES.get(status, Exit.PEER)
        try:
            found = json.loads(data)
            text = str(found["message"] or found["reason"])
        except (ValueError, LookupError, TypeError):
            if status == 404:
                what = "has no such page; it may be older than this command, or the Go implementation"
                return Failure(Exit.NOT_FOUND, f"the server at {self.address} {what}")
            text = f"status {status} of {self.address}"
        if status == 401:
            text += "; `--token`, FRONTIER_TOKEN or a context says who you are"
        elif status == 403:
            text += "; who you are may not do this"
        return Failure(code, text)


def segment(text: object) -> str:
    """Return a part of a path."""
    return quote(str(text), safe="", errors="surrogateescape")


def _snake_case(value: Any) -> Any:
    """Return JSON with the names of Frontlas's contract, which it writes as ``edgeId``, as Frontier writes its own."""
    if isinstance(value, list):
        return [_snake_case(each) for each in value]
    if isinstance(value, dict):
        return {
            re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)
            if _CAMEL.fullmatch(name)
            else name: _snake_case(inner)
            for name, inner in value.items()
        }
    return value
