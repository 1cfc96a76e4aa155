"""What users decide about calls that this server makes only with their consent."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from tertulia.domain.conversations import Message
from tertulia.domain.parts import ToolCallPart
from tertulia.runs.service import RunService, Started


@dataclass(frozen=True, slots=True)
class Decided:
    """What the user says about one call."""

    run_id: UUID
    """Of the answer that asks for it."""
    call: ToolCallPart
    is_approved: bool


async def decide(
    runs: RunService, decisions: Sequence[Decided], *, user_id: UUID
) -> tuple[Started, Sequence[Message]]:
    """Do what the user decided, one call after the other.

    Return the last run, and the answers before it, which hold nothing but results.

    Raises:
        ToolCallSettled: The first was decided already, or the conversation went on without it.
        RunActive: The conversation is being answered.
    """
    before: list[Message] = []
    *earlier, last = decisions
    for each in earlier:
        started = await _begin(runs, each, user_id)
        async with aclosing(runs.follow(started.run.id, user_id=user_id, stays=True)) as followed:
            async for _ in followed:
                pass
        before.append((await runs.get_answer(started.run.id, user_id=user_id))[1])
    return await _begin(runs, last, user_id), before


async def _begin(runs: RunService, decided: Decided, user_id: UUID) -> Started:
    return await runs.decide(
        decided.run_id,
        decided.call.call_id,
        is_approved=decided.is_approved,
        user_id=user_id,
    )
