"""The log of a conversation as pydantic-ai has it, read from messages as they are stored here."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from pydantic_ai import messages as theirs
from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.exceptions import UserError
from pydantic_core import PydanticSerializationError

from tertulia.domain.conversations import NewMessage
from tertulia.domain.ids import new_id
from tertulia.llm.exact_text import storable
from tertulia.pydantic_ai.from_parts import messages_of
from tertulia.pydantic_ai.to_parts import Share, shares
from tertulia.storage.repositories.agents import EntryMessage, NewBody

_ADAPTER = theirs.ModelMessagesTypeAdapter
ENTRY_BYTES_MAX = 2**25
"""Of one message, as JSON with its files in it."""
ENTRY_ID_CHARS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry, and what is to be stored for it."""

    id: str
    parent_id: str | None
    messages: Sequence[NewMessage]
    bodies: Sequence[NewBody]

    @property
    def message_id(self) -> UUID:
        """The message that it ends with."""
        return self.bodies[-1].message_id


def to_store(entry: ConversationEntry, *, is_new_id: bool = True) -> NewEntry:
    """Return what is to be stored for an entry.

    Args:
        entry: Theirs.
        is_new_id: Whether its id, if it is a UUID, is to be the id of the message it ends with.

    Raises:
        UserError: It cannot be stored; the text says why.
    """
    check_id(entry.id)
    text = _to_text(entry.message)
    # What is shown is what will be read: a tool's own types are JSON by then, characters mended.
    said = shares(next(_read([text])))
    messages: list[NewMessage] = []
    bodies: list[NewBody] = []
    for share, body in zip(said, _cut(text, said), strict=True):
        is_last = share is said[-1]
        id_ = (_own_id(entry.id) if is_last and is_new_id else None) or new_id()
        messages.append(NewMessage(share.role, share.parts, id=id_))
        bodies.append(NewBody(id_, entry.id if is_last else None, share is said[0], body))
    return NewEntry(entry.id, entry.parent_id, messages, bodies)


def to_entries(messages: Sequence[EntryMessage]) -> list[ConversationEntry]:
    """Return the entries that messages, oldest first, are.

    The first may lack its beginning, and does not know what it follows.
    """
    groups = _grouped(messages)
    read = _read([group[0].body for group in groups if len(group) == 1])
    tool_names: dict[str, str] = {}
    entries: list[ConversationEntry] = []
    parent_id: str | None = None
    for group in groups:
        if len(group) > 1:
            said: Sequence[theirs.ModelMessage] = [_joined(group, tool_names)]
        elif group[0].body is None:
            said = messages_of(group[0], tool_names)
        else:
            said = [next(read)]
        name = group[-1].entry_id or str(group[-1].id)
        for number, message in enumerate(said):
            id_ = name if number == len(said) - 1 else f"{name}.{number}"
            entries.append(ConversationEntry(id=id_, parent_id=parent_id, message=message))
            parent_id = id_
            if isinstance(message, theirs.ModelResponse):
                tool_names |= {call.tool_call_id: call.tool_name for call in message.tool_calls}
    return entries


def check_id(id_: str) -> None:
    """Make sure that an id can be stored.

    Raises:
        UserError: It cannot.
    """
    if storable(id_) != id_ or len(id_) > ENTRY_ID_CHARS_MAX:
        raise UserError(f"An id must be text of at most {ENTRY_ID_CHARS_MAX:,} characters.")


def _grouped(messages: Sequence[EntryMessage]) -> list[list[EntryMessage]]:
    """Return the messages of each entry; of one that was deleted in part, what is left."""
    groups: list[list[EntryMessage]] = []
    for message in messages:
        before = groups[-1][-1] if groups else None
        if before is not None and before.entry_id is None and not message.is_first:
            groups[-1].append(message)
        else:
            groups.append([message])
    return groups


def _read(bodies: Sequence[str | None]) -> Iterator[theirs.ModelMessage]:
    return iter(_ADAPTER.validate_json(f"[{','.join(body for body in bodies if body)}]"))


def _joined(group: Sequence[EntryMessage], tool_names: dict[str, str]) -> theirs.ModelMessage:
    """Return the request of which each message has a share; what was corrected says so anew."""
    whole: dict[str, Any] = {}
    parts: list[Any] = []
    for message in group:
        if message.body is None:
            share = _to_json(messages_of(message, tool_names)[0])
        else:
            share = json.loads(message.body)
            whole = whole or share
        parts += share["parts"]
    envelope = whole or {"kind": "request"}
    return next(_read([json.dumps({**envelope, "parts": parts})]))


def _cut(text: str, said: Sequence[Share]) -> Sequence[str]:
    """Return a message, as JSON, cut into what each speaker says in it."""
    if len(said) == 1:
        return [text]
    whole = json.loads(text)
    return [
        json.dumps({**whole, "parts": whole["parts"][share.begin : share.end]}, ensure_ascii=False)
        for share in said
    ]


def _to_json(message: theirs.ModelMessage) -> dict[str, Any]:
    return json.loads(_to_text(message))


def _to_text(message: theirs.ModelMessage) -> str:
    try:
        try:
            text = _ADAPTER.dump_json([message])[1:-1].decode()
        except PydanticSerializationError:  # half a character, perhaps
            mended = _mended(_ADAPTER.dump_python([message], mode="json")[0])
            text = json.dumps(mended, ensure_ascii=False)
    except PydanticSerializationError as error:
        raise UserError(f"A message cannot be written as JSON: {error}") from error
    if len(text.encode()) > ENTRY_BYTES_MAX:
        raise UserError(
            f"A message with its files must be shorter than {ENTRY_BYTES_MAX:,} bytes of JSON."
        )
    return text


def _mended(value: Any) -> Any:  # noqa: ANN401  JSON of any shape
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {storable(key): _mended(each) for key, each in pairs.items()}
    if isinstance(value, list):
        return [_mended(each) for each in cast("list[Any]", value)]
    return value


def _own_id(entry_id: str) -> UUID | None:
    try:
        id_ = UUID(entry_id)
    except ValueError:
        return None
    return id_ if str(id_) == entry_id else None
