"""A store of pydantic-ai's on PostgreSQL."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Self
from uuid import UUID, uuid5

from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.exceptions import UserError

from tertulia.domain.conversations import Role
from tertulia.domain.errors import (
    Conflict,
    ConversationNotFound,
    DatabaseUnavailable,
    UserNotFound,
)
from tertulia.domain.parts import text_of
from tertulia.llm.exact_text import storable
from tertulia.pydantic_ai.entries import NewEntry, check_id, to_entries, to_store
from tertulia.pydantic_ai.grafting import Grafting
from tertulia.pydantic_ai.records import to_json, to_record
from tertulia.storage.database import Database, DatabaseLimits, retried
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.agents import StoredRecord
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.unit_of_work import UnitOfWork

_LIMITS = DatabaseLimits(pool_size=5, deletions=1, statement_s=30.0)
"""No request waits behind it for seven seconds, and a history may be long."""
ENTRIES_MAX = 100_000
"""Messages in one save: about ten seconds."""
_MODEL = "local:smollm2"
_TITLE_CHARS = 80


class PostgresConversationStore(ConversationStore):
    """A user's conversations, for pydantic-ai's agents to go on with.

    Whatever a store is asked is asked of one user's conversations: another user's do not exist for
    it. `scope` is a label among them, as `InMemoryConversationStore` has it; what other doors made
    has none. Everything it does is one transaction, and a conflict leaves nothing behind. An entry
    is stored once: to store it again is a conflict.

    `delete` erases the conversation with all its messages, whatever forks of it there are: a fork
    has its own copies, under the same entry ids.

    Make one with `open`, and those of other users with `for_user`.
    """

    def __init__(self, database: Database, *, user_id: UUID, model_type: str = _MODEL) -> None:
        self._database = database
        self._notifier = Notifier(database)
        self._model_type = model_type
        self.user_id = user_id
        """Whose conversations they are."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, dsn: str, *, user: UUID | str, model_type: str = _MODEL
    ) -> AsyncGenerator[Self]:
        """Connect, with a pool of at most five connections that is closed at the end.

        Args:
            dsn: `postgresql://…`, as in Tertulia's `DATABASE_URL`.
            user: Whose conversations: an id or an e-mail address.
            model_type: The model that answers in a new conversation when somebody goes on with it
                through another door.

        Raises:
            DatabaseUnavailable: It cannot be reached, or has no tables of this version.
            UserNotFound: There is no such user.
        """
        database = await Database.open(dsn, _LIMITS)
        try:
            async with database.reading() as work:
                if not await work.agents.is_ready():
                    raise DatabaseUnavailable(
                        "The database has no tables of this version: `tertulia db upgrade`"
                    )
                user_id = await _find_user(work, user)
            yield cls(database, user_id=user_id, model_type=model_type)
        finally:
            await database.close()

    def for_user(self, user_id: UUID) -> Self:
        """Return the store of another user's conversations, on the same connections."""
        return type(self)(self._database, user_id=user_id, model_type=self._model_type)

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation; None if there is none.

        Args:
            conversation_id: What agents call it, or its id if it was made through another door.
        """
        async with self._database.reading() as work:
            stored = await work.agents.find(self._ids(conversation_id), user_id=self.user_id)
        return None if stored is None else to_record(stored, name=conversation_id)

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the user's conversations, whoever made them, or those of a scope.

        The last changed first; its cost grows with how many the user has.
        """
        async with self._database.reading() as work:
            found = await work.agents.list(user_id=self.user_id, scope=scope, limit=limit)
        return [to_record(stored) for stored in found]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and new entries in one transaction, at the same cost at any length.

        Raises:
            ConversationConflict: As the base class says; or the conversation is being answered; or
                it has one of the entries already.
            UserError: Something cannot be stored: the text says what.
        """
        check_id(record.conversation_id)
        check_id(record.scope or "")
        if len(new_entries) > ENTRIES_MAX:
            raise UserError(f"At most {ENTRIES_MAX:,} messages can be saved at once.")
        entries = [to_store(entry) for entry in new_entries]
        saved = to_json(record)
        try:
            locked = await self._write(record, saved, entries, expected_revision)
        except Conflict as error:
            raise ConversationConflict(record.conversation_id) from error
        self._notifier.changed(
            "conversation.created" if expected_revision is None else "conversation.updated",
            user_id=self.user_id,
            conversation_id=locked.id,
        )
        if entries:
            self._notifier.changed(
                "message.created",
                user_id=self.user_id,
                conversation_id=locked.id,
                message_id=entries[-1].message_id,
            )
        await self._notifier.flush()

    @retried
    async def _write(
        self,
        record: ConversationRecord,
        saved: str,
        entries: Sequence[NewEntry],
        expected_revision: str | None,
    ) -> LockedConversation:
        name = record.conversation_id
        async with self._database.transaction() as work:
            if expected_revision is None:
                grafting = Grafting(work, await self._create(work, record, entries), name)
            else:
                locked, stored = await self._lock(work, name, expected_revision)
                if stored.is_active:
                    raise ConversationConflict(name)
                grafting = Grafting(work, locked, name)
                if stored.head_id is not None and stored.head_entry_id is not None:
                    grafting.known[stored.head_entry_id] = stored.head_id
            await grafting.add(entries)
            await grafting.end_at(record.head_id)
            await work.agents.save(
                grafting.conversation,
                record=saved,
                scope=record.scope,
                branches=record.branches,
                revision=record.revision,
                saved_at=record.updated_at.astimezone(UTC),
            )
        return grafting.conversation

    @retried
    async def _delete(self, name: str, expected_revision: str) -> tuple[UUID, Sequence[UUID]]:
        async with self._database.deletion() as work:
            locked, _ = await self._lock(work, name, expected_revision)
            stopped = await work.runs.stop_in_conversation(locked.id)
            await work.conversations.delete(locked.id, user_id=self.user_id)
        return locked.id, stopped

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation with all its messages; a run that writes there is stopped.

        Raises:
            ConversationConflict: It is not there, or not as it was.
        """
        id_, stopped = await self._delete(conversation_id, expected_revision)
        self._notifier.stopped(stopped)
        self._notifier.changed("conversation.deleted", user_id=self.user_id, conversation_id=id_)
        await self._notifier.flush()

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry.

        Raises:
            KeyError: There is none with this id.
        """
        return (await self.read_history(entry_id, limit=1))[-1]

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to one, or the last `limit` of them, with one statement.

        Raises:
            KeyError: There is no entry `head_id`.
        """
        return await self._history(head_id, limit=limit)

    async def _history_of(
        self, record: ConversationRecord, *, limit: int | None = None
    ) -> list[ConversationEntry] | None:
        # As the base class does it, and looks in the record's own conversation first: of a message
        # that was corrected through another door, its fork still has what it was.
        id_ = self._ids(record.conversation_id)[0]
        try:
            return await self._history(record.head_id, limit=limit, conversation_id=id_)
        except LookupError:
            current = await self.read_record(record.conversation_id)
            if current is not None and current.revision == record.revision:
                raise
            return None

    async def _history(
        self, head_id: str | None, *, limit: int | None, conversation_id: UUID | None = None
    ) -> list[ConversationEntry]:
        if head_id is None or storable(head_id) != head_id:
            if head_id is None:
                return []
            raise KeyError(head_id)
        async with self._database.reading() as work:
            messages = await work.agents.history(
                head_id, user_id=self.user_id, conversation_id=conversation_id, limit=limit
            )
        entries = to_entries(messages)
        end = next((at + 1 for at, each in enumerate(entries) if each.id == head_id), 0)
        if not end and messages and str(messages[-1].id) == head_id:
            end = len(entries)
        if not end:
            raise KeyError(head_id)
        return entries[:end] if limit is None else entries[max(0, end - limit) : end]

    def _ids(self, name: str) -> list[UUID]:
        """Return the ids that a conversation of this name may have.

        A name that is an id is its own, unless another user had it first. Any other becomes one
        that only it and its user lead to, as `dialects.client_ids` has it.
        """
        try:
            made = uuid5(self.user_id, name)
        except UnicodeEncodeError:
            return []
        try:
            own = UUID(name)
        except ValueError:
            return [made]
        return [own, made] if str(own) == name else [made]

    async def _create(
        self, work: UnitOfWork, record: ConversationRecord, entries: Sequence[NewEntry]
    ) -> LockedConversation:
        name = record.conversation_id
        for id_ in self._ids(name):
            title, model_type = _title(entries), self._model_type
            if record.head_id is not None and not entries:
                source = await work.agents.locate(
                    record.head_id, user_id=self.user_id, conversation_id=id_
                )
                if source is not None:
                    title, model_type = source.title, source.model_type
            is_new = await work.agents.create(
                id_, user_id=self.user_id, title=title, model_type=model_type
            )
            try:
                locked = await work.conversations.lock(id_, user_id=self.user_id)
            except ConversationNotFound:
                continue
            if is_new:
                return locked
            break
        raise ConversationConflict(name)

    async def _lock(
        self, work: UnitOfWork, name: str, revision: str
    ) -> tuple[LockedConversation, StoredRecord]:
        for id_ in self._ids(name):
            try:
                locked = await work.conversations.lock(id_, user_id=self.user_id)
            except ConversationNotFound:
                continue
            stored = await work.agents.get(id_, user_id=self.user_id)
            if stored.revision == revision:
                return locked, stored
            break
        raise ConversationConflict(name)


async def _find_user(work: UnitOfWork, user: UUID | str) -> UUID:
    if isinstance(user, str) and "@" in user:
        found = await work.users.find_credentials(user)
        if found is None:
            raise UserNotFound
        return found.user.id
    try:
        id_ = UUID(str(user))
    except ValueError as error:
        raise UserNotFound from error
    return (await work.users.get(id_)).id


def _title(entries: Sequence[NewEntry]) -> str | None:
    """Return the beginning of what the user says first; the model is not asked for a title."""
    said = next(
        (
            text
            for entry in entries
            for message in entry.messages
            if message.role is Role.USER and (text := text_of(message.parts).strip())
        ),
        "",
    )
    words = " ".join(said[: 4 * _TITLE_CHARS].split())
    return (words if len(words) <= _TITLE_CHARS else f"{words[: _TITLE_CHARS - 1]}…") or None
