"""The classes are what their interfaces say."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from frontier_tx.clients import Client
from frontier_tx.clients.transport import StreamClientEndpoint, StreamPort, StreamServerEndpoint


def test_endpoints_of_streams() -> None:
    client = cast("Client", None)
    assert verifyObject(IStreamClientEndpoint, StreamClientEndpoint(client, "s"))
    assert verifyObject(IStreamServerEndpoint, StreamServerEndpoint(client))
    assert verifyObject(IListeningPort, StreamPort(client, cast("Any", Factory())))


def test_the_asyncio_clients_install_no_reactor() -> None:
    code = "import frontier_tx.aio, sys; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
