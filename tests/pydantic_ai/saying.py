"""Messages of pydantic-ai's that tests are made of."""

from datetime import UTC, datetime

from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def asks(text: str) -> ModelRequest:
    return ModelRequest([UserPromptPart(text, timestamp=NOON)], timestamp=NOON)


def answers(text: str) -> ModelResponse:
    return ModelResponse(
        [TextPart(text)],
        usage=RequestUsage(input_tokens=3, output_tokens=5),
        model_name="parrot",
        timestamp=NOON,
        finish_reason="stop",
    )


def talk(turns: int) -> list[ModelMessage]:
    """Return so many questions, each with its answer."""
    return [each for n in range(turns) for each in (asks(f"question {n}"), answers(f"answer {n}"))]


def text_of(message: ModelMessage) -> str:
    part = message.parts[0]
    assert isinstance(part, (UserPromptPart, TextPart))
    assert isinstance(part.content, str)
    return part.content


def entry(id_: str, parent_id: str | None = None, text: str | None = None) -> ConversationEntry:
    return ConversationEntry(id=id_, parent_id=parent_id, message=asks(text or id_))


def record(id_: str = "c", head_id: str | None = None, **fields: object) -> ConversationRecord:
    return ConversationRecord(conversation_id=id_, head_id=head_id, **fields)  # pyright: ignore[reportArgumentType]  # a test's own fields
