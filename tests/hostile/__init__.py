"""Attackers who know the protocol, beside pairs of ends that do honest work and must not notice: see ``__main__``."""
