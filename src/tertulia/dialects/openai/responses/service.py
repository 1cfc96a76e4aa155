"""The use cases of responses: start, find, delete. A response is a run."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from tertulia.conversations.service import ConversationService
from tertulia.dialects.openai.ids import (
    ItemPlace,
    parse_conversation_id,
    parse_item_id,
    parse_response_id,
)
from tertulia.dialects.openai.input_items import (
    EXPANDED_CHARS_MAX,
    InputItem,
    InputReference,
    chars_of,
    messages_of,
    too_much,
)
from tertulia.dialects.openai.items import split
from tertulia.dialects.openai.responses.object import echo_of
from tertulia.dialects.openai.responses.request import ConversationRef, ResponseSettings
from tertulia.domain.conversations import Message, NewMessage, Retention, Role
from tertulia.domain.errors import (
    Invalid,
    ItemNotFound,
    PreviousResponseNotFound,
    RunNotFound,
)
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.parts import ToolCallPart, ToolResultPart, text_of
from tertulia.domain.runs import OnBusy, Run
from tertulia.runs.send import Branch, Instructions, NewConversation, Send
from tertulia.runs.service import RunService, Started

_TITLE_CHARS_MAX = 60
_REFERENCES_MAX = 500
_PAGE_MESSAGES = 200
_CALLS_SOUGHT_IN = 200
"""Messages before a function's output among which its call must be."""


@dataclass(frozen=True, slots=True)
class _Base:
    """What a response goes on from."""

    conversation_id: UUID
    tip_id: UUID | None
    """None: an empty conversation."""
    is_head: bool
    """Whether it follows the conversation's end, wherever that is by then."""
    is_unstored: bool = False
    """Whether it was not to be stored, and is known to this connection only."""


@dataclass(frozen=True, slots=True)
class Responses:
    """Starts, finds and deletes responses."""

    runs: RunService
    conversations: ConversationService
    heeds_instructions: bool
    """Whether the model is told `instructions` and `system` messages as such."""

    async def start(
        self,
        asked: ResponseSettings,
        *,
        user_id: UUID,
        background: bool = False,
        idempotent: IdempotentRequest | None = None,
        unstored: Collection[UUID] = (),
        also: Sequence[NewMessage] = (),
    ) -> Started:
        """Store what is asked and begin to answer it.

        Args:
            asked: The request.
            user_id: Whose.
            background: Whether nobody has to wait for it.
            idempotent: The response that this request made before is returned.
            unstored: Runs that were not to be stored, and can be gone on from all the same.
            also: Messages after those of the request.

        Raises:
            Invalid: It cannot be done as asked.
            PreviousResponseNotFound: There is no such response.
            ConversationNotFound: There is no such conversation.
        """
        settings = asked.to_settings()
        base = await self._base(asked, user_id=user_id, unstored=unstored)
        new = (
            []
            if asked.input is None
            else await self.messages_of(asked.input, field="body.input", user_id=user_id)
        )
        new += also
        if not new and (base is None or not base.is_head):
            raise Invalid("There is nothing to answer: send `input`", field="body.input")
        await self._check_outputs(new, base, user_id=user_id)
        echo = asked.echo()
        if background:
            echo["background"] = True
        send = Send(
            messages=new,
            parent_id=None if base is None or base.is_head else base.tip_id,
            model_type=asked.model,
            on_busy=OnBusy.QUEUE,
            settings=settings,
            mcp=asked.servers(),
            instructions=Instructions(asked.instructions, heeds_system=True)
            if self.heeds_instructions
            else Instructions(),
            # Who names a conversation wants it for itself.
            keeps=asked.conversation is not None,
            title=_title(new),
            echo=echo,
        )
        where, send = _where(send, base, keeps=asked.store is not False)
        try:
            return await self.runs.start(where, send, user_id=user_id, idempotent=idempotent)
        except Invalid as error:
            if error.field in ("body.content", "body.parent_id"):
                raise Invalid(error.detail, field="body.input") from error
            if error.field is not None and error.field.startswith("body.mcp"):
                raise Invalid(error.detail, field="body.tools") from error
            raise

    async def find(self, name: str, *, user_id: UUID) -> tuple[Run, Message]:
        """Return a response's run and its answer.

        Raises:
            RunNotFound: No such response, or it was not to be stored.
        """
        try:
            run, answer = await self.runs.get_answer(parse_response_id(name), user_id=user_id)
        except RunNotFound:
            raise RunNotFound("Response not found") from None
        if echo_of(run).get("store") is False:
            raise RunNotFound("Response not found")
        return run, answer

    async def input_of(self, run: Run, *, user_id: UUID) -> Sequence[Message]:
        """Return the messages that came with a response's request, oldest first."""
        count = run.settings.get("inputs", 0)
        if not count:
            return []
        found: list[Message] = []
        while len(found) < count:
            # A page of long messages is short.
            page = await self.conversations.messages.read_branch(
                run.conversation_id,
                tip_id=run.message_id,
                user_id=user_id,
                limit=min(count - len(found), _PAGE_MESSAGES),
                after_seq=found[-1].seq if found else run.seq,
                newest_first=True,
            )
            found += page
            if page.is_last:
                break
        return found[::-1]

    async def _base(
        self, asked: ResponseSettings, *, user_id: UUID, unstored: Collection[UUID]
    ) -> _Base | None:
        if asked.previous_response_id is not None:
            if asked.conversation is not None:
                raise Invalid(
                    "Name `previous_response_id` or `conversation`, not both",
                    field="body.conversation",
                )
            run = await self._previous(
                asked.previous_response_id, user_id=user_id, unstored=unstored
            )
            return _Base(
                run.conversation_id,
                run.message_id,
                is_head=False,
                is_unstored=run.id in unstored,
            )
        if asked.conversation is None:
            return None
        named = asked.conversation
        name = named.id if isinstance(named, ConversationRef) else named
        found = await self.conversations.get(parse_conversation_id(name), user_id=user_id)
        return _Base(found.id, found.head_id, is_head=True)

    async def _previous(self, name: str, *, user_id: UUID, unstored: Collection[UUID]) -> Run:
        try:
            run = await self.runs.get(parse_response_id(name), user_id=user_id)
        except RunNotFound:
            raise _no_previous() from None
        if echo_of(run).get("store") is False and run.id not in unstored:
            raise _no_previous()
        return run

    async def messages_of(
        self, sent: str | Sequence[InputItem], *, field: str, user_id: UUID
    ) -> list[NewMessage]:
        """Return the messages that were sent, items that are stored here among them.

        Args:
            sent: A user's words, or items.
            field: What it is called in the request, for errors.
            user_id: Whose.

        Raises:
            Invalid: It has content that cannot be kept.
            ItemNotFound: It refers to an item that is not there.
        """
        found = messages_of(sent, field=field)
        places = [parse_item_id(each.id) for each in found if isinstance(each, InputReference)]
        if not places:
            return [each for each in found if isinstance(each, NewMessage)]
        ids = list({place.message_id for place in places})
        if len(ids) > _REFERENCES_MAX:
            raise Invalid(f"A request refers to at most {_REFERENCES_MAX} messages", field=field)
        messages = self.conversations.messages
        if await messages.size_of(ids, user_id=user_id) > EXPANDED_CHARS_MAX:
            raise too_much(field)
        stored = await messages.find_many(ids, user_id=user_id)
        new: list[NewMessage] = []
        left = EXPANDED_CHARS_MAX
        for each in found:
            if isinstance(each, InputReference):
                place = parse_item_id(each.id)
                new.append(_referred(place, stored.get(place.message_id)))
            else:
                new.append(each)
            left -= chars_of(new[-1])
            if left < 0:
                raise too_much(field)
        return new

    async def _check_outputs(
        self, new: Sequence[NewMessage], base: _Base | None, *, user_id: UUID
    ) -> None:
        """Make sure that every function's output has its call before it."""
        called: set[str] = set()
        missing: dict[str, int] = {}
        for number, message in enumerate(new):
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    called.add(part.call_id)
                elif isinstance(part, ToolResultPart) and part.call_id not in called:
                    missing[part.call_id] = number
        if missing and base is not None and base.tip_id is not None:
            before = await self.conversations.messages.read_branch(
                base.conversation_id,
                tip_id=base.tip_id,
                user_id=user_id,
                limit=_CALLS_SOUGHT_IN,
                newest_first=True,
            )
            for message in before:
                for part in message.parts:
                    if isinstance(part, ToolCallPart):
                        missing.pop(part.call_id, None)
        for call_id, number in missing.items():
            raise Invalid(
                f"No tool call found for function call output with call_id {call_id[:100]}",
                field=f"body.input[{number}].call_id",
            )


def _where(send: Send, base: _Base | None, *, keeps: bool) -> tuple[UUID | NewConversation, Send]:
    """Return where a send goes that goes on from `base`, and the send as it is there."""
    retention = Retention.WITH_RUNS if keeps else Retention.TEMPORARY
    if base is None:
        return NewConversation(retention=retention), send
    if keeps is not base.is_unstored:
        return base.conversation_id, send
    # What is not to be stored leaves no trace in what is; what is goes on from a copy.
    history = None if base.tip_id is None else Branch(base.conversation_id, base.tip_id)
    return NewConversation(retention=retention, history=history), replace(send, parent_id=None)


def _referred(place: ItemPlace, message: Message | None) -> NewMessage:
    items = [] if message is None else split(message.parts)
    if message is None or place.number >= len(items):
        raise ItemNotFound
    found = items[place.number]
    if found.prefix != place.prefix:
        raise ItemNotFound
    return NewMessage(message.role, found.parts)


def _no_previous() -> PreviousResponseNotFound:
    return PreviousResponseNotFound(field="body.previous_response_id")


def _title(new: Sequence[NewMessage]) -> str | None:
    """Return the beginning of what the user said last, cut between words."""
    said = next((text_of(each.parts) for each in reversed(new) if each.role is Role.USER), "")
    words = " ".join(said[: 4 * _TITLE_CHARS_MAX].split())
    if len(words) <= _TITLE_CHARS_MAX:
        return words or "Untitled"
    cut = words[:_TITLE_CHARS_MAX]
    return f"{cut[: cut.rfind(' ')] if ' ' in cut[20:] else cut}…"
