"""Ending a run with what is stored of it, without whoever executes it."""

from dataclasses import replace

from tertulia.domain.ids import new_id
from tertulia.domain.models import Usage
from tertulia.runs.answer import Answer
from tertulia.storage.repositories.runs import Finished, LockedRun, Outcome
from tertulia.storage.unit_of_work import UnitOfWork


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
    await work.run_events.delete([locked.id])
    return finished
