"""What the open WebSockets of this process may take: so many of one user, so much text of all.

Nothing bounds how long a WebSocket stays, so their number has to be. An event stream has no such
limit: it is a request, holds 64 KB at most, and behind one API key there may be a thousand people
who read.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from tertulia.domain.errors import TooManyConnections

WAITING_CHARS_MAX = 256 * 1024 * 1024
"""Of messages that were sent before they could be taken up, over all WebSockets together."""


@dataclass(slots=True)
class Sockets:
    """Counts the WebSockets of one process, of whatever protocol."""

    max_of_user: int
    """At once."""
    waiting_chars_max: int = WAITING_CHARS_MAX
    _open: dict[UUID, int] = field(default_factory=dict[UUID, int])
    _waiting_chars: int = 0

    @contextmanager
    def opened(self, user_id: UUID) -> Generator[None]:
        """Count one more of the user's for as long as the block runs.

        Raises:
            TooManyConnections: The user has as many as one may have.
        """
        count = self._open.get(user_id, 0)
        if count >= self.max_of_user:
            raise TooManyConnections
        self._open[user_id] = count + 1
        try:
            yield
        finally:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]

    def take_in(self, chars: int) -> bool:
        """Make room for a message that has to wait; say whether there was any."""
        if self._waiting_chars + chars > self.waiting_chars_max:
            return False
        self._waiting_chars += chars
        return True

    def let_go(self, chars: int) -> None:
        """Give back the room of messages that wait no more."""
        self._waiting_chars -= chars
