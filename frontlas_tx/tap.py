"""``twistd frontlas``: not there yet, and says so."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.python import usage


class Options(usage.Options):
    """Takes no options yet."""

    def postOptions(self) -> None:
        raise SystemExit("frontlas: the cluster registry is not part of this version yet")


def makeService(options: Options) -> IService:
    """Never reached: parsing the options ends the process."""
    raise SystemExit("frontlas: the cluster registry is not part of this version yet")
