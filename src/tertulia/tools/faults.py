"""What can go wrong between this server and another."""


class NoAnswer(Exception):  # noqa: N818  named for what happened
    """The server did not answer in time; whether it does what it was asked is not known."""


class ConnectionLost(NoAnswer):
    """The connection could not be made, or it broke."""
