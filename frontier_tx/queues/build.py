"""Forwarders from a configuration. A client library is imported only where its queue is enabled."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from zope.interface.verify import verifyObject

from frontier_tx.config.queues import MQM
from frontier_tx.errors import ConfigError
from frontier_tx.queues.bridge import Bridge
from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.interfaces import IBroker, Surroundings
from frontier_tx.queues.libraries import LIBRARIES, own_class
from frontier_tx.queues.routes import Queues
from frontier_tx.queues.spool import Spool
from frontier_tx.queues.worker import Worker
from frontier_tx.runtime.loss_text import one_line
from frontier_tx.runtime.tls import from_start

#: What the names begin with that a broker uses itself, for its services, answers and records. Where `*` is listed an
#: edge may name any topic but these: an empty message to `$JS.API.STREAM.DELETE.x` would delete a stream.
RESERVED: Mapping[str, tuple[str, ...]] = {
    "amqp": ("amq.",),
    "kafka": ("__",),
    "nats": ("$", "_INBOX.", "_R_."),
    "redis": ("__",),
}

#: Makes a broker of a section; a module of each kind has one under the name ``make``.
Maker = Callable[[Any, Surroundings], Any]


def queues_of(config: MQM, reactor: Any, gateway: str = "") -> Queues:
    """All enabled queues of a configuration, not started.

    :raises ConfigError: a class of one's own is missing, or is no ``IBroker``.
    """
    surroundings = Surroundings(reactor, Bridge(reactor), gateway, config.headers)
    found = [
        Forwarder(name, topics, broker, reactor, config.buffer, reserved=RESERVED.get(name, ()))
        for name, topics, broker in _brokers(config, surroundings)
    ]
    if config.spool.enable:
        folder = from_start(config.spool.path)
        for each in found:
            Spool(
                each, folder / f"{each.name}.sqlite", config.spool.bytes, reactor, Worker(reactor, f"spool {each.name}")
            )
    return Queues(found, config.deliver == "all")


def _brokers(config: MQM, surroundings: Surroundings) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    for name in LIBRARIES:
        section = getattr(config, name)
        if section.enable:
            module = import_module(f"frontier_tx.queues.{name}")
            yield name, module.topics(section), module.make(section, surroundings)
    for index, own in enumerate(config.own):
        key = f"mqm.own[{index}].class"
        maker: Maker = own_class(own.class_, key)
        try:
            made = maker(dict(own.options), surroundings)
            verifyObject(IBroker, made)
        except Exception as error:
            raise ConfigError(f"{key}: {own.class_!r} made no IBroker: {one_line(error)}") from None
        yield own.name, own.topics, made
