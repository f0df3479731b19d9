"""The registry whose records are in Redis."""
