"""What is said of what is not there: by the name that the client gave it."""

from collections.abc import Generator
from contextlib import contextmanager

from tertulia.domain.errors import ConversationNotFound, ItemNotFound, ModelNotFound, RunNotFound

_NAMED_CHARS = 100


@contextmanager
def looking_for(kind: str, name: str) -> Generator[None]:
    """Say which thing it was that was not found.

    Args:
        kind: As a sentence begins with it: `Response`.
        name: As the client wrote it.

    Raises:
        ConversationNotFound: Such an error, or `ItemNotFound` or `RunNotFound`, came from within.
    """
    try:
        yield
    except (ConversationNotFound, ItemNotFound, RunNotFound) as error:
        raise type(error)(not_found(kind, name), field=error.field) from None


@contextmanager
def asking_for(model: str | None) -> Generator[None]:
    """Say which model it was that nobody offers.

    Raises:
        ModelNotFound: It came from within.
    """
    try:
        yield
    except ModelNotFound as error:
        if model is None:
            raise
        detail = f"No such model is available: {_shortened(model)}"
        raise ModelNotFound(detail, field=error.field) from None


def not_found(kind: str, name: str) -> str:
    """Return the sentence that says so."""
    return f"{kind} {_shortened(name)} not found"


def _shortened(name: str) -> str:
    return repr(name if len(name) <= _NAMED_CHARS else f"{name[:_NAMED_CHARS]}…")
