"""Failures of commands, told in words."""


class CommandFailed(Exception):  # noqa: N818  named for what happened
    """An expected problem: its text is shown without a traceback, and says what to do.

    Attributes:
        exit_code: 1 for problems of the world, 2 for wrong settings or arguments.
    """

    def __init__(self, text: str, *, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(text)
