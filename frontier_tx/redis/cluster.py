"""Redis Cluster: a map of slots to masters, redirections, and masters that come and go."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from random import sample
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from frontier_tx.config.redis import Redis
from frontier_tx.redis.address import Address
from frontier_tx.redis.client import RedisClient, spread
from frontier_tx.redis.connection import Connection, Greeting, open_connection, text_of, understood
from frontier_tx.redis.errors import RedisError, RedisModeError, RedisReplyError, RedisUnreachableError
from frontier_tx.redis.interfaces import Argument, Reply, Script
from frontier_tx.redis.link import Command, Link

log = Logger()

SLOTS = 16_384
CALM = 15.0
"""Seconds between two looks at the slot map while all is well."""
HURRY = 0.2
"""The same while something is not."""


def slot_of(key: Argument) -> int:
    """The slot of a key: of the part between the first ``{`` and the next ``}`` if that is not empty."""
    data = key if isinstance(key, bytes) else str(key).encode()
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return crc_hqx(data, 0) % SLOTS


class ClusterRedis(RedisClient):
    """``redis.mode: cluster``.

    Commands go to the master of their key's slot.  MOVED corrects the map at once and has it read again, ASK
    is followed once for that command.  Commands for a slot whose master does not answer wait while the map is
    read again and again, since a replica may take over, and fail at their deadline.
    """

    def __init__(self, reactor: Any, settings: Redis, scripts: Sequence[Script] = ()) -> None:
        super().__init__(reactor, settings, scripts)
        self._seeds = [Address.parse(text) for text in settings.cluster.addrs]
        self._nodes: dict[Address, list[Link]] = {}
        self._slots: list[Address | None] = [None] * SLOTS
        self._timer: IDelayedCall | None = None
        self._reading: Deferred[None] | None = None
        self._masters: set[Address] = set()
        self._asked: dict[Address, float] = {}
        self._complete = False

    @property
    def name(self) -> str:
        return f"cluster {', '.join(str(seed) for seed in self._seeds)}"

    @property
    def masters(self) -> list[Address]:
        """The masters of the slot map."""
        return sorted(self._masters)

    def links(self) -> list[Link]:
        return [link for links in self._nodes.values() for link in links]

    def begin(self) -> None:
        self._look(0.0)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reading is not None:
            self._reading.cancel()
        self._retired_commands += sum(link.commands for link in self.links())
        self._nodes = {}
        self._masters = set()
        self._slots = [None] * SLOTS
        self._complete = False

    def pick(self, command: Command) -> Link | None:
        key = command.request.key
        address = command.ask_at if command.asking else self._slots[slot_of(key)]
        return None if address is None else spread(self._nodes.get(address, ()), key)

    def still_usable(self) -> bool:
        return self._complete and all(
            any(link.ready for link in self._nodes.get(master, ())) for master in self._masters
        )

    async def find_listening(self) -> Address:
        ready = [address for address, links in self._nodes.items() if any(link.ready for link in links)]
        choice = sample(ready or self._seeds, 1)
        return choice[0]

    def check_listening(self, address: Address, greeting: Greeting) -> RedisError | None:
        return check_member(address, greeting)

    # Redirections and trouble

    def moved(self, link: Link, command: Command, words: list[str]) -> bool:
        try:
            address = Address.parse(words[2])
        except ValueError:
            return False
        if not words[2].rpartition(":")[0] and link.connection is not None:
            address = Address(link.connection.address.host, address.port)
        self._node(address)
        if words[0] == "ASK":
            command.asking, command.ask_at = True, address
            self._asked[address] = self._reactor.seconds()
        else:
            command.asking, command.ask_at = False, None
            if words[1].isdigit() and int(words[1]) < SLOTS:
                self._slots[int(words[1])] = address
            self._look(HURRY)
        return True

    def unusable(self, link: Link, error: str) -> None:
        link.drop(error)
        self._look(HURRY)

    def troubled(self, link: Link, error: str) -> None:
        super().troubled(link, error)
        if error.startswith("CLUSTERDOWN"):
            self._complete = False
            address = link.connection.address if link.connection is not None else self.name
            self.state_changed(RedisReplyError(address, error))
        self._look(HURRY)

    def link_failed(self, link: Link, error: RedisError) -> None:
        super().link_failed(link, error)
        self._look(HURRY)

    def link_lost(self, link: Link, error: RedisError, commands: list[Command]) -> None:
        for command in commands:
            command.asking, command.ask_at = False, None
        super().link_lost(link, error, commands)
        self._look(HURRY)

    # The slot map

    def _node(self, address: Address) -> list[Link]:
        links = self._nodes.get(address)
        if links is None:

            async def find() -> Address:
                return address

            links = self._nodes[address] = [
                Link(self._reactor, self._settings, self._login, find, check_master, self)
                for _ in range(self._settings.connections)
            ]
            for link in links:
                link.start()
        return links

    def _look(self, delay: float) -> None:
        """Have the map read within ``delay`` seconds."""
        if self._stopped or self._reading is not None:
            return
        if self._timer is not None:
            if self._timer.getTime() <= self._reactor.seconds() + delay:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(delay, self._read)

    def _read(self) -> None:
        self._timer = None
        reading = ensureDeferred(self._read_map())
        if reading.called:
            self._finished(None)
        else:
            self._reading = reading
            reading.addBoth(self._finished)

    def _finished(self, _result: object) -> None:
        self._reading = None
        if not self._stopped:
            self._look(CALM if self.ready and not self._waiting else HURRY)

    async def _read_map(self) -> None:
        problem: RedisError | None = None
        for link in sample(self.links(), len(self.links())):
            if link.connection is not None:
                try:
                    await self._use(link.connection)
                    return
                except RedisError as error:
                    problem = problem or error
        for address in sorted({*self._seeds, *self._nodes}, key=self._seeds.__contains__, reverse=True):
            try:
                connection = await open_connection(self._reactor, address, self._settings, self._login)
                try:
                    wrong = check_member(address, connection.greeting)
                    if wrong is not None:
                        raise wrong
                    await self._use(connection)
                    return
                finally:
                    connection.abort()
            except RedisError as error:
                if problem is None or isinstance(problem, RedisUnreachableError):
                    problem = error
        self.state_changed(problem)

    async def _use(self, connection: Connection) -> None:
        """Take over the map that a server gives, and what it says of the cluster as a whole."""
        within = self._settings.read_timeout
        slots = await connection.ask_within(self._reactor, within, "CLUSTER", "SLOTS")
        info = await connection.ask_within(self._reactor, within, "CLUSTER", "INFO")
        with understood(connection.address, "CLUSTER SLOTS"):
            found = _slot_map(connection.address, slots)
        with understood(connection.address, "CLUSTER INFO"):
            # A cluster that lacks some slots refuses all commands, though the map has not changed.
            down = "cluster_state:fail" in text_of(info)
        self._take_over(found, down)

    def _take_over(self, slots: list[Address | None], down: bool) -> None:
        self._slots = slots
        masters = self._masters = {address for address in slots if address is not None}
        # A node that takes over its first slot is no master in the map yet, but ASK leads to it.
        recent = self._reactor.seconds() - CALM
        self._asked = {address: asked for address, asked in self._asked.items() if asked > recent}
        for address in [address for address in self._nodes if address not in masters and address not in self._asked]:
            for link in self._nodes.pop(address):
                self.retire(link)
        for address in masters:
            self._node(address)
        covered = SLOTS - slots.count(None)
        self._complete = covered == SLOTS and not down
        trouble = None
        if not self._complete:
            found = "a cluster that is down" if down else "a cluster"
            if covered < SLOTS:
                found += f" with only {covered} of {SLOTS} slots served"
            trouble = RedisModeError(self.name, found, "bring its missing nodes back")
        self.state_changed(trouble)
        self.drain()


def _slot_map(asked: Address, reply: Reply) -> list[Address | None]:
    slots: list[Address | None] = [None] * SLOTS
    for first, last, master, *_replicas in reply:
        host = text_of(master[0] or b"")
        address = Address(host if host not in ("", "?") else asked.host, int(master[1]))
        if not 0 <= first <= last < SLOTS:
            raise ValueError(f"{first} to {last} are no slots")
        slots[first : last + 1] = [address] * (last + 1 - first)
    return slots


def check_member(address: Address, greeting: Greeting) -> RedisError | None:
    """What is wrong with a server that should belong to a cluster."""
    if greeting.mode not in ("", "cluster"):
        wanted = "set redis.mode to sentinel" if greeting.mode == "sentinel" else "set redis.mode to standalone"
        found = "a sentinel" if greeting.mode == "sentinel" else "a single server"
        return RedisModeError(address, f"{found}, not a node of a Redis Cluster", wanted)
    return None


def check_master(address: Address, greeting: Greeting) -> RedisError | None:
    """What is wrong with a server that the slot map names as a master."""
    if greeting.role == "slave":
        return RedisUnreachableError(address, f"it is now a replica of {greeting.master}")
    return check_member(address, greeting)
