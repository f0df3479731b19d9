"""A connection of an asyncio program: Twisted's protocol, and a log that is the program's."""

from twisted.logger import Logger, STDLibLogObserver

from frontier_tx.clients.link import ClientProtocol

#: What the parts that are shared with Twisted's clients log, for ``logging``: no observer of Twisted runs here.
LOG = Logger("frontier.client", observer=STDLibLogObserver("frontier.client"))


class AioProtocol(ClientProtocol):
    """The client's end of a connection."""

    log = LOG
