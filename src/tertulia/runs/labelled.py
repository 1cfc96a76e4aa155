"""The runs that a protocol lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from tertulia.domain.runs import Run
from tertulia.storage.database import Database
from tertulia.storage.repositories.runs import Labelled


@dataclass(frozen=True, slots=True)
class LabelledRuns:
    """Lists runs by the label that they were started with."""

    database: Database

    async def list(
        self,
        label: str,
        *,
        user_id: UUID,
        limit: int,
        newest_first: bool,
        after: Run | None,
        model_type: str | None,
        metadata: Mapping[str, str],
    ) -> Labelled:
        """Return the user's runs that went well; see `RunRepository.list_labelled`."""
        async with self.database.reading() as work:
            return await work.runs.list_labelled(
                label,
                user_id=user_id,
                limit=limit,
                newest_first=newest_first,
                after=after,
                model_type=model_type,
                metadata=metadata,
            )
