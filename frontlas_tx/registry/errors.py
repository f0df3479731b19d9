"""Errors of the registry; every text is one line for a person."""

from __future__ import annotations

from frontier_tx.errors import FrontierError

INCOMPLETE_TEXT = "redis lost its data"
"""How the text of a ``RegistryUnavailableError`` begins that concerns edges without a record alone; clients know it."""


class RegistryError(FrontierError):
    """Anything that the registry reports."""


class FrontierAlreadySetError(RegistryError):
    """The identity of a Frontier is held by another live one.  The text travels to the Frontier as it is."""

    def __init__(self) -> None:
        super().__init__("frontier already set")


class ClaimLostError(RegistryError):
    """The connection no longer speaks for its Frontier; close it."""


class RegistryUnavailableError(RegistryError):
    """The store cannot be reached or does not answer; the text names it and the cause.  Nothing was
    decided."""


class RegistryFullError(RegistryError):
    """A bound of the registry is reached; the text names the bound and how to raise it."""


class InvalidReportError(RegistryError):
    """An event that cannot be recorded, such as one for identity 0."""


def no_room() -> RegistryFullError:
    """There is no place for one more Frontier, as all have peers or come from where fewer are."""
    return RegistryFullError("the registry knows 4095 frontiers, the most it can; remove some")
