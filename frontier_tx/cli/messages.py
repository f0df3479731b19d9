"""Messages that come, printed; messages that go, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from frontier_tx.cli.failures import Exit, fail
from frontier_tx.cli.payload import messages
from frontier_tx.cli.session import Session
from frontier_tx.cli.text import data_fields, shown, shown_bytes

if TYPE_CHECKING:
    from frontier_tx.aio import Message

#: Messages that may be on their way before the first of them is acknowledged.
AHEAD = 64


async def published(publish: Callable[[bytes], Awaitable[None]], data: str | None, lines: bool) -> int:
    """Publish what ``data`` stands for, in its order; return how many were acknowledged.

    Standard input is read in a thread, so the connection lives while nobody types.
    """
    source = messages(data, lines)
    waiting: set[asyncio.Future[None]] = set()
    sent = 0
    try:
        while (one := await asyncio.to_thread(next, source, None)) is not None:
            waiting.add(asyncio.ensure_future(publish(one)))
            # The task runs as far as its first wait, so that the next message does not overtake it.
            await asyncio.sleep(0)
            if len(waiting) >= AHEAD:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                sent += _settled(done)
        while waiting:
            done, waiting = await asyncio.wait(waiting)
            sent += _settled(done)
    finally:
        for each in waiting:
            each.cancel()
    return sent


def _settled(done: set[asyncio.Future[None]]) -> int:
    for each in done:
        each.result()
    return len(done)


async def print_messages(session: Session, source: Any, count: int | None, raw: bool) -> None:
    """Print what comes, and acknowledge what is printed.

    :param source: what has ``receive``.
    :raises Failure: ``count`` messages did not come within ``--timeout``.
    """
    given = session.settings.get("timeout")
    seconds = session.settings.timeout(0) if given is not None else None
    seen = 0
    try:
        async with asyncio.timeout(seconds):
            while count is None or seen < count:
                message = await source.receive()
                try:
                    print_message(session, message, raw)
                except OSError:
                    message.fail("it could not be written")
                    raise
                message.ack()
                seen += 1
    except TimeoutError:
        if count is not None:
            fail(Exit.TIMEOUT, f"{seen} of {count} messages came in time")


def print_message(session: Session, message: "Message", raw: bool = False) -> None:
    """Print one message: when, from whom, on what topic, what."""
    output, now = session.output, datetime.now()
    if output.as_json:
        about: dict[str, Any] = {"time": now.timestamp(), "topic": message.topic}
        if message.edge_id:
            about["edge_id"] = message.edge_id
        custom = data_fields(message.custom, "custom") if message.custom else {}
        output.record({**about, **data_fields(message.data), **custom})
    elif raw:
        out = output.binary()
        out.write(message.data + b"\n")
        out.flush()
    else:
        sender = f"edge {message.edge_id}  " if message.edge_id else ""
        topic = f"{output.styled(shown(message.topic), fg='cyan')}  " if message.topic else ""
        output.text(f"{output.styled(f'{now:%H:%M:%S}', dim=True)}  {sender}{topic}{shown_bytes(message.data)}")
