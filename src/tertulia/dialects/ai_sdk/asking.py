"""Where what a client sends belongs in the tree of its conversation.

The client tells all that it shows; the history here is what counts. So only the end of what it
tells is looked at: a user's message (new, edited, or to be answered again), or the outputs of tools
that the last answer called.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

from tertulia.conversations.messages import MessageService
from tertulia.dialects.ai_sdk.incoming import tool_results, user_parts
from tertulia.dialects.ai_sdk.schemas import ChatRequest, UIMessage, nothing_to_answer
from tertulia.dialects.client_ids import as_uuid, made_up
from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.parts import Part, ToolCallPart, part_to_json
from tertulia.runs.send import Send


@dataclass(frozen=True, slots=True)
class Asked:
    """What to have answered, and which message of the client's the answer goes on in."""

    send: Send
    continues: str | None = None
    """The client's id of it; None: the answer is a message of its own."""


async def asked_for(
    request: ChatRequest, conversation_id: UUID, messages: MessageService, *, user_id: UUID
) -> Asked:
    """Return what a request wants.

    Raises:
        Invalid: It has nothing to answer, or says what cannot be kept.
    """
    asked = await _Chat(request, conversation_id, messages, user_id).asked()
    send = replace(
        asked.send,
        model_type=request.model,
        on_busy=request.on_busy,
        settings=request.settings(),
    )
    return replace(asked, send=send)


@dataclass(frozen=True, slots=True)
class _Chat:
    """One request in its conversation."""

    request: ChatRequest
    conversation_id: UUID
    messages: MessageService
    user_id: UUID

    async def asked(self) -> Asked:
        told = self.request.told
        if not told:
            raise nothing_to_answer("body.messages")
        index = len(told) - 1
        last = told[index]
        is_again = self.request.trigger == "regenerate-message"
        if is_again:
            # The client leaves out the answer that it wants anew, but says which it was.
            prompt_id = await self._prompt_of(self.request.message_id)
            if prompt_id is not None:
                return Asked(Send(parent_id=prompt_id))
            index = next((at for at in reversed(range(index + 1)) if told[at].role == "user"), -1)
            if index < 0:
                raise nothing_to_answer("body.messages")
            last = told[index]
        if last.role == "assistant":
            return await self._after_tools(last, self.request.field_of(index))
        if last.role == "system":
            raise nothing_to_answer(self.request.field_of(index))
        before = told[index - 1] if index else None
        return Asked(await self._said(last, self.request.field_of(index), before))

    async def _prompt_of(self, client_id: str | None) -> UUID | None:
        """Return the user's message that an answer, or itself, leads to; None if unknown."""
        if client_id is None:
            return None
        found = await self._find([self._made_up(client_id), *_ids([client_id])])
        message = next(iter(found.values()), None)
        if message is None:
            return None
        return message.id if message.role is Role.USER else message.parent_id

    async def _said(self, message: UIMessage, field: str, before: UIMessage | None) -> Send:
        """Return a user's message as one to be stored; or answered again, if it is there."""
        parts = user_parts(message, field)
        first = self._made_up(message.id)
        edited = self._made_up(f"{message.id}\n{_written(parts)}")
        anchors = _ids(_client_ids(before))
        found = await self._find([first, edited, *_ids([message.id]), *anchors])
        mine = [found[id_] for id_ in (*_ids([message.id]), first) if id_ in found]
        known = next((each for each in mine if each.role is Role.USER), None)
        same = known if known is not None and known.parts == parts else found.get(edited)
        if same is not None:
            return Send(parent_id=same.id)
        new = [NewMessage(Role.USER, parts, id=first if known is None else edited)]
        if known is not None:
            # An edit stands beside what was said first.
            return Send(messages=new, parent_id=known.parent_id, begins=known.parent_id is None)
        anchor = next((id_ for id_ in anchors if id_ in found), None)
        return Send(messages=new, parent_id=anchor)

    async def _after_tools(self, answer: UIMessage, field: str) -> Asked:
        """Return the outputs of the tools that an answer's last step called."""
        found = await self._find(_ids(_client_ids(answer)))
        tip = next((found[id_] for id_ in _ids(_client_ids(answer)) if id_ in found), None)
        if tip is None:
            raise nothing_to_answer(f"{field}.id")
        calls = [part.call_id for part in tip.parts if isinstance(part, ToolCallPart)]
        results = tool_results(answer, field, calls=calls)
        id_ = made_up(_written(results), within=tip.id)
        if id_ in await self._find([id_]):
            send = Send(parent_id=id_)
        else:
            send = Send(messages=[NewMessage(Role.TOOL, results, id=id_)], parent_id=tip.id)
        return Asked(send, continues=answer.id)

    def _made_up(self, client_id: str) -> UUID:
        return made_up(client_id, within=self.conversation_id)

    async def _find(self, ids: Sequence[UUID]) -> Mapping[UUID, Message]:
        found = await self.messages.find_many(ids, user_id=self.user_id)
        here = {
            id_: each for id_, each in found.items() if each.conversation_id == self.conversation_id
        }
        # In the order in which they were asked for.
        return {id_: here[id_] for id_ in ids if id_ in here}


def _client_ids(message: UIMessage | None) -> list[str]:
    """Return what may name the last message here that is shown as one answer there.

    An answer that went on after its tools is several messages here: the last is in its metadata.
    """
    if message is None or message.role != "assistant":
        return []
    metadata: Any = message.metadata
    last = cast("dict[str, Any]", metadata).get("messageId") if isinstance(metadata, dict) else None
    return [last, message.id] if isinstance(last, str) else [message.id]


def _ids(client_ids: Sequence[str]) -> list[UUID]:
    return [id_ for id_ in map(as_uuid, client_ids) if id_ is not None]


def _written(parts: Sequence[Part]) -> str:
    return json.dumps([part_to_json(part) for part in parts], sort_keys=True)
