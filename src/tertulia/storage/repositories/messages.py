"""Messages: the tree, in the order in which it grew.

A conversation's tree is cut into branches: a message whose parent is the last of its branch goes
on in it, any other starts a new one that remembers where it left. Within one branch, and along the
way from the root to any message, `seq` only grows. So a page of a branch is a few index ranges,
one for each branch on the way, however long the conversation is.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.errors import MessageNotFound, RunActive
from tertulia.domain.ids import new_id
from tertulia.domain.parts import (
    Part,
    ReasoningPart,
    TextPart,
    text_of,
)
from tertulia.domain.users import Claim
from tertulia.storage.connection import Row
from tertulia.storage.repositories import message_lists as lists
from tertulia.storage.repositories import message_statements as sql
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.repositories.message_rows import message_of, stored_parts

PAGE_CONTENT_BYTES = 2**20
"""Of text. Writing it out as JSON takes one to five milliseconds of the event loop."""
PAGE_PARTS_BYTES = 2**18
"""Of what messages are besides their text, as it is stored: compressed, to about a third."""
_BEFORE_ANY = 0
_AFTER_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands in its tree."""

    id: UUID | None
    """None: before the first message."""
    seq: int
    branch: int
    is_tip: bool
    """Whether its branch ends with it."""
    role: Role | None


ROOT = Place(id=None, seq=0, branch=0, is_tip=False, role=None)


class Listed(list[Message]):
    """Messages in the order that was asked for, and whether that was all."""

    def __init__(self, messages: Iterable[Message], *, is_last: bool) -> None:
        super().__init__(messages)
        self.is_last = is_last
        """Whether nothing follows them."""


class MessageRepository(Repository):
    """Questions about messages."""

    async def append(
        self,
        conversation: LockedConversation,
        id_: UUID,
        *,
        parent: Place,
        role: Role,
        parts: Sequence[Part],
        run_id: UUID | None = None,
        model_type: str | None = None,
        alone: bool = False,
    ) -> tuple[Message, LockedConversation]:
        """Store a message below `parent`, make it the head, and return both as they are now.

        Raises:
            RunActive: It is to be stored `alone` only, and the conversation is being answered.
                The transaction cannot go on.
        """
        starts = parent.id is None and conversation.last_seq == 0
        forks = not (parent.is_tip or starts)
        branch = conversation.last_branch + 1 if forks else parent.branch
        row = await self._connection.first(
            sql.APPEND,
            id=id_,
            conversation_id=conversation.id,
            parent_id=parent.id,
            seq=conversation.last_seq + 1,
            branch=branch,
            forks=forks,
            parent_branch=parent.branch if parent.id else None,
            parent_seq=parent.seq,
            role=role.value,
            content=text_of(parts),
            parts=stored_parts(parts),
            run_id=run_id,
            model_type=model_type,
            alone=alone,
        )
        if row is None:
            raise RunActive
        message = message_of(row)
        return message, _grown(conversation, [message], branch=branch)

    async def append_at_head(
        self,
        id_: UUID,
        *,
        conversation_id: UUID,
        user_id: UUID,
        role: Role,
        content: str,
        claim: Claim | None = None,
    ) -> Message | None:
        """Store a message below the head and make it the head: a transaction in one statement.

        See `ProvingConnection` for the claim.

        None, and nothing is stored, where there is more to it than that: no such conversation, an
        answer under way, a head that others follow, somebody else at work there.
        """
        row = await self._for(claim).first(
            sql.APPEND_AT_HEAD,
            id=id_,
            conversation_id=conversation_id,
            user_id=user_id,
            role=role.value,
            content=content,
        )
        return None if row is None else message_of(row)

    async def append_all(
        self, conversation: LockedConversation, new: Sequence[NewMessage], *, parent: Place
    ) -> tuple[Sequence[Message], LockedConversation]:
        """Store messages below `parent`, each below the one before, in one statement.

        The last of them becomes the head. Return them and the conversation as they are now.

        Raises:
            Conflict: There is a message with the id of one of them already.
        """
        if not new:
            return [], conversation
        starts = parent.id is None and conversation.last_seq == 0
        forks = not (parent.is_tip or starts)
        branch = conversation.last_branch + 1 if forks else parent.branch
        ids = [message.id or new_id() for message in new]
        parts = [stored_parts(message.parts) for message in new]
        rows = await self._connection.all(
            sql.APPEND_ALL,
            conversation_id=conversation.id,
            ids=ids,
            parent_ids=[parent.id, *ids[:-1]],
            head_id=ids[-1],
            first_seq=conversation.last_seq + 1,
            last_seq=conversation.last_seq + len(new),
            branch=branch,
            forks=forks,
            parent_branch=parent.branch if parent.id else None,
            parent_seq=parent.seq,
            roles=[message.role.value for message in new],
            contents=[text_of(message.parts) for message in new],
            parts=[None if each is None else json.dumps(each) for each in parts],
        )
        messages = sorted(map(message_of, rows), key=lambda message: message.seq)
        return messages, _grown(conversation, messages, branch=branch)

    async def place(self, conversation: LockedConversation, id_: UUID | None) -> Place:
        """Return where a message of the locked conversation stands (None: the root).

        Raises:
            MessageNotFound: The conversation has no such message.
        """
        if id_ is None:
            return ROOT
        row = await self._connection.first(sql.PLACE, id=id_, conversation_id=conversation.id)
        if row is None:
            raise MessageNotFound
        return Place(id=id_, seq=row.seq, branch=row.branch, is_tip=row.is_tip, role=Role(row.role))

    def head(self, conversation: LockedConversation) -> Place:
        """Return where the locked conversation ends."""
        if conversation.head_id is None:
            return ROOT
        return Place(
            id=conversation.head_id,
            seq=conversation.head_seq,
            branch=conversation.head_branch,
            is_tip=conversation.head_is_tip,
            role=None,
        )

    async def get(self, id_: UUID, *, conversation_id: UUID, user_id: UUID) -> Message:
        """Return one message of the user's conversation.

        Raises:
            MessageNotFound: No such message there, or it is another user's.
        """
        row = await self._connection.first(
            sql.GET, id=id_, conversation_id=conversation_id, user_id=user_id
        )
        if row is None:
            raise MessageNotFound
        return message_of(row)

    async def size_of(self, ids: Sequence[UUID], *, user_id: UUID) -> int:
        """Return how many bytes the user's of these messages take, without reading them."""
        row = await self._connection.one(sql.SIZE_OF, ids=list(ids), user_id=user_id)
        return row.bytes

    async def find_many(self, ids: Sequence[UUID], *, user_id: UUID) -> Mapping[UUID, Message]:
        """Return those of these messages that are the user's, in whatever conversation."""
        rows = await self._connection.all(sql.FIND_MANY, ids=list(ids), user_id=user_id)
        return {row.id: message_of(row) for row in rows}

    async def list(
        self,
        conversation_id: UUID,
        *,
        user_id: UUID,
        limit: int,
        skip: int = 0,
        after_seq: int | None = None,
        newest_first: bool = False,
        content_bytes: int = PAGE_CONTENT_BYTES,
        parts_bytes: int = PAGE_PARTS_BYTES,
        claim: Claim | None = None,
    ) -> Listed:
        """Return messages of all branches in the order in which they were stored.

        The first of them is returned whatever its size; what does not fit is not even read.

        Args:
            conversation_id: Of which conversation.
            user_id: Whose; another user's conversation has no messages.
            limit: At most so many.
            skip: Leave out so many first; costs as much as reading them.
            after_seq: The `seq` of the last message of the page before.
            newest_first: Read backwards.
            content_bytes: At most so much text, in UTF-8.
            parts_bytes: At most so much of their parts, as stored (compressed).
            claim: Proven by the way; see `ProvingConnection`.
        """
        start = _AFTER_ALL if newest_first else _BEFORE_ANY
        edge = start if after_seq is None else after_seq
        rows = await self._for(claim).all(
            lists.LIST_BACKWARDS if newest_first else lists.LIST,
            conversation_id=conversation_id,
            user_id=user_id,
            limit=limit,
            candidates=limit + 1,
            skip=skip,
            after_seq=edge,
            before_seq=edge,
            content_bytes=content_bytes,
            parts_bytes=parts_bytes,
        )
        return _listed(rows)

    async def list_branch(
        self,
        conversation_id: UUID,
        *,
        tip_id: UUID,
        user_id: UUID,
        limit: int,
        skip: int = 0,
        after_seq: int | None = None,
        newest_first: bool = False,
        content_bytes: int = PAGE_CONTENT_BYTES,
        parts_bytes: int = PAGE_PARTS_BYTES,
        claim: Claim | None = None,
    ) -> Listed:
        """Return the messages on the way from the root to `tip_id`, both included.

        The other arguments are those of `list`.
        """
        start = _AFTER_ALL if newest_first else _BEFORE_ANY
        edge = start if after_seq is None else after_seq
        rows = await self._for(claim).all(
            lists.BRANCH_BACKWARDS if newest_first else lists.BRANCH,
            conversation_id=conversation_id,
            tip_id=tip_id,
            user_id=user_id,
            limit=limit,
            candidates=limit + 1,
            skip=skip,
            reach=skip + limit + 1,
            after_seq=edge,
            before_seq=edge,
            content_bytes=content_bytes,
            parts_bytes=parts_bytes,
        )
        return _listed(rows)

    async def replace(
        self, conversation: LockedConversation, id_: UUID, parts: Sequence[Part]
    ) -> Message:
        """Correct what a message says, in its place.

        A follower of the run that wrote it is told to start again, whatever its cursor.

        Raises:
            MessageNotFound: The conversation has no such message.
        """
        row = await self._connection.first(
            sql.REPLACE,
            id=id_,
            conversation_id=conversation.id,
            content=text_of(parts),
            parts=stored_parts(parts),
            marks=_marks(parts),
        )
        if row is None:
            raise MessageNotFound
        return message_of(row)

    async def delete(self, conversation: LockedConversation, place: Place) -> UUID | None:
        """Delete one message; those that followed it now follow its parent, which is returned.

        A head that was deleted is still to be moved, by `ConversationRepository.set_head`.
        """
        assert place.id is not None, "the root is no message"
        row = await self._connection.one(
            sql.DELETE,
            id=place.id,
            conversation_id=conversation.id,
            branch=place.branch,
            seq=place.seq,
        )
        return row.parent_id

    async def parents(self, ids: Sequence[UUID]) -> Mapping[UUID, UUID | None]:
        """Return the parent of each message that exists; its owner was asked for before."""
        rows = await self._connection.all(sql.PARENTS, ids=list(ids))
        return {row.id: row.parent_id for row in rows}


def _grown(
    conversation: LockedConversation, messages: Sequence[Message], *, branch: int
) -> LockedConversation:
    """Return the conversation as it is once these messages, the last its head, are stored."""
    head = messages[-1]
    return replace(
        conversation,
        message_count=conversation.message_count + len(messages),
        last_seq=head.seq,
        last_branch=max(conversation.last_branch, branch),
        head_id=head.id,
        head_seq=head.seq,
        head_branch=branch,
        head_is_tip=True,
    )


def _marks(parts: Sequence[Part]) -> list[int]:
    """Return where each part ends; see `storage.answer.Answer`."""
    sizes = (len(part.text) if isinstance(part, (TextPart, ReasoningPart)) else 1 for part in parts)
    return list(itertools.accumulate(sizes))


def _listed(rows: Sequence[Row]) -> Listed:
    return Listed(map(message_of, rows), is_last=not rows or rows[-1].is_last)
