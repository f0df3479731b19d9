"""The gateway as a Twisted service: listeners, protocols and factories around the switch."""

from frontier_tx.gateway.service import Gateway, make_service

__all__ = ["Gateway", "make_service"]
