"""The atlas plane: what a Frontier and Frontlas say to each other on port 40012 (docs/protocol.md has the frames).

A Frontier is the client of this wire and Frontlas the server; everything is calls on session 1.
"""
