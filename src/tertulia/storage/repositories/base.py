"""What every repository is: questions asked over one connection."""

from tertulia.domain.users import Claim
from tertulia.storage.connection import Connection
from tertulia.storage.repositories.claims import ProvingConnection


class Repository:
    """Keeps the connection; what it may be asked is up to each."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _for(self, claim: Claim | None) -> Connection | ProvingConnection:
        """Return what to ask for a user who is still to be proven, if there is a claim."""
        return self._connection if claim is None else ProvingConnection(self._connection, claim)
