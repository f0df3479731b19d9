"""Frontier on Twisted: the gateway, its wire layer and its clients."""

__version__ = "0.1.0"
