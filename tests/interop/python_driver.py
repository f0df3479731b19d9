"""Plays edges and services with the project's own clients, on an asyncio loop in a thread of its own.

The operations are those of `goends/main.go`. With `flavour` "twisted" the Twisted clients run, on a reactor over the
same loop that is never installed; their Deferreds are awaited like coroutines.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred

import frontier_tx.aio
import frontier_tx.clients
from frontier_tx.errors import (
    FrontierError,
    HandlerError,
)
from tests.interop.ends import EndError

Fields = dict[str, Any]
Operation = Callable[[Fields], Awaitable[Fields]]


def _in(fields: Fields, key: str) -> bytes:
    return base64.b64decode(fields.get(key) or "")


def _out(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Target:
    """An end or a stream, with what its handlers saw."""

    speaker: Any
    client: Any
    service: bool
    is_end: bool
    seen: list[Fields] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    offline: asyncio.Event = field(default_factory=asyncio.Event)
    online: asyncio.Event = field(default_factory=asyncio.Event)
    #: What a read took beyond what was asked for.
    rest: bytes = b""

    @property
    def to_edges(self) -> bool:
        """Whether calls and messages must name an edge."""
        return self.service and self.is_end


class PythonDriver:
    """One loop in one thread; every operation is a task on it."""

    def __init__(self, flavour: str) -> None:
        self._flavour = flavour
        self._targets: dict[str, Target] = {}
        self._messages: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run, name=f"{flavour} ends", daemon=True)
        self._reactor = AsyncioSelectorReactor(self._loop) if flavour == "twisted" else None
        self._operations: dict[str, Operation] = {
            "connect": self._connect, "close": self._close, "cut": self._cut, "offline": self._offline,
            "reonline": self._reonline, "register": self._register, "seen": self._seen, "call": self._call,
            "call_many": self._call_many, "publish": self._publish, "publish_many": self._publish_many,
            "receive": self._receive, "ack": self._ack, "drain": self._drain, "drained": self._drained,
            "open": self._open, "accept": self._accept, "streams": self._streams, "write": self._write,
            "read": self._read, "write_bulk": self._write_bulk, "read_bulk": self._read_bulk,
            "connect_many": self._connect_many,
        }  # fmt: skip
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        if self._reactor is not None:
            # `run` would install signal handlers and take the thread; this is what else it does
            self._reactor.startRunning(installSignalHandlers=False)
        self._loop.run_forever()

    def stop(self) -> None:
        if self._reactor is not None:
            self._loop.call_soon_threadsafe(self._reactor.getThreadPool().stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def submit(self, op: str, **fields: object) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()

        async def work() -> None:
            try:
                future.set_result(await self._operations[op](fields))
            except FrontierError as error:
                future.set_exception(EndError(str(error)))
            except TimeoutError:
                future.set_exception(EndError("i/o timeout"))
            except BaseException as error:
                future.set_exception(error)

        def start() -> None:
            # the loop itself keeps no task alive
            task = self._loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)
        return future

    def _wait(self, operation: Deferred[Any] | Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        return operation.asFuture(self._loop) if isinstance(operation, Deferred) else operation

    def _target(self, fields: Fields, key: str = "name") -> Target:
        return self._targets[fields[key]]

    # -- ends ---------------------------------------------------------------------------------------------

    async def _connected(self, fields: Fields) -> Target:
        host, _, port = fields["address"].rpartition(":")
        package: Any = frontier_tx.aio if self._reactor is None else frontier_tx.clients
        is_service = fields["kind"] == "service"
        options: Fields = {} if self._reactor is None else {"reactor": self._reactor}
        if not fields.get("retry"):
            options["reconnect"] = None
        wanted = fields.get("wanted_id") or 0
        holder: list[Target] = []
        options["on_online"] = lambda: _set(holder, "online")
        options["on_offline"] = lambda _: _set(holder, "offline")
        if is_service:
            client = package.Service(
                host, int(port), name=fields["service"], topics=fields["topics"], service_id=wanted, **options
            )
        else:
            client = package.Edge(host, int(port), meta=_in(fields, "meta"), wanted_id=wanted, **options)
        target = Target(client, client, is_service, True)
        holder.append(target)
        await self._wait(client.connect())
        target.online.clear()
        return target

    async def _connect(self, fields: Fields) -> Fields:
        target = await self._connected(fields)
        self._targets[fields["as_"]] = target
        return {"client_id": target.client.reconnector.client_id}

    async def _connect_many(self, fields: Fields) -> Fields:
        ids: list[int] = []
        turns = iter(range(fields["count"]))

        async def worker() -> None:
            for _ in turns:
                target = await self._connected(fields)
                ids.append(target.client.reconnector.client_id)
                await self._wait(target.client.close())

        await asyncio.gather(*(worker() for _ in range(fields["width"])))
        return {"client_ids": ids}

    async def _close(self, fields: Fields) -> Fields:
        await self._wait(self._target(fields).speaker.close())
        return {}

    async def _cut(self, fields: Fields) -> Fields:
        self._target(fields).client.reconnector.connection.transport.abort("cut by a test")
        return {}

    async def _offline(self, fields: Fields) -> Fields:
        await asyncio.wait_for(self._target(fields).offline.wait(), fields["wait_ms"] / 1000)
        return {}

    async def _reonline(self, fields: Fields) -> Fields:
        target = self._target(fields)
        await asyncio.wait_for(target.online.wait(), fields["wait_ms"] / 1000)
        return {"client_id": target.client.reconnector.client_id}

    # -- calls --------------------------------------------------------------------------------------------

    async def _register(self, fields: Fields) -> Fields:
        target, behaviour = self._target(fields), fields["behaviour"]

        async def handle(request: Any) -> bytes:
            run = {
                "method": request.method, "data": _out(request.data), "custom": _out(request.custom),
                "edge_id": request.edge_id, "ended": "",
                "deadline_ms": 0 if request.deadline is None else (request.deadline - time.time()) * 1000,
            }  # fmt: skip
            await self._note(target, lambda: target.seen.append(run))
            if behaviour.get("until_done"):
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    await self._note(target, lambda: run.update(ended="context canceled"))
                    raise
            await asyncio.sleep(behaviour.get("sleep_ms", 0) / 1000)
            if behaviour.get("panic"):
                raise RuntimeError(behaviour["panic"])
            if behaviour.get("error"):
                raise HandlerError(behaviour["error"])
            data: bytes = request.data if behaviour.get("echo") else _in(behaviour, "data")
            return data

        def handler(request: Any) -> Any:
            if self._reactor is None:
                return handle(request)
            # asyncio's sleep needs a task; Twisted's clients would run a coroutine without one
            return Deferred.fromFuture(self._loop.create_task(handle(request)))

        await self._wait(target.speaker.register(fields["method"], handler))
        return {}

    async def _note(self, target: Target, change: Callable[[], object]) -> None:
        async with target.changed:
            change()
            target.changed.notify_all()

    async def _seen(self, fields: Fields) -> Fields:
        target = self._target(fields)

        def runs() -> list[Fields]:
            return [
                run
                for run in target.seen
                if run["method"] == fields["method"] and (run["ended"] or not fields["error"])
            ]

        async with target.changed:
            await asyncio.wait_for(
                target.changed.wait_for(lambda: len(runs()) >= fields["count"]), fields["wait_ms"] / 1000
            )
            return {"runs": runs()}

    def _limits(self, fields: Fields) -> Fields:
        limits: Fields = {}
        if fields.get("timeout_ms"):
            limits["timeout"] = fields["timeout_ms"] / 1000
        if fields.get("deadline_ms"):
            limits["deadline"] = time.time() + fields["deadline_ms"] / 1000
        return limits

    async def _call(self, fields: Fields) -> Fields:
        target = self._target(fields)
        to = (fields.get("edge_id") or 0,) if target.to_edges else ()
        calling = asyncio.ensure_future(
            self._wait(
                target.speaker.call(
                    *to, fields["method"], _in(fields, "data"), _in(fields, "custom"), **self._limits(fields)
                )
            )
        )
        if fields.get("cancel_ms"):
            self._loop.call_later(fields["cancel_ms"] / 1000, calling.cancel)
        try:
            return {"data": _out(await calling)}
        except asyncio.CancelledError:
            raise EndError("context canceled") from None

    async def _call_many(self, fields: Fields) -> Fields:
        target, slowest = self._target(fields), 0.0
        ids = fields.get("edge_ids") or [None]
        turns = iter(range(fields["count"]))

        async def worker() -> None:
            nonlocal slowest
            for number in turns:
                data = b"%d:" % number + b"x" * fields["size"]
                to = (ids[number % len(ids)],) if target.to_edges else ()
                at = time.monotonic()
                answer = await self._wait(target.speaker.call(*to, fields["method"], data))
                slowest = max(slowest, time.monotonic() - at)
                assert answer == data, f"the answer of call {number} is another one's"

        await asyncio.gather(*(worker() for _ in range(fields["width"])))
        return {"slowest_ms": slowest * 1000}

    # -- messages -----------------------------------------------------------------------------------------

    def _publishing(self, target: Target, fields: Fields, data: bytes) -> Awaitable[Any]:
        topic, custom = fields.get("topic") or "", _in(fields, "custom")
        more = {**self._limits(fields), "at_most_once": bool(fields.get("at_most_once"))}
        if target.to_edges:
            return self._wait(target.speaker.publish(fields.get("edge_id") or 0, data, custom, topic=topic, **more))
        return self._wait(target.speaker.publish(topic, data, custom, **more))

    async def _publish(self, fields: Fields) -> Fields:
        await self._publishing(self._target(fields), fields, _in(fields, "data"))
        return {}

    async def _publish_many(self, fields: Fields) -> Fields:
        target = self._target(fields)
        texts = (str(number).encode() for number in range(fields["count"]))
        # bounded by what a client may have under way
        for batch in iter(lambda: list(_take(texts, 500)), []):
            await asyncio.gather(*(self._publishing(target, fields, text) for text in batch))
        return {}

    async def _receive(self, fields: Fields) -> Fields:
        message = await asyncio.wait_for(self._wait(self._target(fields).speaker.receive()), fields["wait_ms"] / 1000)
        self._messages[fields["as_"]] = message
        return {
            "data": _out(message.data), "topic": message.topic, "custom": _out(message.custom),
            "edge_id": message.edge_id,
        }  # fmt: skip

    async def _ack(self, fields: Fields) -> Fields:
        message = self._messages.pop(fields["name"])
        if fields.get("error"):
            message.fail(fields["error"])
        else:
            message.ack()
        return {}

    async def _drain(self, fields: Fields) -> Fields:
        target = self._target(fields)

        async def drain() -> None:
            with contextlib.suppress(FrontierError):
                while True:
                    message = await self._wait(target.speaker.receive())
                    message.ack()
                    async with target.changed:
                        target.drained.append(message.data.decode())
                        target.changed.notify_all()

        task = self._loop.create_task(drain())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {}

    async def _drained(self, fields: Fields) -> Fields:
        target, count = self._target(fields), fields["count"]
        async with target.changed:
            await asyncio.wait_for(
                target.changed.wait_for(lambda: len(target.drained) >= count), fields["wait_ms"] / 1000
            )
        texts, target.drained = target.drained[:count], target.drained[count:]
        return {"texts": texts}

    # -- streams ------------------------------------------------------------------------------------------

    def _keep(self, fields: Fields, end: Target, stream: Any) -> Fields:
        self._targets[fields["as_"]] = Target(stream, end.client, end.service, False)
        return {"meta": _out(stream.meta), "peer": stream.peer}

    async def _open(self, fields: Fields) -> Fields:
        end = self._target(fields)
        return self._keep(fields, end, await self._wait(end.client.open_stream(fields["peer"], _in(fields, "meta"))))

    async def _accept(self, fields: Fields) -> Fields:
        end = self._target(fields)
        return self._keep(fields, end, await self._wait(end.client.accept_stream()))

    async def _streams(self, fields: Fields) -> Fields:
        return {"count": len(self._target(fields).client.list_streams())}

    async def _write(self, fields: Fields) -> Fields:
        stream = self._target(fields).speaker
        stream.write(_in(fields, "data"))
        await self._wait(stream.drain())
        return {}

    async def _some(self, target: Target, most: int) -> bytes:
        if target.rest:
            data, target.rest = target.rest[:most], target.rest[most:]
            return data
        read: bytes = await self._wait(target.speaker.read(most))
        target.rest = read[most:]
        return read[:most]

    async def _read(self, fields: Fields) -> Fields:
        target, got = self._target(fields), b""
        async with asyncio.timeout(fields["wait_ms"] / 1000):
            while len(got) < fields["size"]:
                data = await self._some(target, fields["size"] - len(got))
                if not data:
                    return {"data": _out(got), "eof": True}
                got += data
        return {"data": _out(got), "eof": False}

    async def _write_bulk(self, fields: Fields) -> Fields:
        stream, digest = self._target(fields).speaker, hashlib.sha256()
        source = random.Random(fields["seed"])
        for _ in range(fields["count"]):
            block = source.randbytes(fields["size"])
            digest.update(block)
            stream.write(block)
            await self._wait(stream.drain())
        return {"sha256": digest.hexdigest()}

    async def _read_bulk(self, fields: Fields) -> Fields:
        target, digest = self._target(fields), hashlib.sha256()
        left = fields["count"] * fields["size"]
        async with asyncio.timeout(fields["wait_ms"] / 1000):
            while left:
                data = await self._some(target, left)
                if not data:
                    raise EndError("EOF")
                digest.update(data)
                left -= len(data)
        return {"sha256": digest.hexdigest()}


def _set(holder: list[Target], event: str) -> None:
    for target in holder:
        getattr(target, event).set()


def _take(items: Any, count: int) -> Any:
    for _ in range(count):
        try:
            yield next(items)
        except StopIteration:
            return
