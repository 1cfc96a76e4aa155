"""What every product is asked for, in its own words."""

from typing import Protocol

from benchmarks.stage import Server

ITEMS, MESSAGES = 10, 20
"""Conversations of a user, and messages in each."""
APPENDED_TO = 100
"""Conversations that messages are appended to in turn: so many that none grows much meanwhile."""


class Contender(Protocol):
    """A product that runs and has the conversations."""

    @property
    def server(self) -> Server:
        """Who is asked."""
        ...

    @property
    def more_and_less(self) -> str:
        """What it does more than the others, and less, for the same requests."""
        ...

    def listing(self) -> list[str]:
        """Return the request for the list of ten."""
        ...

    def pages(self) -> list[str]:
        """Return requests for the twenty messages, one for each conversation."""
        ...

    def appends(self) -> list[str]:
        """Return requests that append, each to a conversation of twenty messages made for it."""
        ...
