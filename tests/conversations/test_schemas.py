import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from tertulia.conversations.changes import UNSET, ConversationChange
from tertulia.conversations.schemas import (
    ConversationCreate,
    ConversationReplace,
    ConversationResponse,
    ConversationUpdate,
    MessageCreate,
    MessageResponse,
    MessageUpdate,
    conversations_json,
    messages_json,
)
from tertulia.domain.conversations import Conversation, Generation, Message, Role
from tertulia.domain.ids import new_id
from tertulia.domain.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart

ID = str(new_id())


class TestWritten:
    @pytest.mark.parametrize(
        ("shape", "body"),
        [
            (ConversationCreate, {"title": ""}),
            (ConversationCreate, {"title": " \t\u3000"}),
            (ConversationCreate, {"title": "x" * 201}),
            (ConversationCreate, {"title": 7}),
            (ConversationCreate, {"model_type": ""}),
            (ConversationCreate, {"model_type": " "}),
            (ConversationCreate, {"model_type": "x" * 201}),
            (ConversationCreate, {"first_message": "x" * 100_001}),
            (ConversationCreate, {"first_message": ["x"]}),
            (ConversationCreate, {"user_id": ID}),
            (ConversationCreate, {"id": ID}),
            (ConversationCreate, {"message_count": 7}),
            (ConversationUpdate, {"title": " "}),
            (ConversationUpdate, {"title": "x" * 201}),
            (ConversationUpdate, {"is_archived": "yes"}),
            (ConversationUpdate, {"is_archived": 1}),
            (ConversationUpdate, {"message_count": 0}),
            (ConversationUpdate, {"user_id": ID}),
            (ConversationUpdate, {"head_id": "first"}),
            (ConversationReplace, {}),
            (ConversationReplace, {"title": None}),
            (ConversationReplace, {"is_archived": True}),
            (ConversationReplace, {"title": "t", "created_at": "2000-01-01T00:00:00Z"}),
            (ConversationReplace, {"title": "t", "head_id": ID}),
            (MessageCreate, {"role": "tool", "content": "x"}),
            (MessageCreate, {"role": "USER", "content": "x"}),
            (MessageCreate, {"content": "x"}),
            (MessageCreate, {"role": "user"}),
            (MessageCreate, {"role": "user", "content": ""}),
            (MessageCreate, {"role": "user", "content": 1}),
            (MessageCreate, {"role": "user", "content": "x" * 100_001}),
            (MessageCreate, {"role": "user", "content": "x", "parent_id": "y"}),
            (MessageCreate, {"role": "user", "content": "x", "is_success": True}),
            (MessageCreate, {"role": "user", "content": "x", "seq": 1}),
            (MessageUpdate, {}),
            (MessageUpdate, {"content": None}),
            (MessageUpdate, {"content": "x", "role": "system"}),
        ],
    )
    def test_refuses_what_it_does_not_know(
        self, shape: type[BaseModel], body: dict[str, Any]
    ) -> None:
        with pytest.raises(ValidationError):
            shape.model_validate(body)

    @pytest.mark.parametrize(
        ("shape", "body"),
        [
            (ConversationCreate, {}),
            (ConversationCreate, {"title": None, "model_type": None, "first_message": None}),
            (ConversationCreate, {"title": "x" * 200, "first_message": " " * 100_000}),
            (ConversationCreate, {"first_message": ""}),
            (ConversationUpdate, {}),
            (ConversationUpdate, {"title": None, "is_archived": None, "model_type": None}),
            (ConversationUpdate, {"title": ""}),
            (ConversationReplace, {"title": "t"}),
            (MessageCreate, {"role": "system", "content": "\n", "parent_id": None}),
        ],
    )
    def test_takes_everything_within_its_limits(
        self, shape: type[BaseModel], body: dict[str, Any]
    ) -> None:
        shape.model_validate(body)


class TestConversationUpdate:
    def test_leaves_alone_what_is_not_given(self) -> None:
        change = ConversationUpdate.model_validate({"is_archived": True}).change()
        assert change == ConversationChange(is_archived=True)
        assert change.head_id is UNSET

    def test_takes_null_for_no_change_but_for_the_head(self) -> None:
        nulls = dict.fromkeys(ConversationUpdate.model_fields)
        change = ConversationUpdate.model_validate(nulls).change()
        assert change == ConversationChange(head_id=None)


class TestMessageResponse:
    @pytest.mark.parametrize("parts", [(), (TextPart("hello"),)])
    def test_of_nothing_but_text_has_no_parts(self, parts: tuple[Part, ...]) -> None:
        shown = MessageResponse.of(_message(parts))
        assert (shown.content, shown.parts) == ("hello", None)

    def test_shows_every_kind_of_part_with_its_type(self) -> None:
        parts: tuple[Part, ...] = (
            ReasoningPart("hm"),
            TextPart("hello"),
            ToolCallPart("c", "add", "{"),
            ToolResultPart("c", "4"),
        )
        shown = MessageResponse.of(_message(parts)).model_dump(mode="json")
        assert shown["parts"] == [
            {"type": "reasoning", "text": "hm"},
            {"type": "text", "text": "hello"},
            {"type": "tool_call", "call_id": "c", "name": "add", "arguments": "{"},
            {"type": "tool_result", "call_id": "c", "content": "4"},
        ]

    def test_shows_every_word_of_how_an_answer_was_generated(self) -> None:
        generation = Generation(
            run_id=new_id(),
            model_type="a:b",
            is_success=True,
            status_code=200,
            prompt_tokens=1,
            response_tokens=2,
            total_tokens=3,
            cost_usd=Decimal("0.000001500"),
            finish_reason="stop",
            latency_ms=4,
            first_token_ms=5,
            provider_request_id="r",
        )
        shown = MessageResponse.of(_message((), generation)).model_dump()
        cost_usd = shown.pop("cost_usd")
        assert (type(cost_usd), cost_usd) == (float, 1.5e-6)
        for name in set(Generation.__dataclass_fields__) - {"cost_usd"}:
            assert shown[name] == getattr(generation, name)


def test_a_page_is_written_as_its_messages_would_be() -> None:
    generation = Generation(
        run_id=new_id(),
        model_type="a:b",
        is_success=None,
        status_code=200,
        prompt_tokens=1,
        response_tokens=None,
        total_tokens=3,
        cost_usd=Decimal("0.000001500"),
        finish_reason="stop",
        latency_ms=4,
        first_token_ms=5,
        provider_request_id="\u2028 '你好'",
    )
    parts = (ReasoningPart("hm"), TextPart("hello"), ToolCallPart("c", "add", "{"))
    messages = [_message(parts, generation), _message((TextPart("hello"),)), _message(())]
    shown = TypeAdapter(list[MessageResponse]).dump_json([*map(MessageResponse.of, messages)])
    assert json.loads(messages_json(messages)) == json.loads(shown)
    assert [*json.loads(messages_json(messages))[0]] == [*MessageResponse.model_fields]


def test_a_page_of_conversations_is_written_as_each_of_them_is() -> None:
    at = datetime.now(UTC)
    conversation = Conversation(
        id=new_id(),
        user_id=new_id(),
        title='Über "alles" \U0001f30d 学习',
        model_type="local:smollm2",
        is_archived=True,
        metadata={"a": "b"},
        message_count=3,
        head_id=new_id(),
        created_at=at.replace(microsecond=0),
        updated_at=at.replace(microsecond=120),
    )
    untitled = replace(conversation, title=None, head_id=None, metadata={}, is_archived=False)
    page = [conversation, untitled]
    shown = [ConversationResponse.model_validate(each) for each in page]
    dumped = TypeAdapter(list[ConversationResponse]).dump_json(shown)
    assert conversations_json(page) == dumped


def _message(parts: tuple[Part, ...], generation: Generation | None = None) -> Message:
    return Message(
        id=new_id(),
        conversation_id=new_id(),
        parent_id=None,
        seq=1,
        role=Role.ASSISTANT,
        content="hello",
        parts=parts,
        created_at=datetime.now(UTC),
        updated_at=datetime.now(UTC),
        generation=generation,
    )
