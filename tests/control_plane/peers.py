"""An edge with the method ``echo`` and a service with the topic ``orders``, as a process: both ports as arguments."""

import asyncio
import sys
from typing import Any

from frontier_tx.aio import Edge, Service
from frontier_tx.errors import HandlerError


async def echo(request: Any) -> bytes:
    """Answer with what was sent; say no to `no`."""
    if request.data == b"no":
        raise HandlerError("not today")
    return bytes(request.data)


async def take(peer: Edge | Service) -> None:
    """Acknowledge every message."""
    async for message in peer:
        message.ack()


async def main(edge_port: int, service_port: int) -> None:
    """Stay online until standard input ends."""
    edge = Edge("127.0.0.1", edge_port, meta=b"plant-1/robot-a")
    service = Service("127.0.0.1", service_port, name="billing", topics=["orders"])
    for peer in (edge, service):
        await peer.connect(keep_trying=True)
        await peer.register("echo", echo)
    tasks = [asyncio.create_task(take(peer)) for peer in (edge, service)]
    sys.stdout.write(f"{edge.edge_id} {service.service_id}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
