"""The gateway of the tests of Twisted's clients."""

from tests.clients.conftest import world

__all__ = ["world"]
