"""An exchange that notes its answer, for tests of REST without a transport."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from frontier_tx.rpc.exchange import Body, HttpHeaders, RestRequest
from frontier_tx.rpc.rest import RestRouter


class Recorder:
    """See ``exchange.Exchange``."""

    def __init__(self) -> None:
        self.on_gone: Callable[[], None] | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.finished = False
        self.full: Deferred[None] | None = None

    def answer(self, status: int, headers: HttpHeaders, body: bytes) -> None:
        self.start(status, headers)
        self.headers["content-length"] = str(len(body))
        self.body = body
        self.finish()

    def start(self, status: int, headers: HttpHeaders) -> None:
        assert self.status == 0
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}

    def write(self, data: bytes) -> Deferred[None]:
        assert self.status
        assert not self.finished
        self.body += data
        return succeed(None) if self.full is None else self.full

    def finish(self) -> None:
        assert not self.finished
        self.finished = True

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def ask(
    router: RestRouter, verb: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> Recorder:
    """The answer to one request."""
    recorder = Recorder()
    coming = Body(1_048_576)
    request = RestRequest(verb, target.encode("utf-8"), headers or {}, "198.51.100.7:1234", body=coming)
    router.serve(request, recorder)
    if body:
        coming.feed(body)
    coming.end()
    return recorder
