"""The client libraries of the queues, each an extra of this distribution: which are asked for and missing."""

from importlib.util import find_spec

from frontier_tx.config.queues import MQM
from frontier_tx.errors import ConfigError

#: The sections of ``mqm`` that stand for a broker, each with the module of its library, if it needs one of its own.
LIBRARIES = {"kafka": "aiokafka", "amqp": "pika", "nats": "nats", "nsq": "", "redis": ""}


def check_libraries(config: MQM) -> None:
    """Look for the libraries of the queues that are enabled, without importing them.

    :raises ConfigError: one line for each that is missing.
    """
    missing = [
        name for name, module in LIBRARIES.items() if getattr(config, name).enable and module and not find_spec(module)
    ]
    if missing:
        raise ConfigError(
            *(
                f"mqm.{name}.enable: the library {LIBRARIES[name]} is not installed; pip install 'frontier-tx[{name}]'"
                for name in missing
            )
        )
