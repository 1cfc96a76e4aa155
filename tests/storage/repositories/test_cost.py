"""What listing and appending cost in a large database, by PostgreSQL's own account.

20,000 conversations of one user, 60,000 short messages in them, and one conversation of 100,000.
"""

# pyright: reportPrivateUsage=false
# It asks PostgreSQL about the very statements that the repositories run.

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid1

import asyncpg
import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.database import Database
from tertulia.storage.embedded import EmbeddedPostgres
from tertulia.storage.repositories import (
    conversation_lists,
    message_lists,
    message_statements,
    messages,
)
from tertulia.storage.repositories.claims import proving
from tertulia.storage.statements import Statement
from tests.conftest import TEMPLATE, database_dsn
from tests.storage.rows import MODEL, Plan, explain, new_conversation, new_user

CONVERSATIONS, MESSAGES, FORKS, PAGE = 20_000, 100_000, 6, 51
SHARE = MESSAGES // (FORKS + 1)
"""Messages of one branch."""


@dataclass(frozen=True, slots=True)
class History:
    """What is in the large database."""

    dsn: str
    user_id: UUID
    conversation_id: UUID
    session_id: UUID
    """Of the user's login."""
    tip_id: UUID
    """The end of a branch that leaves its parent, which left its parent …, `FORKS` times."""


@dataclass(frozen=True, slots=True)
class Large:
    """The large database, open."""

    raw: "asyncpg.Connection[asyncpg.Record]"
    database: Database
    user_id: UUID
    conversation_id: UUID
    tip_id: UUID
    session_id: UUID

    @property
    def claimed(self) -> dict[str, Any]:
        return {
            "claimed_session": self.session_id,
            "claimed_until": datetime(2999, 1, 1, tzinfo=UTC),
        }

    @property
    def owned(self) -> dict[str, Any]:
        return {"conversation_id": self.conversation_id, "user_id": self.user_id}

    @property
    def page(self) -> dict[str, Any]:
        """The first page, of as many messages as it may have; one more is looked at."""
        return {
            **self.owned,
            "tip_id": self.tip_id,
            "limit": PAGE - 1,
            "candidates": PAGE,
            "reach": PAGE,
            "skip": 0,
            "content_bytes": messages.PAGE_CONTENT_BYTES,
            "parts_bytes": messages.PAGE_PARTS_BYTES,
        }


@pytest.fixture(scope="module")
def history(postgres: EmbeddedPostgres) -> Iterator[History]:
    """One database for the tests of this module, which hardly change it."""
    name = f"large_{uuid1().hex}"
    asyncio.run(
        _command(postgres.dsn, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    )
    yield asyncio.run(_fill(database_dsn(postgres.dsn, name)))
    asyncio.run(_command(postgres.dsn, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def large(history: History) -> AsyncIterator[Large]:
    database = await Database.open(history.dsn)
    raw = await asyncpg.connect(history.dsn)
    yield Large(
        raw,
        database,
        history.user_id,
        history.conversation_id,
        history.tip_id,
        history.session_id,
    )
    await raw.close()
    await database.close()


async def _command(dsn: str, command: str) -> None:
    admin = await asyncpg.connect(dsn)
    await admin.execute(command)
    await admin.close()


async def _fill(dsn: str) -> History:
    database = await Database.open(dsn)
    raw = await asyncpg.connect(dsn, command_timeout=60)
    user_id = await new_user(database)
    session_id = new_id()
    await raw.execute(
        "INSERT INTO sessions (id, user_id, family_hash, refresh_hash, expires_at) "
        "VALUES ($1, $2, '', '', now() + INTERVAL '1 day')",
        session_id,
        user_id,
    )
    await _store_short_conversations(raw, user_id)
    # What PostgreSQL knows about sizes is what it learnt when conversations were short: the plans
    # must hold for the long one that came after.
    await raw.execute("ANALYZE")
    conversation_id = (await new_conversation(database, user_id)).id
    tip_id = await _store_long_conversation(raw, conversation_id)
    await raw.close()
    await database.close()
    return History(dsn, user_id, conversation_id, session_id, tip_id)


async def _store_short_conversations(
    raw: "asyncpg.Connection[asyncpg.Record]", user_id: UUID
) -> None:
    await raw.execute(
        """
        INSERT INTO conversations (id, user_id, model_type, is_archived, created_at, message_count,
            last_seq)
        SELECT gen_random_uuid(), $1, $2, n % 100 = 0, now() - n * interval '1 minute', 3, 3
        FROM generate_series(1, $3) n
        """,
        user_id,
        MODEL,
        CONVERSATIONS,
    )
    await raw.execute(
        """
        INSERT INTO messages (id, conversation_id, seq, branch, role, content)
        SELECT gen_random_uuid(), c.id, n, 0, 'user', 'short'
        FROM conversations c, generate_series(1, 3) n
        """
    )
    await raw.execute(
        "INSERT INTO branches (conversation_id, number, parent_number, forked_at_seq) "
        "SELECT id, 1, 0, 1 FROM conversations"
    )


async def _store_long_conversation(
    raw: "asyncpg.Connection[asyncpg.Record]", conversation_id: UUID
) -> UUID:
    # A trunk, and branches of equal length that each leave the one before at its third quarter.
    await raw.execute(
        """
        INSERT INTO messages (id, conversation_id, seq, branch, role, content)
        SELECT gen_random_uuid(), $1, n, (n - 1) / $3::int, 'user', 'one of very many'
        FROM generate_series(1, $2::int) n
        """,
        conversation_id,
        SHARE * (FORKS + 1),
        SHARE,
    )
    await raw.execute(
        "INSERT INTO branches (conversation_id, number, parent_number, forked_at_seq) "
        "SELECT $1, n, n - 1, (n - 1) * $3::int + $3::int * 3 / 4 FROM generate_series(1, $2) n",
        conversation_id,
        FORKS,
        SHARE,
    )
    # And very many that lead nowhere: an answer that was asked for again and again.
    await raw.execute(
        "INSERT INTO branches (conversation_id, number, parent_number, forked_at_seq) "
        "SELECT $1, n, 0, 1 FROM generate_series($2::int + 1, $2 + 5000) n",
        conversation_id,
        FORKS,
    )
    tip = await raw.fetchrow(
        "SELECT id, seq FROM messages WHERE conversation_id = $1 ORDER BY seq DESC LIMIT 1",
        conversation_id,
    )
    assert tip is not None
    await raw.execute(
        "UPDATE conversations SET message_count = $2, last_seq = $2, last_branch = $3, "
        "head_id = $4, head_seq = $2, head_branch = $5 WHERE id = $1",
        conversation_id,
        tip["seq"],
        FORKS + 5000,
        tip["id"],
        FORKS,
    )
    return tip["id"]


MIDDLE, END = MESSAGES // 2, MESSAGES - 20
Asked: TypeAlias = Callable[[Statement], Statement]


WHO_ASKS = {"users", "sessions"}
"""Of which there is one here, and that is quickest seen by looking."""


def scanned(plan: Plan) -> set[str]:
    """Return the tables that were read from one end to the other."""
    return {node["Relation Name"] for node in plan.nodes if node["Node Type"] == "Seq Scan"}


def as_it_is(query: Statement) -> Statement:
    return query


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("asked", [as_it_is, proving])
async def test_a_page_costs_the_same_anywhere_in_a_long_history(
    large: Large, asked: Asked, *, generic: bool
) -> None:
    for query, edge in (
        (message_lists.LIST, "after_seq"),
        (message_lists.LIST_BACKWARDS, "before_seq"),
        (message_lists.BRANCH, "after_seq"),
        (message_lists.BRANCH_BACKWARDS, "before_seq"),
    ):
        for place in (0, MIDDLE, END, 2**63 - 1):
            plan = await explain(
                large.database,
                asked(query),
                generic=generic,
                **large.page,
                **large.claimed,
                **{edge: place},
            )
            where = (query.sql, place, generic, plan.kinds, plan.rows_read, plan.blocks)
            assert scanned(plan) <= WHO_ASKS, where
            # A page of every branch on the way, at the very most; and who asks.
            assert plan.rows_read <= (FORKS + 1) * PAGE + 2, where
            assert plan.blocks <= (FORKS + 1) * 30, where
            if query in (message_lists.LIST, message_lists.LIST_BACKWARDS):
                assert "Sort" not in plan.kinds, where
                assert plan.rows_read <= PAGE + 2, where


async def test_a_skip_reads_what_it_leaves_out_and_no_more(large: Large) -> None:
    plan = await explain(
        large.database,
        message_lists.LIST,
        generic=True,
        **{**large.page, "skip": 10_000},
        after_seq=0,
    )
    assert plan.rows_read <= 10_000 + PAGE
    assert "Sort" not in plan.kinds


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("asked", [as_it_is, proving])
async def test_a_page_of_conversations_costs_the_same_anywhere(
    large: Large, asked: Asked, *, generic: bool
) -> None:
    middle = await large.raw.fetchrow(
        "SELECT created_at, id FROM conversations ORDER BY created_at OFFSET $1 LIMIT 1",
        CONVERSATIONS // 2,
    )
    assert middle is not None
    for archived, by_model, after, skips in itertools.product((False, True), repeat=4):
        query = conversation_lists.list_statement(
            archived=archived, model_type=by_model, after=after, skips=skips, limit=PAGE
        )
        plan = await explain(
            large.database,
            asked(query),
            generic=generic,
            user_id=large.user_id,
            **large.claimed,
            skip=0,
            archived=True,
            model_type=MODEL,
            after_at=middle["created_at"],
            after_id=middle["id"],
        )
        where = (query.sql, generic, plan.kinds, plan.rows_read, plan.blocks)
        assert not plan.kinds & {"Sort", "Bitmap Heap Scan"}, where
        assert scanned(plan) <= WHO_ASKS, where
        assert plan.blocks <= 2 * PAGE or (archived and by_model), where
        assert plan.rows_read <= PAGE + 2 or (archived and by_model and not after), where


async def test_a_step_on_the_tree_looks_up_a_few_rows(large: Large) -> None:
    earlier = await large.raw.fetchval(
        "SELECT id FROM messages WHERE conversation_id = $1 AND seq = 10", large.conversation_id
    )
    for id_ in (earlier, large.tip_id):
        for generic in (False, True):
            for query in (message_statements.PLACE, message_statements.GET):
                plan = await explain(large.database, query, generic=generic, **large.owned, id=id_)
                assert "Seq Scan" not in plan.kinds, (query.sql, plan.kinds)
                assert plan.rows_read <= 2
                assert plan.blocks <= 20


async def test_appending_touches_no_more_in_a_long_history(large: Large) -> None:
    short = await new_conversation(large.database, large.user_id)
    costs: list[int] = []
    for conversation_id in (short.id, large.conversation_id):
        async with large.database.transaction() as work:
            locked = await work.conversations.lock(conversation_id, user_id=large.user_id)
        plan = await explain(
            large.database,
            message_statements.APPEND,
            generic=True,
            id=new_id(),
            conversation_id=conversation_id,
            parent_id=locked.head_id,
            seq=locked.last_seq + 1,
            branch=locked.head_branch,
            forks=False,
            parent_branch=None,
            parent_seq=locked.head_seq,
            role="user",
            content="one more",
            parts=None,
            run_id=None,
            model_type=None,
            alone=True,
        )
        # (There are no runs here, which is quickest seen by looking.)
        assert scanned(plan) <= {"runs"}
        costs.append(plan.blocks)
    assert costs[1] <= costs[0] + 12


async def test_pages_of_a_forked_branch_join_without_gap(large: Large) -> None:
    """The same as the model test in `test_messages`, at size: every page of the longest way."""
    seqs: list[int] = []
    while True:
        async with large.database.reading() as work:
            page = await work.messages.list_branch(
                large.conversation_id,
                tip_id=large.tip_id,
                user_id=large.user_id,
                limit=10_000,
                after_seq=seqs[-1] if seqs else None,
            )
        seqs += [message.seq for message in page]
        if page.is_last:
            break
    expected = [
        seq
        for branch in range(FORKS + 1)
        for seq in range(
            branch * SHARE + 1,
            branch * SHARE + (SHARE if branch == FORKS else SHARE * 3 // 4) + 1,
        )
    ]
    assert seqs == expected
