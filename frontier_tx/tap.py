"""``twistd frontier``."""

from __future__ import annotations

from typing import ClassVar

from twisted.application.service import IService

from frontier_tx.config.frontier import FrontierConfig, tls_of
from frontier_tx.config.layers import Flags
from frontier_tx.config.loading import Loaded, load_frontier
from frontier_tx.queues.libraries import check_libraries
from frontier_tx.runtime.program import ServerOptions, program
from frontier_tx.runtime.tls import check_files
from frontier_tx.tracing.libraries import check_library


class Options(ServerOptions[FrontierConfig]):
    """Command line of the gateway."""

    program: ClassVar[str] = "frontier"
    synopsis: ClassVar[str] = "[options]"
    longdesc: ClassVar[str] = "A gateway between edges and microservices."

    def load(self, path: str | None, flags: Flags) -> Loaded[FrontierConfig]:
        loaded = load_frontier(path, flags=flags)
        check_libraries(loaded.config.mqm)
        check_library(loaded.config.tracing)
        return loaded.noting(check_files(tls_of(loaded.config)))


def makeService(options: Options) -> IService:
    """The gateway of a checked configuration."""
    # Imported late: it brings in the reactor, which the command line may still choose.
    from frontier_tx.gateway import make_service

    return program(options, make_service)
