"""Finding words in conversations."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from tertulia.storage.database import Database
from tertulia.storage.repositories.search import Found


@dataclass(frozen=True, slots=True)
class ConversationSearch:
    """Looks through titles and messages."""

    database: Database

    async def find(self, query: str, *, user_id: UUID, limit: int) -> Sequence[Found]:
        """Return what of the user's holds these words; see `SearchRepository.find`."""
        async with self.database.reading() as work:
            return await work.search.find(query, user_id=user_id, limit=limit)
