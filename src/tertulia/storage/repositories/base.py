"""What every repository is: questions asked over one connection."""

from tertulia.storage.connection import Connection


class Repository:
    """Keeps the connection; what it may be asked is up to each."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
