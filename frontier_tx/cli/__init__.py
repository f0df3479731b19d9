"""The command ``frontier``: talk to edges and services from a shell, and run gateways. See docs/command-line.md.

``main`` is the entry. Commands load what they need when they run: ``frontier --help`` loads neither the clients nor
Twisted.
"""
