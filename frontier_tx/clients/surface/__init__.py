"""What clients offer, each operation once; ``clients`` and ``aio`` are the two flavours of it.

Type parameters say what a flavour returns: ``GivesBytes`` is a Deferred or a coroutine that gives bytes, and so on;
``AStream`` is the class of streams.
"""
