"""What the model is told: the way from the root of the conversation to the message it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from tertulia.domain.conversations import Message, Role
from tertulia.domain.models import PromptMessage
from tertulia.domain.parts import Part, ReasoningPart, TextPart, ToolResultPart
from tertulia.llm.history import BYTES_PER_TOKEN, fit, pair_tool_calls
from tertulia.storage.database import Database

_ANSWER_ROOM = 0.25
"""The share of a model's context that is left for its answer, unless the caller says how long."""
_UNKNOWN_CONTEXT_TOKENS = 128_000
_CONTENT_BYTES_MAX = 2**22
"""Of text, for the few models that could read more: about a million tokens."""
_PARTS_BYTES_MAX = 2**20
"""Of what messages are besides, as stored. Most of it is reasoning, which is not told again."""


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Reads a branch and fits it into a model's context."""

    database: Database
    system_prompt: str | None
    """The operator's words to every model. Nobody else's are ever given this role."""
    max_messages: int
    """Of one branch, the newest; older ones, and what does not fit, are not even read."""

    async def build(
        self,
        conversation_id: UUID,
        *,
        prompt_id: UUID,
        user_id: UUID,
        context_tokens: int | None,
        answer_tokens: int | None,
    ) -> Sequence[PromptMessage]:
        """Return what to send so that the model answers the message `prompt_id`."""
        context = context_tokens or _UNKNOWN_CONTEXT_TOKENS
        room = int(context * _ANSWER_ROOM) if answer_tokens is None else answer_tokens
        budget_tokens = max(context // 4, context - room)
        async with self.database.reading() as work:
            newest = await work.messages.list_branch(
                conversation_id,
                tip_id=prompt_id,
                user_id=user_id,
                limit=self.max_messages,
                newest_first=True,
                content_bytes=min(budget_tokens * BYTES_PER_TOKEN, _CONTENT_BYTES_MAX),
                parts_bytes=_PARTS_BYTES_MAX,
            )
        told = [shown for message in reversed(newest) for shown in as_told(message)]
        if self.system_prompt:
            told.insert(0, PromptMessage("system", (TextPart(self.system_prompt),)))
        return pair_tool_calls(fit(told, budget_tokens=budget_tokens))


def as_told(message: Message) -> Sequence[PromptMessage]:
    """Return a stored message as a model is told it: nothing, one message, or more.

    A client may store messages of the role `system`; to the model they are a user's words, for
    only the operator instructs it. Reasoning is not told again. Tool results get the role that
    providers want them in.
    """
    said: list[Part] = [
        part for part in message.parts if not isinstance(part, (ReasoningPart, ToolResultPart))
    ]
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    role = "assistant" if message.role is Role.ASSISTANT else "user"
    told = [PromptMessage(role, tuple(said))] if said else []
    return [*told, *(PromptMessage("tool", (result,)) for result in results)]
