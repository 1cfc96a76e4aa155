"""What a request of `useChat` wants answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

from tertulia.conversations.messages import MessageService
from tertulia.dialects.ai_sdk.history import UIHistory
from tertulia.dialects.ai_sdk.incoming import approvals, tool_results, user_parts
from tertulia.dialects.ai_sdk.schemas import ChatRequest, UIMessage, nothing_to_answer
from tertulia.dialects.client_ids import as_uuid
from tertulia.dialects.deciding import Decided
from tertulia.dialects.placing import Placing, Said
from tertulia.domain.conversations import Message, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import ToolCallPart, ToolResultPart
from tertulia.runs.send import Send


@dataclass(frozen=True, slots=True)
class Asked:
    """What to have answered, and which message of the client's the answer goes on in."""

    send: Send
    continues: str | None = None
    """The client's id of it; None: the answer is a message of its own."""
    decisions: Sequence[Decided] = ()
    """If there are any, these are all that is asked."""


async def asked_for(
    request: ChatRequest, conversation_id: UUID, messages: MessageService, *, user_id: UUID
) -> Asked:
    """Return what a request wants.

    Raises:
        Invalid: It has nothing to answer, or says what cannot be kept.
    """
    asked = await _Chat(request, Placing(messages, conversation_id, user_id)).asked()
    send = replace(
        asked.send,
        model_type=request.model,
        on_busy=request.on_busy,
        settings=request.settings(),
        mcp=list(dict.fromkeys(request.mcp)),
    )
    return replace(asked, send=send)


@dataclass(frozen=True, slots=True)
class _Chat:
    """One request in its conversation."""

    request: ChatRequest
    placing: Placing

    async def asked(self) -> Asked:
        told = self.request.told
        if self.request.trigger == "regenerate-message":
            # The client leaves out the answer that it wants anew, but says which it was.
            prompt_id = await self._prompt_of(self.request.message_id)
            if prompt_id is not None:
                return Asked(Send(parent_id=prompt_id))
            last = max((at for at, each in enumerate(told) if each.role == "user"), default=-1)
        else:
            last = len(told) - 1
        if last < 0:
            raise nothing_to_answer("body.messages")
        match told[last].role:
            case "user":
                return Asked(await self._said(last))
            case "assistant":
                return await self._after_tools(last)
            case "system":
                raise nothing_to_answer(self.request.field_of(last))

    async def _prompt_of(self, client_id: str | None) -> UUID | None:
        """Return the user's message that an answer, or itself, leads to; None if unknown."""
        message = await self.placing.find([client_id]) if client_id is not None else None
        if message is None:
            return None
        return message.id if message.role is Role.USER else message.parent_id

    async def _said(self, at: int) -> Send:
        """Return a user's message, below what the client shows before it."""
        message = self.request.told[at]
        said = [_said(message, self.request.field_of(at))]
        before = self.request.told[at - 1] if at else None
        if before is None or before.role == "system":
            return await self.placing.below(said, ())
        if before.role == "user":
            # Its answer never reached the client.
            return await self.placing.below(said, self._ids_of_user(before, at - 1))
        answer = await self.placing.find(_names_of(before))
        if answer is None:
            return await self.placing.below(said, ())
        if outputs := _outputs(before, answer, self.request.field_of(at - 1)):
            said.insert(0, outputs)
        return await self.placing.below(said, [answer.id])

    async def _after_tools(self, at: int) -> Asked:
        """Return the outputs of the tools that an answer's last step called."""
        message, field = self.request.told[at], self.request.field_of(at)
        answer = await self.placing.find(_names_of(message))
        if answer is None:
            raise nothing_to_answer(field)
        if decisions := await self._decisions(message, answer):
            return Asked(Send(), continues=message.id, decisions=decisions)
        outputs = _outputs(message, answer, field)
        if outputs is None:
            raise nothing_to_answer(field)
        return Asked(await self.placing.below([outputs], [answer.id]), continues=message.id)

    async def _decisions(self, message: UIMessage, answer: Message) -> Sequence[Decided]:
        """Return what the user decided about calls of this answer that wait for that."""
        decided = approvals(message)
        if not decided:
            return ()
        group = await UIHistory(self.placing.messages).group_of(answer, self.placing.user_id)
        answered = {
            part.call_id
            for each in group
            for part in each.parts
            if isinstance(part, ToolResultPart)
        }
        return [
            Decided(each.generation.run_id, part, decided[part.call_id])
            for each in group
            if each.generation is not None
            for part in each.parts
            if isinstance(part, ToolCallPart)
            and part.server is not None
            and part.call_id in decided
            and part.call_id not in answered
        ]

    def _ids_of_user(self, message: UIMessage, at: int) -> Sequence[UUID]:
        try:
            return self.placing.ids_of(_said(message, self.request.field_of(at)))
        except Invalid:
            # It was refused, so it is not there.
            return ()


def _said(message: UIMessage, field: str) -> Said:
    return Said(message.id, Role.USER, user_parts(message, field))


def _outputs(message: UIMessage, answer: Message, field: str) -> Said | None:
    """Return what the client's tools answered to an answer's calls, if they did."""
    calls = [
        part.call_id
        for part in answer.parts
        if isinstance(part, ToolCallPart) and part.server is None
    ]
    results = tool_results(message, field, calls=calls)
    return Said(f"outputs of {answer.id}", Role.TOOL, results) if results else None


def _names_of(message: UIMessage) -> list[str]:
    """Return what may name the last message here that is shown as one answer there.

    An answer that went on after its tools is several messages here: the last is in its metadata.
    """
    metadata: Any = message.metadata
    last = cast("dict[str, Any]", metadata).get("messageId") if isinstance(metadata, dict) else None
    known = isinstance(last, str) and as_uuid(last) is not None
    return [cast("str", last), message.id] if known else [message.id]
