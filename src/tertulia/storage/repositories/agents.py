"""What pydantic-ai's conversation store asks: its records, and the entries of their logs.

An entry is one message of pydantic-ai's, stored as one or several of ours. It ends with one, and
is found by its own id or by that message's. An id with a number behind it (`….0`, `….1`) names what
a message says before its last part, where pydantic-ai would make several messages of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tertulia.domain.conversations import Role
from tertulia.domain.ids import new_id
from tertulia.domain.parts import Part
from tertulia.storage.connection import Row
from tertulia.storage.repositories import agent_statements as sql
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.repositories.message_rows import parts_of

_COPY_S = 30.0
"""For a fork of a long history: 100,000 messages take about ten seconds."""
_NUMBERED = re.compile(r"(.+)\.\d{1,9}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A conversation, and what was kept of its record when an agent last saved it."""

    id: UUID
    head_id: UUID | None
    head_entry_id: str | None
    record: str | None
    """JSON, as pydantic-ai wrote it; None: no agent has saved the conversation."""
    branches: Sequence[str]
    revision: str
    """Another one after every change, through whatever door, that a save could undo."""
    is_same_head: bool
    """Whether the conversation ends where the record says."""
    is_as_saved: bool
    """Whether nothing was added, deleted or moved since."""
    is_active: bool
    """Whether it is being answered."""
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class EntryMessage:
    """A message of ours, and what it is in the log."""

    id: UUID
    role: Role
    body: str | None
    """JSON, as pydantic-ai wrote it; None: the parts say it."""
    parts: tuple[Part, ...]
    """Empty where there is a body."""
    entry_id: str | None
    """Of the entry that ends with it; None: the next message belongs to the same one."""
    is_first: bool
    created_at: datetime
    model_type: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    response_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None


@dataclass(frozen=True, slots=True)
class NewBody:
    """What is kept beside a message: its share of an entry."""

    message_id: UUID
    entry_id: str | None
    is_first: bool
    body: str


@dataclass(frozen=True, slots=True)
class Located:
    """The message that an entry ends with, and its conversation."""

    id: UUID
    conversation_id: UUID
    parent_id: UUID | None
    is_whole: bool
    """Whether the entry is all of the message, and not what it says before its last part."""
    title: str | None
    """Of the conversation."""
    model_type: str


class AgentRepository(Repository):
    """Questions about the conversations and messages of agents."""

    async def find(self, ids: Sequence[UUID], *, user_id: UUID) -> StoredRecord | None:
        """Return the first of these conversations that there is, and is the user's."""
        rows = await self._connection.all(sql.FIND, ids=list(ids), user_id=user_id)
        found = {row.id: row for row in rows}
        return next((_record(found[id_]) for id_ in ids if id_ in found), None)

    async def get(self, id_: UUID, *, user_id: UUID) -> StoredRecord:
        """Return a conversation that the caller has locked."""
        return _record(await self._connection.one(sql.GET, id=id_, user_id=user_id))

    async def list(
        self, *, user_id: UUID, scope: str | None, limit: int | None
    ) -> Sequence[StoredRecord]:
        """Return the user's conversations, the last saved or changed first; or those of a scope."""
        query = sql.LIST if scope is None else sql.LIST_SCOPE
        rows = await self._connection.all(query, user_id=user_id, scope=scope, limit=limit)
        return [_record(row) for row in rows]

    async def create(self, id_: UUID, *, user_id: UUID, title: str | None, model_type: str) -> bool:
        """Store a new, empty conversation unless there is one, whoever's; say whether it did."""
        created = await self._connection.run(
            sql.CREATE, id=id_, user_id=user_id, title=title, model_type=model_type
        )
        return created > 0

    async def save(
        self,
        conversation: LockedConversation,
        *,
        record: str,
        scope: str | None,
        branches: Sequence[str],
        revision: str,
        saved_at: datetime,
    ) -> None:
        """Keep the record of a locked conversation, which is as it shall be."""
        await self._connection.run(
            sql.SAVE,
            id=conversation.id,
            user_id=conversation.user_id,
            record=record,
            scope=scope,
            branches=list(branches),
            revision=revision,
            saved_at=saved_at,
        )

    async def add_bodies(self, conversation: LockedConversation, new: Sequence[NewBody]) -> None:
        """Keep what pydantic-ai wrote beside messages that were just stored.

        Raises:
            Conflict: The conversation has one of the entries already.
        """
        await self._connection.run(
            sql.ADD_BODIES,
            conversation_id=conversation.id,
            user_id=conversation.user_id,
            message_ids=[each.message_id for each in new],
            entry_ids=[each.entry_id for each in new],
            firsts=[each.is_first for each in new],
            bodies=[each.body for each in new],
        )

    async def history(
        self,
        entry_id: str,
        *,
        user_id: UUID,
        conversation_id: UUID | None = None,
        limit: int | None = None,
    ) -> Sequence[EntryMessage]:
        """Return the messages up to the one that an entry ends with; none if there is no such.

        Args:
            entry_id: Of the last entry that is wanted.
            user_id: Whose; another user's entry is none.
            conversation_id: Where to look first, for a fork has the same entries.
            limit: The messages of so many entries, and the one that they follow.
        """
        query = sql.HISTORY if limit is None else sql.HISTORY_TAIL
        rows = await self._connection.all(
            query,
            **_names(entry_id),
            user_id=user_id,
            conversation_id=conversation_id,
            limit=limit,
        )
        return [_message(row) for row in rows]

    async def locate(
        self, entry_id: str, *, user_id: UUID, conversation_id: UUID
    ) -> Located | None:
        """Return where an entry ends: in this conversation if it is there, else in another."""
        row = await self._connection.first(
            sql.LOCATE, **_names(entry_id), user_id=user_id, conversation_id=conversation_id
        )
        if row is None:
            return None
        return Located(
            id=row.id,
            conversation_id=row.conversation_id,
            parent_id=row.parent_id,
            is_whole=row.is_exact,
            title=row.title,
            model_type=row.model_type,
        )

    async def copy(self, conversation: LockedConversation, tip_id: UUID) -> UUID:
        """Repeat the way to a message of another conversation in this locked one.

        The last of the new messages becomes the head, and its id is returned.
        """
        await self._connection.be_patient(_COPY_S)
        user_id = conversation.user_id
        rows = await self._connection.all(sql.WAY_IDS, tip_id=tip_id, user_id=user_id)
        copies = [new_id() for _ in rows]
        await self._connection.run(
            sql.COPY,
            ids=[row.id for row in rows],
            copy_ids=copies,
            copy_parent_ids=[None, *copies[:-1]],
            conversation_id=conversation.id,
            user_id=user_id,
            head_id=copies[-1],
            first_seq=conversation.last_seq + 1,
            last_seq=conversation.last_seq + len(copies),
            branch=conversation.last_branch + 1 if conversation.last_seq else 0,
        )
        return copies[-1]

    async def is_ready(self) -> bool:
        """Return whether the database has the tables that are asked here."""
        return (await self._connection.one(sql.IS_READY)).is_ready


def _names(entry_id: str) -> dict[str, Any]:
    numbered = _NUMBERED.fullmatch(entry_id)
    base = numbered[1] if numbered else None
    return {
        "entry_id": entry_id,
        "base": base,
        "message_id": _uuid_or_none(entry_id),
        "base_message_id": _uuid_or_none(base),
    }


def _uuid_or_none(text: str | None) -> UUID | None:
    """Return the id that is spelled as ids are spelled here."""
    try:
        id_ = UUID(text)
    except (ValueError, TypeError):
        return None
    return id_ if str(id_) == text else None


def _record(row: Row) -> StoredRecord:
    is_as_saved = row.record is not None and row.is_as_saved
    return StoredRecord(
        id=row.id,
        head_id=row.head_id,
        head_entry_id=row.head_entry_id,
        record=row.record,
        branches=row.branches or (),
        revision=_revision(row, is_as_saved=is_as_saved),
        is_same_head=row.record is not None and row.saved_head_id == row.head_id,
        is_as_saved=is_as_saved,
        is_active=row.is_active,
        updated_at=row.updated_at,
    )


def _revision(row: Row, *, is_as_saved: bool) -> str:
    """Return the revision that was saved, or one that tells what has happened since."""
    if is_as_saved and not row.is_active:
        return row.revision
    # A correction in its place is not in it: a save adds to what is there, and cannot undo that.
    made = row.revision or f"{row.id}@{row.created_at.isoformat()}"
    now = f"{row.head_id or 'root'}.{row.last_seq}.{row.message_count}"
    return f"{made}/{now}/active" if row.is_active else f"{made}/{now}"


def _message(row: Row) -> EntryMessage:
    return EntryMessage(
        id=row.id,
        role=Role(row.role),
        body=row.body,
        parts=parts_of(row),
        entry_id=row.entry_id if row.is_known else str(row.id),
        is_first=row.is_first if row.is_known else True,
        created_at=row.created_at,
        model_type=row.model_type,
        finish_reason=row.finish_reason,
        prompt_tokens=row.prompt_tokens,
        response_tokens=row.response_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
    )
