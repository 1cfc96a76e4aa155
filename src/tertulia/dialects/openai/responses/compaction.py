"""`POST /v1/responses/compact`: a conversation as its user's words and a summary of the rest."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from tertulia.auth.dependencies import CurrentUser, StillAllowed
from tertulia.dialects.openai.failures import failure_of
from tertulia.dialects.openai.input_items import Input, compacted
from tertulia.dialects.openai.items import items_of
from tertulia.dialects.openai.responses.dependencies import CLIENT_LEFT_STATUS, Found
from tertulia.dialects.openai.responses.object import usage_of
from tertulia.dialects.openai.responses.request import Key, ModelName, ResponseId, ResponseSettings
from tertulia.dialects.openai.responses.service import Responses
from tertulia.dialects.waiting import ClientLeft, Waited
from tertulia.domain.conversations import Message, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.ids import new_id
from tertulia.domain.models import Usage
from tertulia.domain.runs import Run
from tertulia.runs.send import user_says

_KEPT_MAX = 100
"""Of the user's messages, the newest."""
_INSTRUCTION = (
    "Write a summary of the conversation so far, for yourself: you will go on with it and will "
    "have nothing else of it but the user's own messages. Keep facts, names, numbers, decisions, "
    "open questions, and what was found out with tools. Write nothing but the summary."
)
_encode = msgspec.json.Encoder().encode

router = APIRouter(prefix="/v1/responses", tags=["openai"])


class CompactCreate(BaseModel):
    """The body of `POST /v1/responses/compact`."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName
    input: Input | None = None
    instructions: StrictStr | None = None
    previous_response_id: ResponseId | None = None
    prompt_cache_key: Key | None = None
    prompt_cache_retention: StrictStr | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: StrictStr | None = None
    image: None = Field(default=None)


@router.post("/compact")
async def compact(
    body: CompactCreate,
    request: Request,
    user: CurrentUser,
    responses: Found,
    still_allowed: StillAllowed,
) -> Response:
    """Return a shorter input that stands for this one: give it to the next response as it is."""
    if body.input is None and body.previous_response_id is None:
        raise Invalid("There is nothing to compact: send `input`", field="body.input")
    # A run like any other, in a conversation of its own that is deleted with it.
    asked = ResponseSettings(
        model=body.model,
        input=body.input,
        previous_response_id=body.previous_response_id,
        store=False,
    )
    request_for_it = user_says(_with(body.instructions))
    started = await responses.start(asked, user_id=user.id, also=[request_for_it])
    run = started.run
    request.state.take_time()
    said = await _said(responses, run)
    waited = Waited(responses.runs, responses.conversations, run, user.id, is_temporary=True)
    try:
        run, answer = await waited.answer(request, still_allowed)
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT_STATUS)
    failure = failure_of(run)
    if failure is not None:
        return failure.response()
    return Response(_encode(_shown(run, answer, said)), media_type="application/json")


async def _said(responses: Responses, run: Run) -> list[dict[str, Any]]:
    """Return the items of what the user said, without the request for a summary."""
    before = await responses.conversations.messages.read_branch(
        run.conversation_id,
        tip_id=run.message_id,
        user_id=run.user_id,
        limit=_KEPT_MAX + 1,
        newest_first=True,
        after_seq=run.seq - 1,
    )
    kept = [message for message in reversed(before) if message.role is Role.USER]
    return [item for message in kept for item in items_of(message)]


def _shown(run: Run, answer: Message, said: list[dict[str, Any]]) -> dict[str, Any]:
    made = {
        "id": f"cmp_{answer.id.hex}",
        "type": "compaction",
        "encrypted_content": compacted(answer.content),
    }
    return {
        "id": f"resp_{new_id().hex}",
        "object": "response.compaction",
        "created_at": int(run.created_at.timestamp()),
        "output": [*said, made],
        "usage": usage_of(run.usage or Usage()),
    }


def _with(instructions: str | None) -> str:
    return _INSTRUCTION if not instructions else f"{instructions}\n\n{_INSTRUCTION}"
