"""The machine of a client without I/O: connections, sessions, operations, queues, reconnecting."""
