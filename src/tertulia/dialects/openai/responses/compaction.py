"""`POST /v1/responses/compact`: a conversation as its user's words and a summary of the whole."""

from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StrictStr

from tertulia.auth.dependencies import CurrentUser, StillAllowed
from tertulia.dialects.openai.failures import failure_of
from tertulia.dialects.openai.ids import response_id
from tertulia.dialects.openai.input_items import Input, compacted, is_summary
from tertulia.dialects.openai.items import items_of
from tertulia.dialects.openai.missing import asking_for
from tertulia.dialects.openai.responses.dependencies import CLIENT_LEFT_STATUS, Found
from tertulia.dialects.openai.responses.object import usage_of
from tertulia.dialects.openai.responses.request import (
    ImageConfig,
    Key,
    ModelName,
    ResponseId,
    ResponseSettings,
)
from tertulia.dialects.openai.responses.service import Responses
from tertulia.dialects.waiting import ClientLeft, Waited
from tertulia.domain.conversations import Message, NewMessage, Retention, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.models import PromptMessage, Usage
from tertulia.domain.runs import Run
from tertulia.http.idempotency import REPLAYED, Idempotent
from tertulia.llm.history import estimate_tokens
from tertulia.runs.prompt import UNKNOWN_CONTEXT_TOKENS, require_room
from tertulia.runs.send import Instructions, NewConversation, Send, user_says

_KEPT_SHARE = 0.5
"""Of the model's context, for the user's own messages; older ones are in the summary only."""
_KEPT_MAX = 1_000
"""Of them: with the summary and what is new they are sent as one input."""
_PAGE_MESSAGES = 200
_INSTRUCTION = (
    "Write a summary of the whole conversation so far, for yourself: you will go on with it and "
    "will have nothing else of it but the newest of the user's own messages. Keep what the user "
    "asked for, facts, names, numbers, decisions, open questions, and what was found out with "
    "tools. Write nothing but the summary."
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
    # Accepted, and without effect here.
    prompt_cache_key: Key | None = None
    prompt_cache_retention: StrictStr | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: StrictStr | None = None
    image: ImageConfig | None = None


@router.post("/compact")
async def compact(
    *,
    body: CompactCreate,
    request: Request,
    user: CurrentUser,
    responses: Found,
    idempotent: Idempotent,
    still_allowed: StillAllowed,
) -> Response:
    """Return a shorter input that stands for this one: give it to the next response as it is.

    Nothing is left out: what the model cannot read at once is a 400 `context_length_exceeded`.
    With an `Idempotency-Key` a retry within an hour gets the same compaction.
    """
    if body.input is None and body.previous_response_id is None:
        raise Invalid("There is nothing to compact: send `input`", field="body.input")
    asked = ResponseSettings(
        model=body.model, input=body.input, previous_response_id=body.previous_response_id
    )
    messages = await responses.read_all(asked, user_id=user.id)
    messages.append(user_says(_with(body.instructions)))
    context_tokens = await _context_tokens(responses, body.model, messages)
    started = await responses.runs.start(
        # A run like any other, in a conversation of its own that is deleted with it.
        NewConversation(retention=Retention.TEMPORARY),
        _send(responses, body.model, messages),
        user_id=user.id,
        idempotent=idempotent,
    )
    run = started.run
    request.state.take_time()
    said = await _said(responses, run, context_tokens=context_tokens)
    waited = Waited(responses.runs, responses.conversations, run, user.id, is_temporary=True)
    try:
        # With a key it goes on without its client, who may ask again.
        run, answer = (
            await waited.answer(request, still_allowed)
            if idempotent is None
            else await _answer(responses, run)
        )
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT_STATUS)
    failure = failure_of(run)
    if failure is not None:
        return failure.response()
    headers = REPLAYED if started.is_replay else None
    shown = _encode(_shown(run, answer, said))
    return Response(shown, media_type="application/json", headers=headers)


async def _context_tokens(
    responses: Responses, model: str, messages: list[NewMessage]
) -> int | None:
    """Return how much the model reads at once, if that is known.

    Raises:
        ModelNotFound: There is no such model.
        ContextTooLong: It cannot read these messages.
    """
    runs = responses.runs
    await runs.models.wait_for_lists()
    with asking_for(model):
        context_tokens = runs.models.info(runs.models.resolve(model)).context_tokens
    prompts = runs.executor.loop.prompts
    require_room(prompts.told(messages, _heeding(responses)), context_tokens)
    return context_tokens


def _send(responses: Responses, model: str, messages: list[NewMessage]) -> Send:
    return Send(
        messages=messages,
        model_type=model,
        instructions=_heeding(responses),
        title="Compaction",
        is_whole=True,
        echo={"model": model, "store": False},
    )


def _heeding(responses: Responses) -> Instructions:
    return Instructions(heeds_system=responses.heeds_instructions)


async def _said(
    responses: Responses, run: Run, *, context_tokens: int | None
) -> list[dict[str, Any]]:
    """Return the items of what the user said, without the request for a summary."""
    left = int((context_tokens or UNKNOWN_CONTEXT_TOKENS) * _KEPT_SHARE)
    kept: list[Message] = []
    edge = run.seq - 1
    while True:
        page = await responses.conversations.messages.read_branch(
            run.conversation_id,
            tip_id=run.message_id,
            user_id=run.user_id,
            limit=_PAGE_MESSAGES,
            newest_first=True,
            after_seq=edge,
        )
        for message in page:
            if message.role is not Role.USER or is_summary(message.content):
                continue
            left -= estimate_tokens(PromptMessage("user", message.parts))
            if left < 0 or len(kept) == _KEPT_MAX:
                return _items(kept)
            kept.append(message)
        if page.is_last:
            return _items(kept)
        edge = page[-1].seq


def _items(newest_first: list[Message]) -> list[dict[str, Any]]:
    return [item for message in reversed(newest_first) for item in items_of(message)]


async def _answer(responses: Responses, run: Run) -> tuple[Run, Message]:
    async with aclosing(responses.runs.follow(run.id, user_id=run.user_id, stays=True)) as followed:
        async for _ in followed:
            pass
    return await responses.runs.get_answer(run.id, user_id=run.user_id)


def _shown(run: Run, answer: Message, said: list[dict[str, Any]]) -> dict[str, Any]:
    made = {
        "id": f"cmp_{answer.id.hex}",
        "type": "compaction",
        "encrypted_content": compacted(answer.content),
    }
    return {
        "id": response_id(run.id),
        "object": "response.compaction",
        "created_at": int(run.created_at.timestamp()),
        "output": [*said, made],
        "usage": usage_of(run.usage or Usage()),
    }


def _with(instructions: str | None) -> str:
    return _INSTRUCTION if not instructions else f"{instructions}\n\n{_INSTRUCTION}"
