"""A conversation that is being answered, by nothing but rows."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from tertulia.domain.conversations import Role
from tertulia.domain.ids import new_id
from tertulia.domain.models import Usage
from tertulia.domain.parts import TextPart
from tertulia.domain.runs import Run, RunStatus
from tertulia.storage.database import Database
from tertulia.storage.repositories.runs import Outcome
from tests.storage.rows import MODEL, new_conversation, new_user


@dataclass(frozen=True, slots=True)
class AnsweredConversation:
    """Greeting, question, and the answer that a run is writing."""

    database: Database
    user_id: UUID
    id: UUID
    greeting_id: UUID
    question_id: UUID
    run: Run

    @classmethod
    async def begin(cls, database: Database) -> "AnsweredConversation":
        user_id = await new_user(database)
        id_ = (await new_conversation(database, user_id)).id
        greeting_id, question_id, answer_id, run_id = (new_id() for _ in range(4))
        async with database.transaction() as work:
            locked = await work.conversations.lock(id_, user_id=user_id)
            for message_id, role, parts in (
                (greeting_id, Role.USER, [TextPart("hello")]),
                (question_id, Role.USER, [TextPart("why?")]),
                (answer_id, Role.ASSISTANT, []),
            ):
                _, locked = await work.messages.append(
                    locked,
                    message_id,
                    parent=work.messages.head(locked),
                    role=role,
                    parts=parts,
                    run_id=run_id if role is Role.ASSISTANT else None,
                    model_type=MODEL if role is Role.ASSISTANT else None,
                )
            run = await work.runs.create(
                run_id,
                user_id=user_id,
                conversation_id=id_,
                message_id=answer_id,
                seq=locked.last_seq,
                model_type=MODEL,
                settings={},
                max_attempts=3,
                owner=new_id(),
                lease=timedelta(minutes=1),
            )
        return cls(database, user_id, id_, greeting_id, question_id, run)

    async def end(self, text: str = "because") -> None:
        """Let the run end with an answer."""
        async with self.database.transaction() as work:
            await work.runs.finish(
                self.run.id,
                attempt=1,
                outcome=Outcome(
                    status=RunStatus.COMPLETED,
                    parts=(TextPart(text),),
                    marks=(len(text),),
                    usage=Usage(prompt_tokens=3, response_tokens=1),
                    finish_reason="stop",
                ),
                title_job_id=new_id(),
            )
