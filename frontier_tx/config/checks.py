"""What no single key can tell: keys that need each other, and ports that collide."""

from __future__ import annotations

import re
from collections.abc import Iterable

from frontier_tx.config.access import check_access
from frontier_tx.config.address import is_unspecified, split_host_port
from frontier_tx.config.common import TLS, WireLimits
from frontier_tx.config.frontier import FrontierConfig, listeners, tls_of
from frontier_tx.config.queues import MQM
from frontier_tx.config.schema import Report


def check_frontier(config: FrontierConfig, report: Report) -> None:
    """Report what does not go together in a Frontier's configuration."""
    check_ports(listeners(config), report)
    for path, tls, listens in tls_of(config):
        check_tls(path, tls, listens, report)
    check_limits(config.limits, report)
    check_access("controlplane.access", config.controlplane.access, config.controlplane.listen, report)
    if config.edgebound.bypass_enable and not config.edgebound.bypass.addrs:
        report.problem("edgebound.bypass.addrs", "missing; needed while edgebound.bypass_enable is true")
    if config.frontlas.enable and not config.frontlas.dial.addrs:
        report.problem("frontlas.dial.addrs", "missing; needed while frontlas.enable is true")
    _check_queues(config.mqm, report)


def check_ports(ports: Iterable[tuple[str, str]], report: Report) -> None:
    """Two listeners must not have one address."""
    seen: list[tuple[str, str, int]] = []
    for path, addr in ports:
        host, port = split_host_port(addr)
        for other, other_host, other_port in seen:
            if port and port == other_port and _overlap(host, other_host):
                report.problem(path, f"{addr} collides with {other}; give one of them another port")
        seen.append((path, host, port))


def _overlap(one: str, other: str) -> bool:
    return one == other or is_unspecified(one) or is_unspecified(other)


def check_tls(path: str, tls: TLS, listens: bool, report: Report) -> None:
    """A TLS section in use must name its files; whether they can be read is found out when they are loaded."""
    if listens and not tls.certs:
        report.problem(f"{path}.certs", f"missing; needed while {path}.enable is true")
    if listens and tls.mtls and not tls.ca_certs:
        report.problem(f"{path}.ca_certs", f"missing; needed while {path}.mtls is true")
    if not listens and tls.mtls and not tls.certs:
        report.problem(f"{path}.certs", f"missing; needed while {path}.mtls is true")
    for index, pair in enumerate(tls.certs):
        for name, file in (("cert", pair.cert), ("key", pair.key)):
            if not file:
                report.problem(f"{path}.certs[{index}].{name}", "missing; expected the path of a PEM file")


def check_limits(limits: WireLimits, report: Report) -> None:
    """Bounds that contradict each other."""
    if limits.peer_frame_bytes < limits.frame_bytes:
        report.problem(
            "limits.peer_frame_bytes", f"{limits.peer_frame_bytes} is less than frame_bytes ({limits.frame_bytes})"
        )
    if limits.write_buffer_bytes < limits.write_high_bytes:
        report.problem(
            "limits.write_buffer_bytes",
            f"{limits.write_buffer_bytes} is less than write_high_bytes ({limits.write_high_bytes})",
        )
    if limits.write_buffer_bytes < limits.frame_bytes:
        report.problem(
            "limits.write_buffer_bytes",
            f"{limits.write_buffer_bytes} holds not even one frame (frame_bytes is {limits.frame_bytes})",
        )


#: Levels of the compressions of Kafka, and what stands for the default in configurations of the Go gateway.
_LEVELS = {"gzip": (1, 9), "lz4": (1, 12), "zstd": (-7, 22)}
_DEFAULT_LEVEL = -1000


def _check_queues(mqm: MQM, report: Report) -> None:
    topics: list[tuple[str, bool, tuple[str, ...], str, tuple[str, ...]]] = [
        ("kafka", mqm.kafka.enable, mqm.kafka.addrs, "producer.topics", mqm.kafka.producer.topics),
        ("amqp", mqm.amqp.enable, mqm.amqp.addrs, "producer.routing_keys", mqm.amqp.producer.routing_keys),
        ("nats", mqm.nats.enable, mqm.nats.addrs, *_nats_topics(mqm)),
        ("nsq", mqm.nsq.enable, mqm.nsq.addrs, "producer.topics", mqm.nsq.producer.topics),
        ("redis", mqm.redis.enable, mqm.redis.addrs, "producer.channels", mqm.redis.producer.channels),
    ]
    for name, enabled, addrs, key, listed in topics:
        if enabled and not addrs:
            report.problem(f"mqm.{name}.addrs", f"missing; needed while mqm.{name}.enable is true")
        if enabled and not listed:
            report.warnings.append(f"{report.name}: mqm.{name}.{key} lists no topic, so nothing goes to this queue")
        for topic in listed if enabled else ():
            if topic != "*" and (why := _unfit_topic(name, topic)):
                report.problem(f"mqm.{name}.{key}", f"{topic[:80]!r} cannot be a topic of this queue: {why}")
    names = [own.name for own in mqm.own]
    for index, own in enumerate(mqm.own):
        if not own.name or own.name in names[:index] or own.name in ("kafka", "amqp", "nats", "nsq", "redis"):
            report.problem(f"mqm.own[{index}].name", f"{own.name!r}: expected a name that no other queue has")
        if not own.class_:
            report.problem(f"mqm.own[{index}].class", "missing; expected a dotted path, such as package.module.Class")
        if not own.topics:
            report.warnings.append(f"{report.name}: mqm.own[{index}].topics lists no topic, so nothing goes there")
    if mqm.spool.enable and not mqm.spool.path:
        report.problem("mqm.spool.path", "missing; needed while mqm.spool.enable is true")
    if mqm.nats.enable and mqm.nats.jetstream.enable and not mqm.nats.jetstream.name:
        report.problem("mqm.nats.jetstream.name", "missing; needed while mqm.nats.jetstream.enable is true")
    if mqm.kafka.enable:
        _check_kafka(mqm, report)


def _check_kafka(mqm: MQM, report: Report) -> None:
    producer, sasl = mqm.kafka.producer, mqm.kafka.sasl
    if producer.required_acks not in (1, -1):
        report.problem("mqm.kafka.producer.required_acks", f"{producer.required_acks}: brokers know 1 and -1")
    least, most = _LEVELS.get(producer.compression, (0, 0))
    level = producer.compression_level
    if most and level not in (0, _DEFAULT_LEVEL) and not least <= level <= most:
        report.problem(
            "mqm.kafka.producer.compression_level",
            f"{level}: {producer.compression} has levels from {least} to {most}, and 0 is its own default",
        )
    if producer.flush.frequency >= mqm.buffer.confirm_seconds:
        report.problem(
            "mqm.kafka.producer.flush.frequency",
            f"{producer.flush.frequency:g} s is not less than mqm.buffer.confirm_seconds "
            f"({mqm.buffer.confirm_seconds:g} s)",
        )
    if bool(sasl.mechanism) != bool(sasl.username):
        report.problem("mqm.kafka.sasl", "mechanism and username are needed both, or neither")


#: What a topic must be like that goes to a queue under its own name, and how that is said.
_FIT_TOPICS = {
    "kafka": (r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}", "1 to 249 of letters, digits, '.', '_' and '-'"),
    "amqp": (r"(?s).{0,255}", "a routing key has at most 255 bytes"),
    "nats": (r"[^.*>\s\0]+(\.[^.*>\s\0]+)*", "words with dots between them, without '*', '>' and spaces"),
    "nsq": (r"(?=.{1,64}$)[.a-zA-Z0-9_-]+(#ephemeral)?", "1 to 64 of letters, digits, '.', '_' and '-'"),
    "redis": (r"(?s).*", ""),
}


def _unfit_topic(queue: str, topic: str) -> str:
    """Why a queue cannot have this topic; empty where it can."""
    pattern, fit = _FIT_TOPICS[queue]
    text = topic.encode().decode("latin-1") if queue == "amqp" else topic
    return "" if re.fullmatch(pattern, text) else fit


def _nats_topics(mqm: MQM) -> tuple[str, tuple[str, ...]]:
    if mqm.nats.jetstream.enable:
        return "jetstream.producer.subjects", mqm.nats.jetstream.producer.subjects
    return "producer.subjects", mqm.nats.producer.subjects
