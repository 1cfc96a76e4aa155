"""Runs with a label are found without reading any others."""

from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from tertulia.domain.ids import new_id
from tertulia.domain.parts import TextPart
from tertulia.domain.runs import Run, RunStatus
from tertulia.storage.database import Database
from tertulia.storage.repositories import run_lists
from tertulia.storage.repositories.runs import Outcome
from tests.storage.rows import explain
from tests.storage.running import store_run


async def stored(database: Database, dsn: str, beside: Run | None, *, label: str | None) -> Run:
    """Store a run that has ended, of the user of another one."""
    run = await store_run(database, owner=new_id(), beside=beside)
    outcome = Outcome(status=RunStatus.COMPLETED, parts=(TextPart("Because."),))
    async with database.transaction() as work:
        await work.runs.finish(run.id, attempt=1, outcome=outcome, title_job_id=new_id())
    if label is not None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(
                "UPDATE runs SET label = $2 WHERE id = $1",
                run.id,
                label,
            )
        finally:
            await connection.close()
    return run


async def test_only_labelled_runs_of_the_user_are_listed(database: Database, dsn: str) -> None:
    first = await stored(database, dsn, None, label="chat")
    await stored(database, dsn, first, label=None)
    await stored(database, dsn, first, label="other")
    second = await stored(database, dsn, first, label="chat")
    await stored(database, dsn, None, label="chat")
    async with database.reading() as work:
        for newest_first in (False, True):
            found = await work.runs.list_labelled(
                "chat", user_id=first.user_id, limit=10, newest_first=newest_first
            )
            ids = [each.run.id for each in found]
            assert ids == ([second.id, first.id] if newest_first else [first.id, second.id])
            assert found.is_last
            assert found[0].parts == (TextPart("Because."),)
        page = await work.runs.list_labelled(
            "chat", user_id=first.user_id, limit=1, newest_first=False
        )
        assert ([each.run.id for each in page], page.is_last) == ([first.id], False)
        rest = await work.runs.list_labelled(
            "chat", user_id=first.user_id, limit=1, newest_first=False, after=page[0].run
        )
        assert ([each.run.id for each in rest], rest.is_last) == ([second.id], True)


async def test_those_without_a_label_are_not_read(database: Database, dsn: str) -> None:
    run = await stored(database, dsn, None, label="chat")
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            """
            WITH answers AS (
                INSERT INTO messages (id, conversation_id, seq, branch, role, content)
                SELECT gen_random_uuid(), $1, 100 + n, 0, 'assistant', 'x'
                FROM generate_series(1, 5000) n RETURNING id, seq
            )
            INSERT INTO runs (id, user_id, conversation_id, message_id, seq, status, model_type,
                max_attempts, ended_at, label)
            SELECT gen_random_uuid(), $2, $1, id, seq, 'completed', 'm', 3, now(),
                CASE WHEN seq % 100 = 0 THEN 'chat' END
            FROM answers
            """,
            run.conversation_id,
            run.user_id,
        )
        await connection.execute("ANALYZE runs")
    finally:
        await connection.close()
    for query, edge in (
        (run_lists.LABELLED, (datetime(2000, 1, 1, tzinfo=UTC), UUID(int=0))),
        (run_lists.LABELLED_BACKWARDS, (datetime(2999, 1, 1, tzinfo=UTC), UUID(int=0))),
    ):
        for generic in (True, False):
            plan = await explain(
                database,
                query,
                generic=generic,
                label="chat",
                user_id=run.user_id,
                limit=10,
                candidates=11,
                bytes=2**20,
                after_at=edge[0],
                after_id=edge[1],
                model_type=None,
                metadata={},
            )
            assert "ix_runs_labelled" in plan.indexes, (query.sql, plan.indexes)
            assert plan.rows_read <= 60
