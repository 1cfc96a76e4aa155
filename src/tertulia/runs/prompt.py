"""What the model is told: the way from the root of the conversation to the message it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from uuid import UUID

from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.errors import ContextTooLong
from tertulia.domain.models import PromptMessage, ProviderFailed
from tertulia.domain.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from tertulia.llm.history import BYTES_PER_TOKEN, estimate_tokens, fit, pair_tool_calls
from tertulia.runs.send import Instructions
from tertulia.storage.database import Database
from tertulia.storage.unit_of_work import UnitOfWork

_ANSWER_ROOM = 0.25
"""The share of a model's context that is left for its answer, unless the caller says how long."""
UNKNOWN_CONTEXT_TOKENS = 128_000
CONTENT_BYTES_MAX = 2**22
"""Of text, for the few models that could read more: about a million tokens."""
PARTS_BYTES_MAX = 2**23
"""Of what messages are besides, as stored: pictures, tool calls, and reasoning, which is not told
again."""
WHOLE_MESSAGES_MAX = 20_000
"""Of a branch that is told whole. Each takes eight tokens at the least."""
_WHOLE_BYTES_MAX = 2**24
"""Of its text, and of its parts: twice what one request can hold."""
_SURELY_TOO_LONG = 1.5
"""So many times a model's context, by an estimate that is rather too high: 4.5 bytes a token. What
is between may fit; its provider knows."""
_INSTRUCTIONS_MAX = 20
"""Messages at the beginning of a long branch that are told though others there are not."""
_INSTRUCTING = (Role.SYSTEM, Role.DEVELOPER)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which message is to be answered, and what its answer is to keep to."""

    conversation_id: UUID
    prompt_id: UUID
    user_id: UUID
    instructions: Instructions
    messages_min: int
    """So many messages came with the question: all of them are told."""
    context_tokens: int | None
    answer_tokens: int | None
    so_far: Sequence[Part] = ()
    """The answer's parts up to a tool's result, after which the model is asked again."""
    is_whole: bool = False
    """Whether it is all told, or nothing."""
    branch: Sequence[NewMessage] | None = None
    """From the conversation's first message to the question; None: it is to be read."""


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Reads a branch and fits it into a model's context."""

    database: Database
    system_prompt: str | None
    """The operator's words to every model, before anybody else's."""
    max_messages: int
    """Of one branch, the newest; older ones, and what does not fit, are not even read."""

    async def build(self, asked: Asked) -> Sequence[PromptMessage]:
        """Return what to send so that the model answers the message `asked.prompt_id`."""
        if asked.is_whole:
            return await self._build_whole(asked)
        context = asked.context_tokens or UNKNOWN_CONTEXT_TOKENS
        room = int(context * _ANSWER_ROOM) if asked.answer_tokens is None else asked.answer_tokens
        budget_tokens = max(context // 4, context - room)
        if asked.branch is None:
            async with self.database.reading() as work:
                messages = await self._read(work, asked, budget_tokens)
        else:
            messages = asked.branch
        # Paired first: what is cut off then takes no result without its call, or the other way.
        told = self.told(messages, asked.instructions, so_far=asked.so_far)
        return fit(told, budget_tokens=budget_tokens)

    def told(
        self,
        messages: Sequence[Message | NewMessage],
        instructions: Instructions,
        *,
        so_far: Sequence[Part] = (),
    ) -> list[PromptMessage]:
        """Return what a model is told of these messages, oldest first, if it can read it all."""
        told = [
            PromptMessage("system", (TextPart(text),))
            for text in (self.system_prompt, instructions.text)
            if text
        ]
        for message in messages:
            told += as_told(message, heeds_system=instructions.heeds_system)
        told += _told("assistant", so_far)
        return pair_tool_calls(_joined(told))

    async def _build_whole(self, asked: Asked) -> Sequence[PromptMessage]:
        async with self.database.reading() as work:
            newest = await work.messages.list_branch(
                asked.conversation_id,
                tip_id=asked.prompt_id,
                user_id=asked.user_id,
                limit=WHOLE_MESSAGES_MAX,
                newest_first=True,
                content_bytes=_WHOLE_BYTES_MAX,
                parts_bytes=_WHOLE_BYTES_MAX,
            )
        told = self.told(newest[::-1], asked.instructions, so_far=asked.so_far)
        try:
            if not newest.is_last:
                raise more_than_can_be_told()
            require_room(told, asked.context_tokens)
        except ContextTooLong as error:
            raise ProviderFailed(error.code, error.detail, status=400) from error
        return told

    async def _read(self, work: UnitOfWork, asked: Asked, budget_tokens: int) -> Sequence[Message]:
        newest = await work.messages.list_branch(
            asked.conversation_id,
            tip_id=asked.prompt_id,
            user_id=asked.user_id,
            limit=max(self.max_messages, asked.messages_min),
            newest_first=True,
            content_bytes=min(budget_tokens * BYTES_PER_TOKEN, CONTENT_BYTES_MAX),
            parts_bytes=PARTS_BYTES_MAX,
        )
        if newest.is_last or not asked.instructions.heeds_system:
            return newest[::-1]
        first = await work.messages.list_branch(
            asked.conversation_id,
            tip_id=asked.prompt_id,
            user_id=asked.user_id,
            limit=_INSTRUCTIONS_MAX,
        )
        leading = takewhile(lambda message: message.role in _INSTRUCTING, first)
        oldest_read = newest[-1].seq
        return [*(each for each in leading if each.seq < oldest_read), *newest[::-1]]


def require_room(told: Sequence[PromptMessage], context_tokens: int | None) -> None:
    """Make sure that a model may be able to read this; where that is not known, it will say.

    Raises:
        ContextTooLong: It is not.
    """
    if context_tokens is None:
        return
    needed = sum(map(estimate_tokens, told))
    if needed > context_tokens * _SURELY_TOO_LONG:
        raise ContextTooLong(
            f"The conversation takes about {needed} tokens, and the model reads {context_tokens}"
        )


def more_than_can_be_told() -> ContextTooLong:
    """Return what is said of a conversation of which no model is told all."""
    return ContextTooLong(
        f"The conversation has more than {WHOLE_MESSAGES_MAX} messages or "
        f"{_WHOLE_BYTES_MAX} bytes: no model is told so much at once"
    )


def as_told(
    message: Message | NewMessage, *, heeds_system: bool = False
) -> Sequence[PromptMessage]:
    """Return a stored message as a model is told it: nothing, one message, or more.

    Clients may store messages of the role `system`; unless the run heeds them, they are a user's
    words to the model, for only the operator instructs it. Reasoning is not told again. Tool
    results get the role that providers want them in; what was said after one is a new message.
    """
    role = "assistant" if message.role is Role.ASSISTANT else "user"
    if heeds_system and message.role in _INSTRUCTING:
        role = "system"
    return _told(role, message.parts)


def _told(role: str, parts: Sequence[Part]) -> Sequence[PromptMessage]:
    told: list[PromptMessage] = []
    said: list[Part] = []
    for part in parts:
        if isinstance(part, ToolResultPart):
            if said:
                told.append(PromptMessage(role, tuple(said)))
                said = []
            told.append(PromptMessage("tool", (part,)))
        elif not isinstance(part, ReasoningPart):
            said.append(part)
    if said:
        told.append(PromptMessage(role, tuple(said)))
    return told


def _joined(told: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return the messages with tool calls joined to what the model said before them.

    Some protocols bring every call as an item of its own. Providers want the calls that were made
    at once in one message.
    """
    joined: list[PromptMessage] = []
    for message in told:
        before = joined[-1] if joined else None
        calls = any(isinstance(part, ToolCallPart) for part in message.parts)
        if before is not None and calls and before.role == message.role == "assistant":
            joined[-1] = PromptMessage("assistant", (*before.parts, *message.parts))
        else:
            joined.append(message)
    return joined
