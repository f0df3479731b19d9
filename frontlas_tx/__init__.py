"""Frontlas on Twisted: the registry of a cluster of Frontiers."""
