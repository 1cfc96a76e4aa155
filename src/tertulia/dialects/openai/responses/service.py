"""The use cases of responses: start, find, delete. A response is a run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from tertulia.conversations.service import ConversationService
from tertulia.conversations.tool_calls import Tip
from tertulia.dialects.deciding import Decided
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
from tertulia.dialects.openai.missing import asking_for, looking_for, not_found
from tertulia.dialects.openai.responses.approvals import approvals_in, as_sent, check_outputs
from tertulia.dialects.openai.responses.object import APPROVALS, echo_of
from tertulia.dialects.openai.responses.request import ConversationRef, ResponseSettings
from tertulia.domain.conversations import Message, NewMessage, Retention, Role
from tertulia.domain.errors import (
    ContextTooLong,
    Invalid,
    ItemNotFound,
    PreviousResponseNotFound,
    RunActive,
    RunNotFound,
)
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.parts import text_of
from tertulia.domain.runs import OnBusy, Run
from tertulia.runs.prompt import WHOLE_MESSAGES_MAX
from tertulia.runs.send import Branch, Instructions, NewConversation, Send
from tertulia.runs.service import RunService, Started

_TITLE_CHARS_MAX = 60
_REFERENCES_MAX = 500
_PAGE_MESSAGES = 1_000


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
        prepares: bool = False,
    ) -> Started:
        """Store what is asked and begin to answer it.

        Args:
            asked: The request.
            user_id: Whose.
            background: Whether nobody has to wait for it.
            idempotent: The response that this request made before is returned.
            unstored: Runs that were not to be stored, and can be gone on from all the same.
            prepares: Whether nothing is to be answered yet; the response is there to be gone on
                from.

        Raises:
            Invalid: It cannot be done as asked.
            PreviousResponseNotFound: There is no such response.
            ConversationNotFound: There is no such conversation.
        """
        settings = asked.to_settings()
        base = await self._base(asked, user_id=user_id, unstored=unstored)
        new = await self._new(asked, user_id=user_id)
        there = None if base is None else base.conversation_id
        messages = self.conversations.messages
        approved = await approvals_in(asked.input, there, messages, user_id=user_id)
        if not new and not prepares and approved is None and (base is None or not base.is_head):
            raise Invalid("There is nothing to answer: send `input`", field="body.input")
        check_outputs(asked.input)
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
            instructions=self._instructions(asked),
            # Who names a conversation wants it for itself.
            keeps=asked.conversation is not None,
            title=_title(new),
            is_whole=asked.truncation == "disabled",
            prepares=prepares,
            echo=echo,
        )
        where, send = _where(send, base, keeps=asked.store is not False)
        try:
            with asking_for(asked.model):
                if approved:
                    return await self._decide(approved, where, send, user_id, idempotent)
                return await self.runs.start(
                    where,
                    send,
                    user_id=user_id,
                    idempotent=idempotent,
                    also_temporary=base is not None and base.is_unstored,
                )
        except Invalid as error:
            if (wrong := as_sent(error, asked.input, new)) is not None:
                raise wrong from error
            raise

    def _instructions(self, asked: ResponseSettings) -> Instructions:
        if not self.heeds_instructions:
            return Instructions()
        return Instructions(asked.instructions, heeds_system=True)

    async def read_all(self, asked: ResponseSettings, *, user_id: UUID) -> list[NewMessage]:
        """Return all that came before a request and with it, oldest first; nothing is left out.

        Raises:
            Invalid: It cannot be done as asked.
            PreviousResponseNotFound: There is no such response.
            ConversationNotFound: There is no such conversation.
            RunActive: The answer that it goes on from is being written.
            ContextTooLong: It is more than a request can hold, and than any model is told.
        """
        base = await self._base(asked, user_id=user_id, unstored=())
        new = await self._new(asked, user_id=user_id)
        check_outputs(asked.input)
        tip = Tip(base.conversation_id, base.tip_id, user_id) if base is not None else None
        try:
            fresh = await self.conversations.messages.check_results(new, tip)
        except Invalid as error:
            raise as_sent(error, asked.input, new) or error from error
        new = list(fresh)
        if base is None or base.tip_id is None:
            return new
        before: list[NewMessage] = []
        left, edge = EXPANDED_CHARS_MAX - sum(map(chars_of, new)), None
        while True:
            page = await self.conversations.messages.read_branch(
                base.conversation_id,
                tip_id=base.tip_id,
                user_id=user_id,
                limit=_PAGE_MESSAGES,
                after_seq=edge,
            )
            for message in page:
                if message.generation is not None and message.generation.is_success is None:
                    raise RunActive("The answer is being written; wait for its end")
                if message.parts:
                    before.append(NewMessage(message.role, message.parts))
                    left -= chars_of(before[-1])
            if left < 0 or len(before) + len(new) > WHOLE_MESSAGES_MAX:
                raise ContextTooLong(
                    f"The conversation has more than {EXPANDED_CHARS_MAX} characters "
                    f"or {WHOLE_MESSAGES_MAX} messages"
                )
            if page.is_last:
                return [*before, *new]
            edge = page[-1].seq

    async def find(self, name: str, *, user_id: UUID) -> tuple[Run, Message]:
        """Return a response's run and its answer.

        Raises:
            RunNotFound: No such response, or it was not to be stored.
        """
        with looking_for("Response", name):
            run, answer = await self.runs.get_answer(parse_response_id(name), user_id=user_id)
            if echo_of(run).get("store") is False:
                raise RunNotFound
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

    async def _new(self, asked: ResponseSettings, *, user_id: UUID) -> list[NewMessage]:
        if asked.input is None:
            return []
        return await self.messages_of(asked.input, field="body.input", user_id=user_id)

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
        with looking_for("Conversation", name):
            found = await self.conversations.get(parse_conversation_id(name), user_id=user_id)
        return _Base(found.id, found.head_id, is_head=True)

    async def _previous(self, name: str, *, user_id: UUID, unstored: Collection[UUID]) -> Run:
        try:
            run = await self.runs.get(parse_response_id(name), user_id=user_id)
        except RunNotFound:
            raise _no_previous(name) from None
        if echo_of(run).get("store") is False and run.id not in unstored:
            raise _no_previous(name)
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
        places = [_place(each) for each in found if isinstance(each, InputReference)]
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
                with looking_for("Item", each.id):
                    place = _place(each)
                    new.append(_referred(place, stored.get(place.message_id)))
            else:
                new.append(each)
            left -= chars_of(new[-1])
            if left < 0:
                raise too_much(field)
        return new

    async def _decide(
        self,
        approved: tuple[Decided, Mapping[str, str]],
        where: UUID | NewConversation,
        send: Send,
        user_id: UUID,
        idempotent: IdempotentRequest | None,
    ) -> Started:
        """Do as the user decided about calls, and go on as was asked."""
        decided, names = approved
        if send.prepares or any(message.role is not Role.TOOL for message in send.messages):
            raise Invalid(
                "With approvals go outputs of functions only; say more when the calls have been "
                "made",
                field="body.input",
            )
        if not isinstance(where, UUID):
            raise Invalid("Calls are made where they were asked for", field="body.store")
        return await self.runs.decide(
            decided.run_id,
            decided.verdicts,
            user_id=user_id,
            send=replace(send, echo={**send.echo, APPROVALS: dict(names)}),
            idempotent=idempotent,
        )


def _where(send: Send, base: _Base | None, *, keeps: bool) -> tuple[UUID | NewConversation, Send]:
    """Return where a send goes that goes on from `base`, and the send as it is there."""
    retention = Retention.WITH_RUNS if keeps else Retention.TEMPORARY
    if base is None:
        return NewConversation(retention=retention), send
    if keeps is not base.is_unstored:
        return base.conversation_id, send
    # What is not to be stored leaves no trace in what is; what is goes on from a copy.
    history = None
    if base.tip_id is not None:
        history = Branch(base.conversation_id, base.tip_id, is_whole=send.is_whole)
    return NewConversation(retention=retention, history=history), replace(send, parent_id=None)


def _place(reference: InputReference) -> ItemPlace:
    with looking_for("Item", reference.id):
        return parse_item_id(reference.id)


def _referred(place: ItemPlace, message: Message | None) -> NewMessage:
    items = [] if message is None else split(message.parts)
    if message is None or place.number >= len(items):
        raise ItemNotFound
    found = items[place.number]
    if found.prefix != place.prefix:
        raise ItemNotFound
    return NewMessage(message.role, found.parts)


def _no_previous(name: str) -> PreviousResponseNotFound:
    return PreviousResponseNotFound(
        not_found("Previous response", name), field="body.previous_response_id"
    )


def _title(new: Sequence[NewMessage]) -> str | None:
    """Return the beginning of what the user said last, cut between words."""
    said = next((text_of(each.parts) for each in reversed(new) if each.role is Role.USER), "")
    words = " ".join(said[: 4 * _TITLE_CHARS_MAX].split())
    if len(words) <= _TITLE_CHARS_MAX:
        return words or "Untitled"
    cut = words[:_TITLE_CHARS_MAX]
    return f"{cut[: cut.rfind(' ')] if ' ' in cut[20:] else cut}…"
