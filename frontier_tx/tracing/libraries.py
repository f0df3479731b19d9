"""Whether what traces need is installed."""

from importlib import import_module

from frontier_tx.config.frontier import Tracing
from frontier_tx.errors import ConfigError


def check_library(config: Tracing) -> None:
    """See that a gateway which is to trace can.

    :raises ConfigError: the library is not installed.
    """
    if config.enable:
        try:
            import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        except ImportError as error:
            raise ConfigError(f"tracing.enable: {error}; pip install 'frontier-tx[traces]'") from None
