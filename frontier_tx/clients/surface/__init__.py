"""What clients offer, each operation once; ``clients`` and ``aio`` are the two flavours of it.

Type parameters say what a flavour returns: ``B`` for an operation that gives bytes, ``N`` for one that gives nothing,
``M`` for one that gives a message, ``S`` for one that gives a stream. ``T`` is the class of streams.
"""
