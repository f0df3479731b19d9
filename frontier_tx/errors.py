"""Root of the errors of this distribution."""


class FrontierError(Exception):
    """Anything that this software reports as an error of its own; its text is a sentence for a person."""
