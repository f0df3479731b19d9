"""Root of the errors of this distribution."""


class FrontierError(Exception):
    """Anything that this software reports as an error of its own; its text is a sentence for a person."""

    #: Whether the text tells of addresses and the like, which are not for a peer to read.
    private = False


class ConfigError(FrontierError):
    """A configuration that cannot be used.

    ``problems`` holds one finished line of text per mistake, so that a file with three of them is mended in one
    go; ``str()`` joins them with line ends.
    """

    private = True

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: tuple[str, ...] = problems

    @classmethod
    def at(cls, path: str, value: object, allowed: str) -> "ConfigError":
        """One problem: the dotted key ``path``, the ``value`` found there, and what is ``allowed`` instead."""
        shown = repr(value)
        if len(shown) > 80:
            shown = f"{shown[:80]}…"
        return cls(f"{path}: {shown} is not allowed; expected {allowed}")

    def __str__(self) -> str:
        return "\n".join(self.problems)
