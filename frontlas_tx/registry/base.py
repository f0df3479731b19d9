"""What the registry in memory and that in Redis have in common: readiness, and the feed of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from frontlas_tx.registry.directory import Lease
from frontlas_tx.registry.errors import RegistryUnavailableError
from frontlas_tx.registry.feed import ChangeFeed
from frontlas_tx.registry.interfaces import ISubscription
from frontlas_tx.registry.records import ChangeKind


class RegistryBase:
    """The part of ``IRegistry`` that does not depend on where records are."""

    def __init__(self, lease: Lease | None, feed: ChangeFeed | None) -> None:
        self._lease = lease or Lease()
        self._feed = feed or ChangeFeed()
        self._stopped = False
        self.ready = False
        self.why_not_ready = "the registry has not been started"
        self._ready_watchers: list[Callable[[bool, str], None]] = []

    def watch_ready(self, callback: Callable[[bool, str], None]) -> Callable[[], None]:
        self._ready_watchers.append(callback)
        return lambda: self._ready_watchers.remove(callback) if callback in self._ready_watchers else None

    def watch(self, kinds: Iterable[ChangeKind] | None = None) -> ISubscription:
        return self._feed.subscribe(kinds)

    def _feed_metrics(self) -> dict[str, float]:
        feed = self._feed
        counts = {"watchers": feed.watchers, "changes_total": feed.published, "changes_dropped_total": feed.dropped}
        return {name: float(number) for name, number in counts.items()}

    def _set_ready(self, ready: bool, why: str) -> None:
        if self._stopped:
            return
        changed = ready != self.ready or (not ready and why != self.why_not_ready)
        self.ready, self.why_not_ready = ready, why
        if changed:
            for callback in list(self._ready_watchers):
                callback(ready, why)

    def _end(self) -> None:
        """Nobody is told of a change any more, nor that the registry is ready."""
        self._feed.close()
        self._set_ready(False, str(stopped()))
        self._stopped = True


def stopped() -> RegistryUnavailableError:
    """Why a registry does nothing any more."""
    return RegistryUnavailableError("the registry was stopped")
