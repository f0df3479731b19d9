"""The change feed inside one process: bounded subscriptions, fed by whatever learns of changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from frontlas_tx.registry.errors import RegistryError
from frontlas_tx.registry.interfaces import ISubscription
from frontlas_tx.registry.records import Change, ChangeKind

LAGGED = Change(ChangeKind.LAGGED)


class ChangeFeed:
    """Hands changes to all subscriptions; a slow one loses entries and is told so, it never holds up others.

    ``capacity`` bounds the entries waiting per subscription, ``max_subscriptions`` their number.
    """

    def __init__(self, capacity: int = 10_000, max_subscriptions: int = 1_000) -> None:
        self.capacity = capacity
        self.max_subscriptions = max_subscriptions
        self.dropped = 0
        self.published = 0
        self._subscriptions: set[Subscription] = set()

    @property
    def watchers(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def subscribe(self, kinds: Iterable[ChangeKind] | None) -> Subscription:
        """A new subscription; raises ``RegistryError`` when there are too many."""
        if len(self._subscriptions) >= self.max_subscriptions:
            raise RegistryError(f"{self.max_subscriptions} watchers already follow the registry; no more are taken")
        wanted = frozenset(ChangeKind if kinds is None else kinds)
        subscription = Subscription(self, wanted)
        self._subscriptions.add(subscription)
        return subscription

    def publish(self, changes: Iterable[Change]) -> None:
        """Give the changes to everyone who wants their kind."""
        batch = list(changes)
        if not batch:
            return
        self.published += len(batch)
        for subscription in list(self._subscriptions):
            subscription.offer(batch)

    def lagged(self) -> None:
        """Tell everyone that entries may be missing."""
        for subscription in list(self._subscriptions):
            subscription.offer([LAGGED])

    def forget(self, subscription: Subscription) -> None:
        """Take a stopped subscription off the list."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Stop all subscriptions."""
        for subscription in list(self._subscriptions):
            subscription.stop()


@implementer(ISubscription)
class Subscription:
    """See ``ISubscription``."""

    def __init__(self, feed: ChangeFeed, kinds: frozenset[ChangeKind]) -> None:
        self._feed = feed
        self._kinds = kinds | {ChangeKind.LAGGED}
        self._buffer: deque[Change] = deque()
        self._waiter: Deferred[list[Change]] | None = None
        self._stopped = False

    def offer(self, changes: list[Change]) -> None:
        """Take in changes; on overflow everything unread is replaced by one ``LAGGED``."""
        wanted = [change for change in changes if change.kind in self._kinds]
        if not wanted or self._stopped:
            return
        if len(self._buffer) + len(wanted) > self._feed.capacity:
            self._feed.dropped += len(self._buffer) + len(wanted)
            self._buffer.clear()
            wanted = [LAGGED]
        self._buffer.extend(wanted)
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(self._take())

    def next(self) -> Deferred[list[Change]]:
        if self._stopped:
            return fail(RegistryError("this subscription was stopped"))
        if self._waiter is not None:
            return fail(RegistryError("next() is already waiting on this subscription; make one call at a time"))
        if self._buffer:
            return succeed(self._take())
        self._waiter = Deferred(self._cancelled)
        return self._waiter

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._buffer.clear()
        self._feed.forget(self)
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.errback(RegistryError("this subscription was stopped"))

    def _take(self) -> list[Change]:
        taken = list(self._buffer)
        self._buffer.clear()
        return taken

    def _cancelled(self, _waiter: Deferred[list[Change]]) -> None:
        self._waiter = None
