"""The protocol of Redis as far as a queue needs it: many commands at once, answered by whether they worked."""

#: A line of an answer is no longer.
MOST_LINE = 65_536


def command(*words: bytes) -> bytes:
    """One command as it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts += (b"$%d\r\n" % len(word), word, b"\r\n")
    return b"".join(parts)


class Replies:
    """Splits what a server sends into answers: numbers, lines, errors, and texts without line breaks."""

    def __init__(self) -> None:
        self._rest = b""
        #: Whether the next line is the text that the last one announced.
        self._text_follows = False

    def feed(self, data: bytes) -> list[str | None]:
        """Take bytes; return for each answer that they end its error, or None where it is a success.

        :raises ValueError: it is no such answer; the text says what came.
        """
        lines = (self._rest + data).split(b"\r\n")
        self._rest = lines.pop()
        if len(self._rest) > MOST_LINE:
            raise ValueError("the server sends a line without end")
        answers: list[str | None] = []
        for line in lines:
            kind = line[:1]
            if self._text_follows:
                self._text_follows = False
                answers.append(None)
            elif kind in (b":", b"+"):
                answers.append(None)
            elif kind == b"$":
                if line[1:2] == b"-":
                    answers.append(None)
                else:
                    self._text_follows = True
            elif kind == b"-":
                answers.append(line[1:].decode("utf-8", "replace").removeprefix("ERR "))
            else:
                raise ValueError(f"the server sends {line[:40]!r}, which is no answer")
        return answers
