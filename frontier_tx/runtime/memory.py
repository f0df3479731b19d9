"""Garbage collection and allocation of a server process. Programs that only use the library are left alone."""

import ctypes
import gc

#: Reference counting frees what traffic makes, connections included; looking for cycles every 700 allocations, which
#: is the interpreter's default, costs a gateway up to a tenth of its time and a flood of reports half of it, and finds
#: nothing. What came since is looked through in parts that take less than ten milliseconds each.
GC_THRESHOLDS = (8_000, 2, 50)

#: Parameters of glibc's ``mallopt``, with their numbers. By default it hands a received block back to the system and
#: asks for the next one, page by page; whether it does depends on what lies behind the block, so that the cost of a
#: stream varied by a factor of four.
MALLOC_SETTINGS = {
    # Blocks from here on have pages of their own, which go back at once.
    -3: 4_194_304,
    # So much may stay unused at the end of the heap.
    -1: 16_777_216,
}


def settle_memory() -> None:
    """Set up garbage collection and, where it is glibc's, allocation for a server. Call it once, when it starts."""
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in MALLOC_SETTINGS.items():
        mallopt(parameter, value)
