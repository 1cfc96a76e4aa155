"""A conversation's record as pydantic-ai has it, and what is kept of it."""

from dataclasses import replace

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.conversation_store import ConversationRecord
from pydantic_ai.exceptions import UserError
from pydantic_core import PydanticSerializationError

from tertulia.storage.repositories.agents import StoredRecord

# A list of one, for only so does pydantic take the setting that pydantic-ai writes messages with.
_ADAPTER = TypeAdapter(list[ConversationRecord], config=ConfigDict(ser_json_bytes="base64"))

RECORD_BYTES_MAX = 2**25
"""As JSON: tool calls that wait for an answer, and where branches were left."""


def to_record(stored: StoredRecord, *, name: str | None = None) -> ConversationRecord:
    """Return the record of a conversation as it is now.

    Args:
        stored: As it is stored.
        name: What its agent calls the conversation. None: as it was saved, or else its id.
    """
    if stored.record is None:
        return ConversationRecord(
            conversation_id=name or str(stored.id),
            head_id=stored.head_entry_id,
            revision=stored.revision,
            updated_at=stored.updated_at,
        )
    saved = _ADAPTER.validate_json(f"[{stored.record}]")[0]
    return replace(
        saved,
        conversation_id=saved.conversation_id if name is None else name,
        head_id=stored.head_entry_id,
        branches=list(stored.branches),
        revision=stored.revision,
        # Who went on somewhere else waits for those answers no more.
        deferred_tool_requests=saved.deferred_tool_requests if stored.is_same_head else None,
        updated_at=saved.updated_at if stored.is_as_saved else stored.updated_at,
    )


def to_json(record: ConversationRecord) -> str:
    """Return what is kept of a record.

    Raises:
        UserError: It cannot be written as JSON, or is too long.
    """
    try:
        text = _ADAPTER.dump_json([record])[1:-1]
    except PydanticSerializationError as error:
        raise UserError(f"The record cannot be written as JSON: {error}") from error
    if len(text) > RECORD_BYTES_MAX:
        raise UserError(f"A record must be shorter than {RECORD_BYTES_MAX:,} bytes of JSON.")
    return text.decode()
