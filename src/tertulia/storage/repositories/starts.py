"""Starting a run where nearly every one is started: a transaction in one statement."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from tertulia.domain.parts import Part, text_of
from tertulia.domain.runs import Run
from tertulia.domain.users import Claim
from tertulia.storage.repositories import run_statements as sql
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.message_rows import stored_parts
from tertulia.storage.repositories.runs import run_of


class StartRepository(Repository):
    """The one thing that runs, messages and conversations are changed for together."""

    async def start_at_head(
        self,
        id_: UUID,
        *,
        user_id: UUID,
        conversation_id: UUID,
        question_id: UUID,
        question: Sequence[Part],
        answer_id: UUID,
        model_type: str | None,
        meanings: Mapping[str, str],
        settings: dict[str, Any],
        max_attempts: int,
        owner: UUID,
        lease: timedelta,
        claim: Claim | None = None,
    ) -> Run | None:
        """Store a user's question below the head, an empty answer, and its run, held by `owner`.

        Args:
            id_: Of the run.
            user_id: Whose.
            conversation_id: Where.
            question_id: Of the user's message.
            question: Its parts.
            answer_id: Of the answer.
            model_type: Which answers; None: what the conversation's label means.
            meanings: By labels that conversations may have.
            settings: Of the run.
            max_attempts: Of the run.
            owner: The process that holds it.
            lease: For so long.
            claim: Proven by the way; see `ProvingConnection`.

        Returns:
            None, and nothing is stored, where there is more to it than that: no such conversation,
            an answer under way, a head that others follow, another label, somebody else at work.
        """
        row = await self._for(claim).first(
            sql.START_AT_HEAD,
            id=id_,
            user_id=user_id,
            conversation_id=conversation_id,
            question_id=question_id,
            content=text_of(question),
            parts=stored_parts(question),
            answer_id=answer_id,
            model_type=model_type,
            labels=list(meanings.keys()),
            models=list(meanings.values()),
            settings=settings,
            max_attempts=max_attempts,
            owner=owner,
            lease=lease,
        )
        return None if row is None else run_of(row)
