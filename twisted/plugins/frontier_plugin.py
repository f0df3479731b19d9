"""Lets ``twistd frontier`` find the gateway. Imports nothing else: every twistd command imports this."""

from twisted.application.service import ServiceMaker

frontier = ServiceMaker(
    "Frontier",
    "frontier_tx.tap",
    "A gateway between edges (devices, apps, agents) and microservices",
    "frontier",
)
