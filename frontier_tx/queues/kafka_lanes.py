"""The records of a connection to Kafka by topic and partition.

Each partition has a lane, which sends one batch and waits for the broker's answer before it sends the next: what an
edge publishes, whose key is its ID, stays in order, retries included. While a batch is on its way the next one grows.
A failure that may pass is tried again, and then ends the connection, such that the outbox sends everything that is not
confirmed again, in order, by the next one. A failure that will not pass fails the record that causes it.
"""

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.partitioner import murmur2

from frontier_tx.config.queues import Kafka
from frontier_tx.queues.bridge import Results
from frontier_tx.queues.headers import REMEMBERED, TIME, lasting_headers
from frontier_tx.queues.interfaces import Surroundings
from frontier_tx.queues.kafka_batch import LeveledBatch, has_levels
from frontier_tx.queues.record import Record
from frontier_tx.runtime.loss_text import one_line

#: Seconds to wait for a topic that the brokers do not know yet: they may be making it.
TOPIC_SECONDS = 3.0
#: Seconds for which a missing topic is not asked for again.
MISSING_SECONDS = 5.0
#: How long a lane waits for more where ``flush`` names an amount and no time.
LINGER_SECONDS = 0.1
#: Topics that one connection knows at most, as an edge may name any where ``*`` is listed.
MOST_TOPICS = 1000
#: Hashes of edges' keys that are remembered; each is a few microseconds to find.
MOST_EDGES = 50_000
#: A batch takes records up to so many bytes, or one record that is larger.
BATCH_BYTES = 262_144
#: A level that stands for the compression's own default, as in the Go client library.
DEFAULT_LEVEL = -1000

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")

#: Errors that do not pass by themselves, each with the text for the edge.
_PERMANENT: dict[type[Exception], str] = {
    kafka_errors.MessageSizeTooLargeError: "it is too large for the topic (max.message.bytes)",
    kafka_errors.RecordListTooLargeError: "it is too large for the topic (segment.bytes)",
    kafka_errors.InvalidTopicError: "the topic cannot be written to",
    kafka_errors.TopicAuthorizationFailedError: "the gateway may not write to the topic",
    kafka_errors.ClusterAuthorizationFailedError: "the gateway may not write to the cluster",
    kafka_errors.InvalidTimestampError: "the topic does not take its time (message.timestamp settings)",
    kafka_errors.UnsupportedForMessageFormatError: "the topic's format is too old for it",
    kafka_errors.PolicyViolationError: "a policy of the broker refuses it",
    kafka_errors.CorruptRecordException: "the broker refuses it, as a topic that is compacted does without a key",
    kafka_errors.InvalidRequiredAcksError: "the broker does not know required_acks",
}
#: "One or more records have been rejected", a number which the library knows by no name.
_UNNAMED = kafka_errors.UnknownError


class _Lane:
    """What waits for one partition."""

    __slots__ = ("bytes", "more", "partition", "records", "singly", "task")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.records: deque[tuple[Record, Results]] = deque()
        self.bytes = 0
        #: How many of the next records go one by one, since the batch that they were in was refused.
        self.singly = 0
        self.task: asyncio.Task[None] | None = None
        #: Set when something is added.
        self.more = asyncio.Event()


class _Topic:
    """A topic of the brokers, or one that is being looked for."""

    __slots__ = ("lanes", "looking", "name", "partitions", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.partitions: list[int] = []
        self.lanes: dict[int, _Lane] = {}
        #: Records that wait until the partitions are known.
        self.waiting: list[tuple[Record, Results]] = []
        self.looking: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return self.looking is None and all(lane.task is None for lane in self.lanes.values())


class Lanes:
    """All topics of one connection; everything runs in the bridge's loop.

    :param ended: told why the connection is of no use any more, once; nothing is sent from then on.
    """

    #: The producer of aiokafka, once it is connected.
    producer: Any = None

    def __init__(self, section: Kafka, surroundings: Surroundings, ended: Callable[[str], None]) -> None:
        self._settings = section.producer
        self._surroundings = surroundings
        self._ended = ended
        self._topics: dict[str, _Topic] = {}
        #: When each topic that is not there may be asked for again, in seconds of the loop.
        self._missing: dict[str, float] = {}
        self._hashes: dict[int, int] = {}
        self._over = False
        self._turn = random.randrange(1 << 16)
        settings, flush = self._settings, self._settings.flush
        self._listed = [name for name in settings.topics if is_topic(name)][:MOST_TOPICS]
        self._lingers = bool(flush.bytes or flush.messages or flush.frequency)
        self.batch_bytes = min(max(BATCH_BYTES, flush.bytes), settings.max_message_bytes)
        level = settings.compression_level
        #: Of the compression; None where the library's own will do.
        self.level = level if level not in (0, DEFAULT_LEVEL) and has_levels(settings.compression) else None

    @property
    def busy(self) -> bool:
        """Whether something waits for the brokers."""
        return any(not topic.idle for topic in self._topics.values())

    async def learn(self) -> bool:
        """Ask for the topics that are listed, which may make them; return whether a broker answered."""
        answered: bool = await self.producer.client.set_topics(self._listed)
        return answered

    def end(self, reason: str) -> None:
        """Say that the connection is over; no lane sends anything from here on."""
        if not self._over:
            self.stop()
            self._ended(reason)

    def stop(self) -> None:
        """Send nothing from here on."""
        self._over = True
        mine = asyncio.current_task()
        for topic in self._topics.values():
            for task in (topic.looking, *(lane.task for lane in topic.lanes.values())):
                if task is not None and task is not mine:
                    task.cancel()

    # -- records ------------------------------------------------------------------------------------------

    def deliver(self, records: Sequence[Record], results: Results) -> None:
        """Take records, in order; each gets its result, or the connection ends."""
        if self._over:
            return
        most = self._settings.max_message_bytes
        # What has no key goes to the partitions in turn, together what comes together.
        self._turn += 1
        for record in records:
            if len(record.value) > most:
                results.put(record, f"{len(record.value)} bytes are more than mqm.kafka.producer.max_message_bytes")
                continue
            topic = self._topics.get(record.topic)
            if topic is None:
                topic = self._new_topic(record, results)
            if topic is None:
                continue
            if topic.looking is not None:
                topic.waiting.append((record, results))
            else:
                self._add(topic, record, results)

    def _new_topic(self, record: Record, results: Results) -> _Topic | None:
        name = record.topic
        if not is_topic(name):
            results.put(record, f"{name[:80]!r} cannot be a topic: 1 to 249 of letters, digits, . _ and -")
            return None
        until = self._missing.get(name)
        if until is not None:
            if until > asyncio.get_running_loop().time():
                results.put(record, _no_topic(name))
                return None
            del self._missing[name]
        if len(self._topics) >= MOST_TOPICS and not self._forget_one():
            results.put(record, f"more than {MOST_TOPICS} topics at once")
            return None
        topic = self._topics[name] = _Topic(name)
        topic.looking = asyncio.ensure_future(self._look_for(topic))
        return topic

    def _forget_one(self) -> bool:
        idle = next((name for name, topic in self._topics.items() if topic.idle), None)
        if idle is None:
            return False
        del self._topics[idle]
        self._ask_for_known()
        return True

    def _ask_for_known(self) -> None:
        self.producer.client.set_topics({*self._topics, *self._listed})

    async def _look_for(self, topic: _Topic) -> None:
        client = self.producer.client
        error = _no_topic(topic.name)
        try:
            async with asyncio.timeout(TOPIC_SECONDS):
                topic.partitions = sorted(await self.producer.partitions_for(topic.name))
        except TimeoutError:
            if topic.name in client.cluster.unauthorized_topics:
                error = _PERMANENT[kafka_errors.TopicAuthorizationFailedError]
            elif not await client.force_metadata_update():
                self.end("the connection was lost")
                return
        except kafka_errors.KafkaError as failure:
            error = _PERMANENT.get(type(failure), error)
        except Exception as failure:
            self.end(one_line(failure))
            return
        topic.looking = None
        waiting, topic.waiting = topic.waiting, []
        if topic.partitions:
            for record, results in waiting:
                self._add(topic, record, results)
            return
        del self._topics[topic.name]
        self._ask_for_known()
        if len(self._missing) >= MOST_TOPICS:
            self._missing.clear()
        self._missing[topic.name] = asyncio.get_running_loop().time() + MISSING_SECONDS
        for record, results in waiting:
            results.put(record, error)

    def _add(self, topic: _Topic, record: Record, results: Results) -> None:
        partition = self._partition(topic, record.edge_id)
        lane = topic.lanes.get(partition)
        if lane is None:
            lane = topic.lanes[partition] = _Lane(partition)
        lane.records.append((record, results))
        lane.bytes += record.size
        if lane.task is None:
            lane.task = asyncio.ensure_future(self._run(topic, lane))
        elif self._lingers:
            lane.more.set()

    def _partition(self, topic: _Topic, edge_id: int) -> int:
        if self._settings.key == "none":
            return topic.partitions[self._turn % len(topic.partitions)]
        found = self._hashes.get(edge_id)
        if found is None:
            if len(self._hashes) >= MOST_EDGES:
                self._hashes.clear()
            # As the producers of the Java client and others do it.
            found = self._hashes[edge_id] = murmur2(_key(edge_id)) & 0x7FFFFFFF
        return topic.partitions[found % len(topic.partitions)]

    # -- lanes --------------------------------------------------------------------------------------------

    async def _run(self, topic: _Topic, lane: _Lane) -> None:
        try:
            while lane.records:
                if self._lingers:
                    await self._linger(lane)
                await self._send(topic, lane)
        except Exception as error:
            self.end(one_line(error))
        finally:
            lane.task = None

    async def _linger(self, lane: _Lane) -> None:
        try:
            async with asyncio.timeout(self._settings.flush.frequency or LINGER_SECONDS):
                while not self._enough(lane):
                    lane.more.clear()
                    await lane.more.wait()
        except TimeoutError:
            return

    def _enough(self, lane: _Lane) -> bool:
        flush, count = self._settings.flush, len(lane.records)
        return (
            lane.bytes >= (flush.bytes or self.batch_bytes)
            or (0 < flush.messages <= count)
            or (0 < flush.max_messages <= count)
        )

    async def _send(self, topic: _Topic, lane: _Lane) -> None:
        """Send one batch; it is confirmed, or refused, when this returns.

        :raises Exception: it is neither, and the session is of no use any more.
        """
        retry = self._settings.retry
        failures = 0
        while True:
            batch, count = self._fill(lane)
            try:
                async with asyncio.timeout(TOPIC_SECONDS):
                    answer = await self.producer.send_batch(batch, topic.name, partition=lane.partition)
                await answer
            except (*_PERMANENT, _UNNAMED) as error:
                if count > 1:
                    lane.singly = count
                    continue
                self._settle(lane, 1, _PERMANENT.get(type(error)) or f"the broker refuses it: {one_line(error)}")
                return
            except kafka_errors.KafkaError as error:
                if not error.retriable or failures >= retry.max:
                    raise
                failures += 1
                self.producer.client.force_metadata_update()
                await asyncio.sleep(retry.backoff)
            else:
                self._settle(lane, count, "")
                return

    def _settle(self, lane: _Lane, count: int, error: str) -> None:
        lane.singly = max(0, lane.singly - count)
        for _ in range(count):
            record, results = lane.records.popleft()
            lane.bytes -= record.size
            results.put(record, error)

    def _fill(self, lane: _Lane) -> tuple[Any, int]:
        settings = self._settings
        if self.level is not None:
            batch: Any = LeveledBatch(self.batch_bytes, settings.compression, self.level)
        else:
            batch = self.producer.create_batch()
        keyed = settings.key == "edge"
        headers: list[tuple[str, bytes]] = []
        most = 1 if lane.singly else settings.flush.max_messages or len(lane.records)
        count = 0
        for record, _ in lane.records:
            if count == most:
                break
            if self._surroundings.headers:
                lasting = _encoded(lasting_headers(record, self._surroundings.gateway))
                headers = [*lasting, (TIME, b"%d" % int(record.when * 1000))]
            key = _key(record.edge_id) if keyed else None
            if batch.append(timestamp=int(record.when * 1000), key=key, value=record.value, headers=headers) is None:
                break
            count += 1
        batch.close()
        return batch, count


@lru_cache(REMEMBERED)
def _encoded(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value.encode()) for name, value in headers)


def _key(edge_id: int) -> bytes:
    return b"%d" % edge_id


def _no_topic(name: str) -> str:
    return f"the brokers have no topic {name}, and make none (auto.create.topics.enable)"


def is_topic(name: str) -> bool:
    """Whether a topic may have this name."""
    return _NAME.fullmatch(name) is not None and name not in (".", "..")
