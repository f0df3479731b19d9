"""Lets ``twistd frontlas`` find the cluster registry. Imports nothing else: every twistd command imports this."""

from twisted.application.service import ServiceMaker

frontlas = ServiceMaker(
    "Frontlas",
    "frontlas_tx.tap",
    "The registry of a cluster of Frontiers: which one holds which edge",
    "frontlas",
)
