"""Going on from the stored beginning of an answer without doubling the space at the seam."""


class Seam:
    """Joins a stored prefix and what a model adds to it.

    Tokenizers put a space at the beginning of a word, not at the end of the one before it. A model
    shown a prefix that ends in white space therefore often writes that space again, or goes astray
    (some providers refuse such a prefix). So the prefix is sent without its trailing white space,
    and the same white space is taken off the beginning of what comes back.
    """

    __slots__ = ("_owed", "sent")

    def __init__(self, prefix: str) -> None:
        self.sent = prefix.rstrip()
        """What the model is shown."""
        self._owed = prefix[len(self.sent) :]

    def join(self, text: str) -> str:
        """Return what of the model's next text is new."""
        while self._owed and text:
            if text[0] != self._owed[0]:
                self._owed = ""
                break
            text, self._owed = text[1:], self._owed[1:]
        return text
