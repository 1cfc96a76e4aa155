"""How a message is kept in a row, and read from one."""

from collections.abc import Sequence

from tertulia.domain.conversations import Generation, Message, Role
from tertulia.domain.parts import Part, TextPart, is_plain, part_from_json, part_to_json
from tertulia.storage.connection import Row

# A page has fifty; asking the enumeration for each would be a sixth of what its row costs.
_ROLES = {role.value: role for role in Role}


def stored_parts(parts: Sequence[Part]) -> Sequence[dict[str, str]] | None:
    """Return what the `parts` column holds: nothing where the text says it all."""
    return None if is_plain(parts) else [part_to_json(part) for part in parts]


def message_of(row: Row) -> Message:
    """Return the message of a row of `messages`."""
    return Message(
        id=row["id"],
        conversation_id=row["conversation_id"],
        parent_id=row["parent_id"],
        seq=row["seq"],
        role=_ROLES[row["role"]],
        content=row["content"],
        parts=parts_of(row),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        generation=None if row["run_id"] is None else _generation(row),
    )


def parts_of(row: Row) -> tuple[Part, ...]:
    """Return the parts of a message from its `content` and `parts` columns."""
    parts, content = row["parts"], row["content"]
    if parts is not None:
        return tuple(part_from_json(part) for part in parts)
    return (TextPart(content),) if content else ()


def _generation(row: Row) -> Generation:
    return Generation(
        run_id=row.run_id,
        model_type=row.model_type,
        is_success=row.is_success,
        status_code=row.status_code,
        prompt_tokens=row.prompt_tokens,
        response_tokens=row.response_tokens,
        total_tokens=row.total_tokens,
        cost_usd=row.cost_usd,
        finish_reason=row.finish_reason,
        latency_ms=row.latency_ms,
        first_token_ms=row.first_token_ms,
        provider_request_id=row.provider_request_id,
    )
