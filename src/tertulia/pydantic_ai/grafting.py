"""Adding entries to a conversation's tree, inside the transaction that has locked it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pydantic_ai.conversation_store import ConversationConflict

from tertulia.pydantic_ai.entries import NewEntry, to_entries, to_store
from tertulia.storage.repositories.agents import Located
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.repositories.messages import ROOT, Place
from tertulia.storage.unit_of_work import UnitOfWork


@dataclass(slots=True)
class Grafting:
    """One conversation while entries are added to it."""

    work: UnitOfWork
    conversation: LockedConversation
    name: str
    """What its agent calls the conversation."""
    known: dict[str, UUID] = field(default_factory=dict[str, UUID])
    """The messages that entries end with, as far as they are known."""

    async def add(self, entries: Sequence[NewEntry]) -> None:
        """Store entries, each below the one it names, before or among them.

        Raises:
            ConversationConflict: What one of them follows is not there (any more).
        """
        begin = 0
        for at in range(1, len(entries) + 1):
            if at < len(entries) and entries[at].parent_id == entries[at - 1].id:
                continue
            await self._append(entries[begin].parent_id, entries[begin:at])
            begin = at

    async def end_at(self, entry_id: str | None) -> None:
        """Let the conversation end with an entry: one of its own, or repeated from another.

        Raises:
            ConversationConflict: There is no such entry (any more).
        """
        place = await self._place(entry_id)
        if place.id != self.conversation.head_id:
            await self.work.conversations.set_head(
                self.conversation,
                head_id=place.id,
                seq=place.seq,
                branch=place.branch,
                is_tip=place.is_tip,
            )

    async def _append(self, parent_id: str | None, entries: Sequence[NewEntry]) -> None:
        parent = await self._place(parent_id)
        new = [message for entry in entries for message in entry.messages]
        _, self.conversation = await self.work.messages.append_all(
            self.conversation, new, parent=parent
        )
        await self.work.agents.add_bodies(
            self.conversation, [body for entry in entries for body in entry.bodies]
        )
        self.known |= {entry.id: entry.message_id for entry in entries}

    async def _place(self, entry_id: str | None) -> Place:
        """Return where an entry ends in this conversation, brought there if it is not yet."""
        if entry_id is None:
            return ROOT
        message_id = self.known.get(entry_id)
        if message_id is None:
            message_id = self.known[entry_id] = await self._bring(entry_id)
        if message_id == self.conversation.head_id:
            return self.work.messages.head(self.conversation)
        return await self.work.messages.place(self.conversation, message_id)

    async def _bring(self, entry_id: str) -> UUID:
        here = self.conversation
        found = await self.work.agents.locate(
            entry_id, user_id=here.user_id, conversation_id=here.id
        )
        if found is None:
            raise ConversationConflict(self.name)
        if not found.is_whole:
            return await self._cut(entry_id, found)
        if found.conversation_id == here.id:
            return found.id
        return await self._repeat(found.id)

    async def _repeat(self, tip_id: UUID) -> UUID:
        """Copy the way to a message of another conversation."""
        copy_id = await self.work.agents.copy(self.conversation, tip_id)
        self.conversation = await self.work.conversations.lock(
            self.conversation.id, user_id=self.conversation.user_id
        )
        return copy_id

    async def _cut(self, entry_id: str, found: Located) -> UUID:
        """Store the beginning of a message as messages of its own, to go on from there."""
        messages = await self.work.agents.history(
            entry_id,
            user_id=self.conversation.user_id,
            conversation_id=found.conversation_id,
            limit=1,
        )
        entries = to_entries(messages)
        end = next((at for at, each in enumerate(entries) if each.id == entry_id), None)
        if end is None:
            raise ConversationConflict(self.name)
        base = entry_id.rpartition(".")[0]
        cut = [each for each in entries[: end + 1] if each.id.rpartition(".")[0] == base]
        parent_id, before = cut[0].parent_id, found.parent_id
        if parent_id is not None and before is not None:
            is_here = found.conversation_id == self.conversation.id
            self.known[parent_id] = before if is_here else await self._repeat(before)
        await self._append(parent_id, [to_store(each) for each in cut])
        return self.known[entry_id]
