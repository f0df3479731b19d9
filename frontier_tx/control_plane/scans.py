"""Runs lists in slices: a bounded number at once, the rest in turn by the address that asked."""

from collections import OrderedDict, deque
from typing import TypeVar

from twisted.internet.defer import Deferred

from frontier_tx.rpc.addresses import address_key
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.switch.queries import Steps

AT_ONCE = 4
#: Lists that wait, of all callers and of one address.
WAITING, WAITING_OF_ONE = 2000, 500

_T = TypeVar("_T")


class Scans:
    """A running list holds references to all peers, so few run at once.

    :param at_once: lists that run.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.running = self.waiting = 0
        self._at_once = at_once
        self._lines: OrderedDict[str, deque[Deferred[None]]] = OrderedDict()

    async def run(self, steps: Steps[_T], context: CallContext) -> _T:
        """Return the page of a list.

        :raises RpcError: RESOURCE_EXHAUSTED, too many lists wait.
        """
        waited = self.running >= self._at_once
        if not waited:
            self.running += 1
        else:
            await self._wait(address_key(context.peer.rpartition(":")[0].strip("[]")))
        try:
            if waited:
                # Whoever let this one go on has work of its own.
                await context.turn()
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                await context.turn()
        finally:
            self._next()

    def _wait(self, address: str) -> Deferred[None]:
        if self.waiting >= WAITING or len(self._lines.get(address, ())) >= WAITING_OF_ONE:
            raise RpcError(Status.RESOURCE_EXHAUSTED, "too many lists are being made; ask again later")
        line = self._lines.setdefault(address, deque())

        def left(waiter: Deferred[None]) -> None:
            self.waiting -= 1
            line.remove(waiter)
            if not line and self._lines.get(address) is line:
                del self._lines[address]

        waiter: Deferred[None] = Deferred(left)
        line.append(waiter)
        self.waiting += 1
        return waiter

    def _next(self) -> None:
        if not self._lines:
            self.running -= 1
            return
        address, line = self._lines.popitem(last=False)
        waiter = line.popleft()
        self.waiting -= 1
        if line:
            self._lines[address] = line
        waiter.callback(None)
