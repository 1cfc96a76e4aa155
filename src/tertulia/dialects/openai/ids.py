"""OpenAI's names for what has an id here: a prefix that says its kind, and the id.

An item is a message, or one part of it: `msg_…` and, for the second and later items of a message,
`fc_…_1`, `rs_…_2`. So an id says where its item is, and nothing has to be remembered.
"""

import re
from typing import NamedTuple
from uuid import UUID

from tertulia.domain.errors import ConversationNotFound, ItemNotFound, RunNotFound

_ITEM = re.compile(r"([a-z]{2,4})_([0-9a-f]{32})(?:_([1-9][0-9]{0,5}))?")


class ItemPlace(NamedTuple):
    """Where an item is."""

    prefix: str
    message_id: UUID
    number: int
    """Among the items of its message, from 0."""


def response_id(run_id: UUID) -> str:
    """Return the name of a run as a response."""
    return f"resp_{run_id.hex}"


def completion_id(run_id: UUID) -> str:
    """Return the name of a run as a chat completion."""
    return f"chatcmpl-{run_id.hex}"


def conversation_id(id_: UUID) -> str:
    """Return the name of a conversation."""
    return f"conv_{id_.hex}"


def item_id(prefix: str, message_id: UUID, index: int) -> str:
    """Return the name of an item: `msg`, `rs`, `fc`, `fco`, `mcp` or `mcpr` say what it is."""
    return f"{prefix}_{message_id.hex}" + (f"_{index}" if index else "")


def parse_response_id(name: str) -> UUID:
    """Return the run's id.

    Raises:
        RunNotFound: It is no response's name.
    """
    found = _id_in(name, "resp_")
    if found is None:
        raise RunNotFound("Response not found")
    return found


def parse_completion_id(name: str) -> UUID:
    """Return the run's id.

    Raises:
        RunNotFound: It is no chat completion's name.
    """
    found = _id_in(name, "chatcmpl-")
    if found is None:
        raise RunNotFound("Chat completion not found")
    return found


def parse_conversation_id(name: str) -> UUID:
    """Return the conversation's id.

    Raises:
        ConversationNotFound: It is no conversation's name.
    """
    found = _id_in(name, "conv_")
    if found is None:
        raise ConversationNotFound
    return found


def parse_item_id(name: str) -> ItemPlace:
    """Return where an item is.

    Raises:
        ItemNotFound: It is no item's name.
    """
    match = _ITEM.fullmatch(name)
    if match is None:
        raise ItemNotFound
    prefix, hexadecimal, index = match.groups()
    return ItemPlace(prefix, UUID(hex=hexadecimal), int(index or 0))


def _id_in(name: str, prefix: str) -> UUID | None:
    hexadecimal = name.removeprefix(prefix)
    is_ours = hexadecimal != name and re.fullmatch("[0-9a-f]{32}", hexadecimal)
    return UUID(hex=hexadecimal) if is_ours else None
