"""Demonstrations: a gateway, a cluster, a queue; each is told by its module's ``run``."""
