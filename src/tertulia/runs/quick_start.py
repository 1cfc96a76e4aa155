"""Starting a run as nearly every one is started: one statement, and nothing to read afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from tertulia.domain.conversations import NewMessage, Role
from tertulia.domain.ids import new_id
from tertulia.domain.parts import FilePart, TextPart
from tertulia.domain.runs import Run
from tertulia.domain.users import Claim
from tertulia.llm.catalog import ModelCatalog
from tertulia.runs.keeper import LEASE
from tertulia.runs.send import NewConversation, Send
from tertulia.storage.database import Database

_LABELS_MAX = 16


@dataclass(frozen=True, slots=True)
class QuickRun:
    """A run that this process holds."""

    run: Run
    prompt_id: UUID
    branch: Sequence[NewMessage] | None
    """As in `LiveRun`."""


@dataclass(frozen=True, slots=True)
class QuickStart:
    """Starts runs that are nothing special: a user's words where a conversation ends."""

    database: Database
    models: ModelCatalog
    process_id: UUID
    max_attempts: int
    _labels: dict[str, None] = field(default_factory=dict[str, None])

    def learn(self, label: str) -> None:
        """A conversation has this label for its model: there will be others."""
        self._labels.pop(label, None)
        self._labels[label] = None
        if len(self._labels) > _LABELS_MAX:
            del self._labels[next(iter(self._labels))]

    def is_sure(self, where: UUID | NewConversation, send: Send) -> bool:
        """Whether `start` refuses nothing before its statement, which proves a claim."""
        told = send.settings
        return (
            isinstance(where, UUID)
            and _is_plain(send)
            and send.model_type is None
            and told.tool_choice is None
            and told.response_format is None
        )

    async def start(
        self,
        where: UUID | NewConversation,
        send: Send,
        run_id: UUID,
        *,
        user_id: UUID,
        claim: Claim | None = None,
    ) -> QuickRun | None:
        """Store what is sent and the run that answers it, to be executed here.

        None, and nothing is stored, where there is more to it; then the long way says what. It
        proves the claim, too: whether that was done here depends on how far this came.

        Raises:
            ModelNotFound: `send.model_type` is not on offer.
            Unauthenticated: The claim does not hold.
            UserInactive: The user's account is closed.
        """
        conversation_id = where if isinstance(where, UUID) else where.id
        if conversation_id is None or not _is_plain(send):
            return None
        resolve = self.models.resolve
        (question,) = send.messages
        question_id = new_id()
        async with self.database.writing() as work:
            run = await work.starts.start_at_head(
                run_id,
                user_id=user_id,
                conversation_id=conversation_id,
                question_id=question_id,
                question=question.parts,
                answer_id=new_id(),
                model_type=resolve(send.model_type) if send.model_type else None,
                meanings={label: resolve(label, strict=False) for label in self._labels},
                settings=send.stored_settings(inputs=1),
                max_attempts=self.max_attempts,
                owner=self.process_id,
                lease=LEASE,
                claim=claim,
            )
        if run is None:
            return None
        # The answer to the first message there ever was is the second.
        return QuickRun(run, question_id, [question] if run.seq == 2 else None)  # noqa: PLR2004


def _is_plain(send: Send) -> bool:
    """Whether a send is one message of a user's, and all that is to be done is to answer it."""
    asks_for_more = (
        *(send.parent_id, send.begins, send.keeps, send.title),
        *(send.mcp, send.tool_results, send.decisions, send.prepares),
    )
    if any(asks_for_more) or len(send.messages) != 1:
        return False
    (message,) = send.messages
    return (
        message.id is None
        and message.role is Role.USER
        and all(isinstance(part, (TextPart, FilePart)) for part in message.parts)
    )
