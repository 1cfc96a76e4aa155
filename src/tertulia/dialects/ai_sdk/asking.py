"""What a request of `useChat` wants answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

from tertulia.conversations.messages import MessageService
from tertulia.conversations.tool_calls import unanswered
from tertulia.dialects.ai_sdk.history import UIHistory
from tertulia.dialects.ai_sdk.incoming import (
    approvals,
    check_own_calls,
    tool_results,
    user_parts,
)
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
    decided: Decided | None = None
    """If there is something, this and the results of `send` are all that is asked."""
    results_field: str = "body.messages"
    """Where the client tells results of its tools, for errors."""


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
                field = self.request.field_of(max(last - 1, 0))
                return Asked(await self._said(last), results_field=f"{field}.parts")
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
        field = self.request.field_of(at - 1)
        if _last_of(before) == str(answer.id):
            check_own_calls(before, field, calls=_own_calls(answer))
        if outputs := _outputs(before, answer, field):
            said.insert(0, outputs)
        return await self.placing.below(said, [answer.id])

    async def _after_tools(self, at: int) -> Asked:
        """Return the outputs of the tools that an answer's last step called."""
        message, field = self.request.told[at], self.request.field_of(at)
        answer = await self.placing.find(_names_of(message))
        if answer is None:
            raise nothing_to_answer(field)
        outputs = _outputs(message, answer, field)
        results_field = f"{field}.parts"
        if decided := await self._decided(message, answer, field):
            results = () if outputs is None else outputs.parts
            send = Send(tool_results=[r for r in results if isinstance(r, ToolResultPart)])
            return Asked(send, message.id, decided, results_field)
        if outputs is None or _last_of(message) == str(answer.id):
            check_own_calls(message, field, calls=_own_calls(answer))
        if outputs is None:
            raise nothing_to_answer(field)
        send = await self.placing.below([outputs], [answer.id])
        return Asked(send, message.id, results_field=results_field)

    async def _decided(self, message: UIMessage, answer: Message, field: str) -> Decided | None:
        """Return what the user decided about calls of this answer that wait for that."""
        verdicts = approvals(message, field)
        if not verdicts:
            return None
        group = await UIHistory(self.placing.messages).group_of(answer, self.placing.user_id)
        answered = {
            part.call_id
            for each in group
            for part in each.parts
            if isinstance(part, ToolResultPart)
        }
        waiting = {call_id: said for call_id, said in verdicts.items() if call_id not in answered}
        found = (Decided.about(each, waiting) for each in reversed(group))
        return next((decided for decided in found if decided is not None), None)

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


def _own_calls(answer: Message) -> list[str]:
    """Return the calls of an answer that this server makes and that have no result in it."""
    return [call.call_id for call in unanswered(answer.parts) if call.server is not None]


def _names_of(message: UIMessage) -> list[str]:
    """Return what may name the last message here that is shown as one answer there."""
    last = _last_of(message)
    return [message.id] if last is None else [last, message.id]


def _last_of(message: UIMessage) -> str | None:
    """Return the id that an answer's metadata tells.

    An answer that went on after its tools is several messages here: that is the last.
    """
    metadata: Any = message.metadata
    last = cast("dict[str, Any]", metadata).get("messageId") if isinstance(metadata, dict) else None
    return last if isinstance(last, str) and as_uuid(last) is not None else None
