"""The switch: frames of edges and services go to and fro here, without Twisted and without a copy of a call's meaning.

``exchange`` forwards, ``repository`` knows who is online, ``edgebound`` and ``servicebound`` decide who comes in.
"""
