"""Ending runs with what is stored of them, without whoever executes them."""

from dataclasses import replace
from uuid import UUID

from tertulia.domain.ids import new_id
from tertulia.domain.models import Usage
from tertulia.domain.runs import RunStatus
from tertulia.storage.answer import Answer
from tertulia.storage.repositories.runs import Finished, LockedRun, Outcome
from tertulia.storage.unit_of_work import UnitOfWork

CANCELLED = Outcome(status=RunStatus.CANCELLED, status_code=499)
"""How a run ends that somebody stops; 499 as web servers log it: the client closed the request."""


async def end_as_stored(
    work: UnitOfWork, locked: LockedRun, outcome: Outcome, *, received: int = 0
) -> Finished:
    """End a locked run that is queued or running; its stored events become its message.

    Args:
        work: The transaction that has locked it.
        locked: The run.
        outcome: How it ended; the parts are taken from what is stored.
        received: How many tokens are known to have come from the model. Who executes the run
            elsewhere notes it later, if they were more than events are stored.
    """
    answer = Answer.of(await work.run_events.all(locked.id))
    tokens = max(received, len(answer.marks))
    outcome = replace(outcome, usage=Usage(response_tokens=tokens or None))
    finished = await work.runs.finish(
        locked.id,
        attempt=locked.attempt,
        outcome=answer.folded_into(outcome),
        title_job_id=new_id(),
    )
    assert finished is not None, "a locked run that is active can be ended"
    return finished


async def cancel_runs_in(work: UnitOfWork, conversation_id: UUID) -> list[UUID]:
    """End what is queued or running in a locked conversation; see `cancel_runs_of_user`."""
    active = await work.runs.lock_active(conversation_id)
    for each in active:
        await end_as_stored(work, each, CANCELLED)
    return [each.id for each in active]


async def cancel_runs_of_user(work: UnitOfWork, user_id: UUID) -> list[UUID]:
    """End what is queued or running for a user, as it is stored; nothing of it is lost.

    Return the runs, for their executors to be told after the commit; who is not told finds itself
    fenced when it next stores something or extends its lease.
    """
    active = await work.runs.lock_active_of_user(user_id)
    for each in active:
        await end_as_stored(work, each, CANCELLED)
    return [each.id for each in active]
