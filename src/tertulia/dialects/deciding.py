"""What users decide about calls that this server makes only with their consent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from tertulia.domain.conversations import Message
from tertulia.domain.parts import ToolCallPart
from tertulia.runs.send import Verdict

REASON_CHARS_MAX = 1_000
"""Of why a call is not allowed, for the model."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the user says about calls of one answer."""

    run_id: UUID
    """Of the answer that asks for them."""
    calls: Sequence[ToolCallPart]
    verdicts: Mapping[str, Verdict]
    """By the ids of the calls."""

    @classmethod
    def about(cls, answer: Message, verdicts: Mapping[str, Verdict]) -> "Decided | None":
        """Return what is said about calls of this answer that the server makes, if anything is."""
        calls = [
            part
            for part in answer.parts
            if isinstance(part, ToolCallPart)
            and part.server is not None
            and part.call_id in verdicts
        ]
        if answer.generation is None or not calls:
            return None
        return cls(
            answer.generation.run_id,
            calls,
            {call.call_id: verdicts[call.call_id] for call in calls},
        )
