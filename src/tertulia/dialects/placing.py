"""Where what a client says belongs in the tree of its conversation.

Clients of these protocols tell all that they show, under ids that they made up. The history here is
what counts, so only the end of what they tell is looked at: it is new, or other words for what is
there (then it stands beside it), or it is there already (then it is answered again). Told again,
it finds itself: what is stored has an id made of the client's.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from tertulia.conversations.messages import MessageService
from tertulia.dialects.client_ids import as_uuid, made_up
from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.errors import Conflict
from tertulia.domain.parts import Part, part_to_json
from tertulia.runs.send import Send
from tertulia.runs.service import Started

_TRIES = 5
_Asked = TypeVar("_Asked")


async def asked_in_turn(
    find: Callable[[], Awaitable[_Asked]], start: Callable[[_Asked], Awaitable[Started]]
) -> tuple[_Asked, Started]:
    """Return what a client wants, and the run that this started.

    Of two that tell the same message at once the second finds it stored under its feet; it looks
    again, as if it had come later.

    Args:
        find: Looks up what there is, and returns what is to be sent.
        start: Sends it.
    """
    for _ in range(_TRIES - 1):
        asked = await find()
        try:
            return asked, await start(asked)
        except Conflict as error:
            if type(error) is not Conflict:
                # One that has a name is an answer.
                raise
    asked = await find()
    return asked, await start(asked)


@dataclass(frozen=True, slots=True)
class Said:
    """A message as a client tells it."""

    client_id: str
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Placing:
    """Finds the places of messages in one conversation."""

    messages: MessageService
    conversation_id: UUID
    user_id: UUID

    async def find_ours(self, ids: Sequence[UUID]) -> Mapping[UUID, Message]:
        """Return those of these messages that are there, under ids of ours."""
        return await self._find(ids)

    async def find(self, client_ids: Sequence[str]) -> Message | None:
        """Return the first of these messages that is there, under an id of ours or of a client."""
        ids = [id_ for client_id in client_ids for id_ in self._ids(client_id)]
        return next(iter((await self._find(ids)).values()), None)

    async def below(self, said: Sequence[Said], parents: Sequence[UUID]) -> Send:
        """Return what to send so that the last of these messages is answered.

        Args:
            said: What the client says, at least one message, each below the one before.
            parents: What may be the message above the first; of those that are there the first is
                it. None is there: it is the head.
        """
        every = [id_ for each in said for id_ in (*self._ids(each.client_id), self.exact_id(each))]
        found = await self._find([*parents, *every])
        parent = next((id_ for id_ in parents if id_ in found), None)
        for at, each in enumerate(said):
            known = self._known(each, found)
            same = self._same(each, known, found)
            if same is None:
                new = self._new(said[at:], taken=found)
                if known is None:
                    return Send(messages=new, parent_id=parent)
                above = known.parent_id
                return Send(messages=new, parent_id=above, begins=above is None)
            parent = same.id
        return Send(parent_id=parent)

    def ids_of(self, said: Said) -> list[UUID]:
        """Return under which ids a message may be found, the one of its very words first."""
        return [self.exact_id(said), *self._ids(said.client_id)]

    def exact_id(self, said: Said) -> UUID:
        """Return the id of a message in these words, where its own has other words."""
        words = json.dumps([part_to_json(part) for part in said.parts])
        return made_up(f"{said.client_id}\n{words}", within=self.conversation_id)

    def _ids(self, client_id: str) -> list[UUID]:
        ours = as_uuid(client_id)
        first = made_up(client_id, within=self.conversation_id)
        return [first] if ours is None else [ours, first]

    def _known(self, said: Said, found: Mapping[UUID, Message]) -> Message | None:
        ids = (id_ for id_ in self._ids(said.client_id) if id_ in found)
        return next((found[id_] for id_ in ids if found[id_].role is said.role), None)

    def _same(
        self, said: Said, known: Message | None, found: Mapping[UUID, Message]
    ) -> Message | None:
        if known is not None and known.parts == said.parts:
            return known
        return found.get(self.exact_id(said))

    def _new(self, said: Sequence[Said], *, taken: Collection[UUID]) -> list[NewMessage]:
        """Return messages to be stored, each under its client's id unless another has that."""
        new: dict[UUID, NewMessage] = {}
        for each in said:
            id_ = made_up(each.client_id, within=self.conversation_id)
            if id_ in taken or id_ in new:
                id_ = self.exact_id(each)
            new[id_] = NewMessage(each.role, each.parts, id=id_)
        return list(new.values())

    async def _find(self, ids: Sequence[UUID]) -> Mapping[UUID, Message]:
        """Return those that are in this conversation, in the order in which they were asked for."""
        found = await self.messages.find_many(ids, user_id=self.user_id)
        return {
            id_: found[id_]
            for id_ in ids
            if id_ in found and found[id_].conversation_id == self.conversation_id
        }
