"""What the queues of a configuration need of this machine: libraries, classes of one's own, files, a folder."""

import inspect
import os
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from frontier_tx.config.queues import MQM
from frontier_tx.errors import ConfigError
from frontier_tx.queues.interfaces import IBroker
from frontier_tx.runtime.loss_text import one_line
from frontier_tx.runtime.tls import from_start

#: The sections of ``mqm`` that stand for a broker, each with the module of its library, if it needs one of its own.
LIBRARIES = {"kafka": "aiokafka", "amqp": "pika", "nats": "nats", "nsq": "", "redis": ""}
#: Of this one more than its public part is used, and that of these versions alone was tried.
KAFKA_LIBRARY, KAFKA_VERSIONS = "aiokafka", ("0.14",)


def check_libraries(config: MQM) -> None:
    """Look for what the queues that are enabled need, so that it is known before a port is open.

    Libraries are not imported, classes of one's own are; nothing is made or connected to.

    :raises ConfigError: one line for each thing that is missing.
    """
    problems = [*_missing_libraries(config), *_own_classes(config), *_files(config)]
    if problems:
        raise ConfigError(*problems)


def own_class(path: str, key: str) -> Any:
    """What stands at a dotted path: a class that makes an ``IBroker``, or a function that does.

    :raises ConfigError: nothing is there, or a class that is none.
    """
    module, _, name = path.rpartition(".")
    try:
        if not module:
            raise ImportError("expected a dotted path, such as package.module.Class")
        found = getattr(import_module(module), name)
    except Exception as error:
        raise ConfigError(f"{key}: {path!r}: cannot be imported: {one_line(error)}") from None
    if not callable(found) or (inspect.isclass(found) and not IBroker.implementedBy(found)):
        raise ConfigError(f"{key}: {path!r} is no IBroker (frontier_tx.queues.interfaces)")
    return found


def _missing_libraries(config: MQM) -> Iterator[str]:
    for name, module in LIBRARIES.items():
        if getattr(config, name).enable and module and not find_spec(module):
            yield f"mqm.{name}.enable: the library {module} is not installed; pip install 'frontier-tx[{name}]'"
    if config.kafka.enable and find_spec(KAFKA_LIBRARY):
        version = metadata.version(KAFKA_LIBRARY)
        if ".".join(version.split(".")[:2]) not in KAFKA_VERSIONS:
            yield (
                f"mqm.kafka.enable: {KAFKA_LIBRARY} {version} is installed, and {' or '.join(KAFKA_VERSIONS)} is known "
                "to work; pip install 'frontier-tx[kafka]'"
            )


def _own_classes(config: MQM) -> Iterator[str]:
    for index, own in enumerate(config.own):
        try:
            own_class(own.class_, f"mqm.own[{index}].class")
        except ConfigError as error:
            yield from error.problems


def _files(config: MQM) -> Iterator[str]:
    if config.nats.enable and config.nats.credentials:
        try:
            from_start(config.nats.credentials).read_bytes()
        except OSError as error:
            yield f"mqm.nats.credentials: {config.nats.credentials}: {error.strerror or error}"
    if config.spool.enable:
        why = _unusable(from_start(config.spool.path))
        if why:
            yield f"mqm.spool.path: {config.spool.path}: {why}"


def _unusable(folder: Path) -> str:
    """Why files cannot be made in a folder that may not be there yet; empty where they can."""
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"files cannot be made in {folder}"
