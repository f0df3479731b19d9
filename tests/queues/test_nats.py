"""NATS and JetStream from Debian's package: what was acknowledged is there, in order, and what goes wrong is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import pytest_twisted

from frontier_tx.config.queues import MQM, JetStream, Nats, NatsProducer, QueueBuffer
from tests.queues.brokers import NatsConsumer, NatsServer
from tests.queues.world import BODIES, numbered, way


@pytest.fixture
def server() -> Iterator[NatsServer]:
    made = NatsServer()
    made.start()
    yield made
    made.kill()


def plain(server: NatsServer, *subjects: str) -> MQM:
    return MQM(nats=Nats(enable=True, addrs=(server.addr,), producer=NatsProducer(subjects=subjects or ("t",))))


def stream(server: NatsServer, *subjects: str, name: str = "EDGES") -> MQM:
    producer = NatsProducer(subjects=subjects or ("t",))
    jetstream = JetStream(enable=True, name=name, producer=producer)
    return MQM(nats=Nats(enable=True, addrs=(server.addr,), jetstream=jetstream))


@pytest_twisted.ensureDeferred
async def test_a_consumer_reads_every_byte_back(server: NatsServer) -> None:
    consumer = NatsConsumer(server.port, "t.>")
    async with way(plain(server, "t.a")) as nats:
        nats.publish("t.a", *BODIES)
        await nats.ended(len(BODIES))
    # The server's bound of a message is a mebibyte, headers included.
    assert nats.acknowledged == BODIES
    taken = [consumer.take() for _ in BODIES]
    assert [each.value for each in taken] == BODIES
    headers = taken[0].headers
    assert headers.pop("frontier-time").isdigit()
    assert headers == {
        "frontier-edge-id": "7", "frontier-topic": "t.a", "frontier-address": "10.0.0.1:5", "frontier-gateway": "gw-1",
    }  # fmt: skip
    consumer.close()


@pytest_twisted.ensureDeferred
async def test_without_headers(server: NatsServer) -> None:
    consumer = NatsConsumer(server.port, "t")
    async with way(replace(plain(server), headers=False)) as nats:
        nats.publish("t", b"a")
        await nats.ended(1)
    assert consumer.take() == ("t", b"a", {})
    consumer.close()


@pytest_twisted.ensureDeferred
async def test_what_the_server_will_not_take_fails_alone(server: NatsServer) -> None:
    async with way(plain(server)) as nats:
        nats.publish("t", b"before", b"x" * 2_000_000, b"after")
        nats.publish("no such subject", b"odd")
        nats.publish("t.*", b"wild")
        await nats.ended(5)
    assert sorted(nats.acknowledged) == [b"after", b"before"]
    errors = {value[:4]: error for value, error in nats.told if error}
    assert errors[b"xxxx"].startswith("queue nats: 2000000 bytes are too many for the server, which takes ")
    assert errors[b"odd"] == "queue nats: 'no such subject' is no subject that can be published to"
    assert b"wild" in errors


@pytest_twisted.ensureDeferred
async def test_no_topic_of_an_edge_harms_the_server_or_the_others(server: NatsServer) -> None:
    async with way(stream(server, "t")) as nats:
        topics = (
            "$JS.API.STREAM.DELETE.EDGES",
            "x" * 1_000_000,
            "ü" * 600,
            "a\r\nPUB t 1\r\nx",
            "a\0b",
            "t.*",
            ">",
            "a..b",
        )
        for number, topic in enumerate(topics):
            nats.publish(topic, b"", edge_id=number)
            nats.publish("t", b"%d" % number)
        await nats.ended(2 * len(topics))
        assert nats.acknowledged == [b"%d" % number for number in range(len(topics))]
        errors = [error for _, error in nats.told if error]
        assert len(errors) == len(topics) and all(len(error) < 200 for error in errors)
        assert nats.forwarder.counters.reconnects == 0
        nats.publish("t", b"still there")
        await nats.ended(2 * len(topics) + 1)
        assert nats.told[-1] == (b"still there", "")


@pytest_twisted.ensureDeferred
async def test_a_subject_that_is_forbidden_is_no_success() -> None:
    server = NatsServer()
    config = server.folder / "nats.conf"
    config.write_text('authorization { users: [{user: u, password: p, permissions: {publish: ["t"]}}] }\n')
    server.options = ("-c", str(config))
    server.start()
    section = Nats(enable=True, addrs=(f"u:p@{server.addr}",), producer=NatsProducer(subjects=("t",)))
    async with way(MQM(nats=section)) as nats:
        nats.publish("t", b"yes")
        nats.publish("secret", b"no")
        nats.publish("t", b"yes again")
        await nats.ended(3)
        assert nats.acknowledged == [b"yes", b"yes again"]
        (refused,) = [error for _, error in nats.told if error]
        assert "ermissions" in refused
        assert "p@" not in nats.forwarder.broker.where
    wrong = replace(section, addrs=(f"u:wrong@{server.addr}",))
    async with way(MQM(nats=wrong), connected=False) as nats:
        await nats.until(lambda: "uthorization" in nats.forwarder.trouble)
    server.kill()


@pytest_twisted.ensureDeferred
async def test_jetstream_keeps_what_was_acknowledged_over_kills(server: NatsServer) -> None:
    count, made = 3000, 0
    buffer = QueueBuffer(seconds=60, confirm_seconds=3)
    async with way(replace(stream(server), buffer=buffer)) as nats:
        for kill in (1000, 2000, None):
            for value in numbered((kill or count) - made, made):
                nats.publish("t", value)
            made = kill or count
            await nats.ended(made - 900, 30)
            if kill:
                server.kill()
                await nats.until(lambda: not nats.forwarder.connected)
                server.start()
        await nats.ended(count, 40)
        assert nats.acknowledged == numbered(count)
    consumer = NatsConsumer(server.port, "inbox")
    consumer.say(f"PUB $JS.API.CONSUMER.CREATE.EDGES _ {len(CREATE)}\r\n", CREATE + b"\r\n")
    taken = [consumer.take().value for _ in range(count)]
    assert taken == numbered(count), "nothing is missing, nothing twice, all in order"
    consumer.close()


CREATE = b'{"stream_name":"EDGES","config":{"deliver_subject":"inbox","deliver_policy":"all","ack_policy":"none"}}'


@pytest_twisted.ensureDeferred
async def test_a_stream_that_does_not_fit_is_named(server: NatsServer) -> None:
    async with way(stream(server, "a")):
        pass
    async with way(stream(server, "a", "b"), connected=False) as nats:
        await nats.until(lambda: "takes a, and not b" in nats.forwarder.trouble)
    async with way(stream(server, "a")) as nats:
        nats.publish("elsewhere", b"x")
        await nats.ended(1)
        assert nats.told == [(b"x", "queue nats: no stream takes the subject elsewhere")]


@pytest_twisted.ensureDeferred
async def test_a_server_that_stands_still_is_given_up_and_nothing_is_lost(server: NatsServer) -> None:
    async with way(replace(stream(server), buffer=QueueBuffer(seconds=60, confirm_seconds=1))) as nats:
        server.freeze(True)
        nats.publish("t", *numbered(50))
        await nats.until(lambda: not nats.forwarder.connected)
        server.freeze(False)
        await nats.ended(50, 30)
        assert nats.acknowledged == numbered(50)
