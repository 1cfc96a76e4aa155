"""Whatever a message of pydantic-ai's holds comes back; what a person can read, all doors show."""

import json
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    BinaryImage,
    CachePoint,
    CompactionPart,
    DocumentUrl,
    FilePart,
    ImageUrl,
    InstructionDeltaPart,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    RetryFeedbackPart,
    RetryInfo,
    SpeechPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.usage import RequestUsage

from tertulia.domain import parts as ours
from tertulia.domain.conversations import Message, Role
from tertulia.pydantic_ai import PostgresConversationStore, entries, records, store
from tertulia.storage.database import Database
from tests.pydantic_ai.saying import NOON, answers, asks, entry, record

PIXEL = BinaryImage(b"\x89PNG\0\xff", media_type="image/png", vendor_metadata={"detail": "low"})
SOUND = BinaryContent(b"RIFF", media_type="audio/wav")
PIXEL_URL = "data:image/png;base64,iVBORwD/"


class Weather(BaseModel):
    degrees: float
    words: str


def request(*parts: object, **fields: object) -> ModelRequest:
    return ModelRequest(list(parts), timestamp=NOON, **fields)  # pyright: ignore[reportArgumentType]  # a test's own parts


def response(*parts: object, **fields: object) -> ModelResponse:
    return ModelResponse(list(parts), timestamp=NOON, **fields)  # pyright: ignore[reportArgumentType]  # a test's own parts


def said(text: str) -> tuple[ours.Part, ...]:
    return (ours.TextPart(text),)


# What an agent writes, and what others read: who says what.
TABLE: dict[str, tuple[ModelMessage, list[tuple[Role, tuple[ours.Part, ...]]]]] = {
    "a question": (asks("Why?"), [(Role.USER, said("Why?"))]),
    "an answer": (answers("So."), [(Role.ASSISTANT, said("So."))]),
    "all that surrounds a request": (
        request(
            UserPromptPart("Why?", timestamp=NOON),
            instructions="Be brief.",
            run_id="run-1",
            conversation_id="c",
            metadata={"b": 1, "a": [None, 1.50, "ü"]},
            state="interrupted",
        ),
        [(Role.USER, said("Why?"))],
    ),
    "all that surrounds a response": (
        response(
            TextPart("So.", id="msg_1", provider_name="openai", provider_details={"x": 1}),
            usage=RequestUsage(input_tokens=3, details={"reasoning_tokens": 2}),
            model_name="gpt",
            provider_name="openai",
            provider_details={"finish_reason": "stop"},
            provider_response_id="resp_1",
            finish_reason="stop",
            run_id="run-1",
            state="suspended",
        ),
        [(Role.ASSISTANT, said("So."))],
    ),
    "a system prompt and a question": (
        request(
            SystemPromptPart("You are a cook.", timestamp=NOON, dynamic_ref="who"),
            UserPromptPart("Soup?", timestamp=NOON),
            instructions="Be brief.",
        ),
        [(Role.SYSTEM, said("You are a cook.")), (Role.USER, said("Soup?"))],
    ),
    "reasoning, words and calls": (
        response(
            ThinkingPart("Hm.", signature="c2ln", id="r1", provider_name="anthropic"),
            TextPart("Let me look."),
            ToolCallPart("look", {"b": 1, "a": "ü"}, "call-1"),
            ToolCallPart("look", '{"at": 12', "call-2"),
            ToolCallPart("now", None, "call-3"),
        ),
        [
            (
                Role.ASSISTANT,
                (
                    ours.ReasoningPart("Hm."),
                    ours.TextPart("Let me look."),
                    ours.ToolCallPart("call-1", "look", '{"b":1,"a":"ü"}'),
                    ours.ToolCallPart("call-2", "look", '{"at": 12'),
                    ours.ToolCallPart("call-3", "now", "{}"),
                ),
            )
        ],
    ),
    "reasoning that nobody can read": (
        response(ThinkingPart("", signature="c2ln", provider_name="openai"), TextPart("So.")),
        [(Role.ASSISTANT, said("So."))],
    ),
    "results of tools": (
        request(
            ToolReturnPart("look", "sunny", "call-1", timestamp=NOON),
            ToolReturnPart("look", {"b": 1, "a": None}, "call-2", timestamp=NOON),
            ToolReturnPart("look", "No such town", "call-3", timestamp=NOON, outcome="failed"),
            ToolReturnPart("see", ["left", PIXEL], "call-4", timestamp=NOON, metadata={"m": 1}),
        ),
        [
            (
                Role.TOOL,
                (
                    ours.ToolResultPart("call-1", "sunny"),
                    ours.ToolResultPart("call-2", '{"b":1,"a":null}'),
                    ours.ToolResultPart("call-3", "No such town"),
                    ours.ToolResultPart("call-4", "left"),
                    ours.FilePart(PIXEL_URL, "image/png", detail="low"),
                ),
            )
        ],
    ),
    "a result with a word to it": (
        request(
            ToolReturnPart("look", "sunny", "call-1", timestamp=NOON),
            UserPromptPart("Is it?", timestamp=NOON),
            ToolReturnPart("look", "rain", "call-2", timestamp=NOON),
        ),
        [
            (Role.TOOL, (ours.ToolResultPart("call-1", "sunny"),)),
            (Role.USER, said("Is it?")),
            (Role.TOOL, (ours.ToolResultPart("call-2", "rain"),)),
        ],
    ),
    "files": (
        request(
            UserPromptPart(
                [
                    "See",
                    TextContent("this", metadata={"kept": True}),
                    ImageUrl("https://example.com/a.png", vendor_metadata={"detail": "high"}),
                    CachePoint(),
                    PIXEL,
                    DocumentUrl("https://example.com/download", media_type="application/pdf"),
                    AudioUrl("https://example.com/a"),
                    VideoUrl("https://example.com/a.mp4"),
                    ImageUrl("gs://bucket/a.png"),
                    UploadedFile("file-1", provider_name="openai"),
                ],
                timestamp=NOON,
            )
        ),
        [
            (
                Role.USER,
                (
                    ours.TextPart("See"),
                    ours.TextPart("this"),
                    ours.FilePart("https://example.com/a.png", "image/png", detail="high"),
                    ours.FilePart(PIXEL_URL, "image/png", detail="low"),
                    ours.FilePart("https://example.com/download", "application/pdf"),
                    ours.FilePart("https://example.com/a", None),
                    ours.FilePart("https://example.com/a.mp4", "video/mp4"),
                ),
            )
        ],
    ),
    "a file from a model": (
        response(FilePart(PIXEL)),
        [(Role.ASSISTANT, (ours.FilePart(PIXEL_URL, "image/png", detail="low"),))],
    ),
    "tools of the provider": (
        response(
            NativeToolCallPart("web_search", {"q": "x"}, "call-1", provider_name="openai"),
            NativeToolReturnPart(
                "web_search", {"n": 1}, "call-1", provider_name="openai", timestamp=NOON
            ),
            TextPart("So."),
        ),
        [
            (
                Role.ASSISTANT,
                (
                    ours.ToolCallPart("call-1", "web_search", '{"q":"x"}'),
                    ours.ToolResultPart("call-1", '{"n":1}'),
                    ours.TextPart("So."),
                ),
            )
        ],
    ),
    "speech": (
        request(SpeechPart(speaker="user", transcript="Hello", audio=SOUND)),
        [(Role.USER, said("Hello"))],
    ),
    "a summary": (
        response(CompactionPart("They met.", provider_name="anthropic")),
        [(Role.ASSISTANT, said("They met."))],
    ),
    "feedback": (
        request(
            RetryFeedbackPart(
                "Please say something.", retry=RetryInfo(cause="no_output"), timestamp=NOON
            )
        ),
        [(Role.USER, said("Please say something."))],
    ),
    "what only agents understand": (
        request(
            InstructionDeltaPart(id=None, content="Now in French."),
            UserPromptPart("Bon", timestamp=NOON),
        ),
        [(Role.USER, said("Bon"))],
    ),
    "nothing asked": (ModelRequest([], timestamp=NOON, instructions="x"), [(Role.USER, ())]),
    "nothing answered": (response(), [(Role.ASSISTANT, ())]),
    "no words": (asks(""), [(Role.USER, ())]),
    "what PostgreSQL's text cannot hold": (
        asks("a\0b"),
        [(Role.USER, said("a\ufffdb"))],
    ),
}


async def read_all(database: Database, user_id: UUID) -> list[Message]:
    async with database.reading() as work:
        (conversation,) = await work.conversations.list(user_id=user_id, limit=2)
        return await work.messages.list(conversation.id, user_id=user_id, limit=100)


@pytest.mark.parametrize("case", TABLE)
async def test_a_message_is_kept_and_shown(
    postgres_store: PostgresConversationStore, database: Database, user_id: UUID, case: str
) -> None:
    message, shown = TABLE[case]
    await postgres_store.save(Conversation(conversation_id="c", messages=[message, asks("next")]))
    loaded = await postgres_store.load("c")
    assert loaded is not None
    dump = ModelMessagesTypeAdapter.dump_json
    assert loaded.messages == [message, asks("next")]
    assert json.loads(dump(loaded.messages)) == json.loads(dump([message, asks("next")]))
    assert str(json.loads(dump(loaded.messages))) == str(json.loads(dump([message, asks("next")])))
    native = await read_all(database, user_id)
    assert [(each.role, each.parts) for each in native[:-1]] == shown
    parents = [None, *(each.id for each in native[:-1])]
    assert [each.parent_id for each in native] == parents


async def test_a_tools_own_types_become_json(postgres_store: PostgresConversationStore) -> None:
    result = Weather(degrees=21.5, words="sunny")
    message = request(ToolReturnPart("look", result, "call-1", timestamp=NOON))
    await postgres_store.save(Conversation(conversation_id="c", messages=[message]))
    loaded = await postgres_store.load("c")
    assert loaded is not None
    part = loaded.messages[0].parts[0]
    assert isinstance(part, ToolReturnPart)
    assert part.content == {"degrees": 21.5, "words": "sunny"}


async def test_half_a_character_is_mended(postgres_store: PostgresConversationStore) -> None:
    message = response(TextPart("a\ud83d"), ToolCallPart("t", {"a": ["\ud83d"]}, "call-1"))
    await postgres_store.save(Conversation(conversation_id="c", messages=[message]))
    loaded = await postgres_store.load("c")
    assert loaded is not None
    assert loaded.messages[0].parts == [
        TextPart("a\ufffd"),
        ToolCallPart("t", {"a": ["\ufffd"]}, "call-1"),
    ]


async def test_what_cannot_be_written_is_refused(
    postgres_store: PostgresConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opaque = request(ToolReturnPart("look", object(), "call-1", timestamp=NOON))
    with pytest.raises(UserError, match="JSON"):
        await postgres_store.save(Conversation(conversation_id="c", messages=[opaque]))
    # Not 32 MB of it.
    monkeypatch.setattr(entries, "ENTRY_BYTES_MAX", 1_000)
    with pytest.raises(UserError, match="1,000 bytes"):
        await postgres_store.save(Conversation(conversation_id="c", messages=[asks("x" * 1_000)]))
    for id_ in ("\0", "\ud83d", "x" * 1_001):
        with pytest.raises(UserError, match="id must be"):
            await postgres_store.save(Conversation(conversation_id=id_, messages=[asks("x")]))
        with pytest.raises(UserError, match="id must be"):
            await postgres_store.save(Conversation(messages=[asks("x")]), scope=id_)
    monkeypatch.setattr(store, "ENTRIES_MAX", 1)
    with pytest.raises(UserError, match="At most 1 "):
        await postgres_store.save(Conversation(messages=[asks("x"), asks("y")]))
    monkeypatch.setattr(records, "RECORD_BYTES_MAX", 100)
    with pytest.raises(UserError, match="100 bytes"):
        await postgres_store.save(Conversation(messages=[asks("x")]))
    assert await postgres_store.list_conversations() == []


async def test_an_entry_is_stored_once(postgres_store: PostgresConversationStore) -> None:
    for id_ in ("e", "3d9ab2a4-2a7e-4460-99b3-ae1e2f501c96"):
        new = entry(id_)
        await postgres_store.write_record(
            record(f"of {id_}", head_id=id_, revision="r1"),
            new_entries=[new],
            expected_revision=None,
        )
        with pytest.raises(ConversationConflict):
            await postgres_store.write_record(
                record(f"of {id_}", head_id=id_), new_entries=[new], expected_revision="r1"
            )
