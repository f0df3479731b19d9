"""The switch: frames of edges and services go to and fro here, without Twisted and without a copy of a call's meaning.

``exchange`` forwards, ``repository`` knows who is online, ``presence`` decides who comes in. The hops are in
docs/architecture.md.
"""
