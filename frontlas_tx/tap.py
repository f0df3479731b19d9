"""``twistd frontlas``."""

from __future__ import annotations

from typing import ClassVar

from twisted.application.service import IService

from frontier_tx.config.layers import Flags
from frontier_tx.config.loading import Loaded
from frontier_tx.runtime.program import ServerOptions, program
from frontier_tx.runtime.tls import check_files
from frontlas_tx.config import FrontlasConfig, load_frontlas, tls_of


class Options(ServerOptions[FrontlasConfig]):
    """Command line of the cluster's registry."""

    program: ClassVar[str] = "frontlas"
    synopsis: ClassVar[str] = "[options]"
    longdesc: ClassVar[str] = "The registry that scales Frontier over any number of gateways."

    def load(self, path: str | None, flags: Flags) -> Loaded[FrontlasConfig]:
        loaded = load_frontlas(path, flags=flags)
        return loaded.noting(check_files(tls_of(loaded.config)))


def makeService(options: Options) -> IService:
    """The Frontlas of a checked configuration."""
    # Imported late: it brings in the reactor, which the command line may still choose.
    from frontlas_tx.service import make_service

    return program(options, make_service)
