"""Text that arrives from a model exactly as it was meant, and can be stored."""

REPLACEMENT = "\ufffd"


class TextMender:
    r"""Mends the text of one stream, delta by delta.

    Two things that JSON can say cannot be stored as UTF-8 in PostgreSQL: a surrogate without its
    other half (`"\ud83d"`) and NUL (`"\u0000"`). Both become U+FFFD. A pair of surrogates that a
    provider split over two deltas becomes the one character that it is.
    """

    __slots__ = ("_high",)

    def __init__(self) -> None:
        self._high = ""

    def mend(self, text: str) -> str:
        """Return what can be shown now; a high surrogate at the end waits for its other half."""
        if self._high:
            text = self._high + text
            self._high = ""
        if text.isascii():
            return text.replace("\0", REPLACEMENT) if "\0" in text else text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return storable(text)

    def rest(self) -> str:
        """Return what was still waiting when the stream ended."""
        lost, self._high = self._high, ""
        return REPLACEMENT if lost else ""


def storable(text: str) -> str:
    """Return the text with pairs of surrogates joined; lone ones and NUL become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
