"""Statements that prove who asks by the way."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import pytest

from tertulia.domain.conversations import Role
from tertulia.domain.errors import ConversationNotFound, Unauthenticated, UserInactive
from tertulia.domain.ids import new_id
from tertulia.domain.parts import TextPart
from tertulia.domain.users import Claim
from tertulia.storage.database import Database
from tertulia.storage.repositories.claims import proving
from tertulia.storage.statements import Statement, statement
from tertulia.storage.unit_of_work import UnitOfWork
from tests.storage.rows import MODEL, new_conversation, new_user

Question: TypeAlias = Callable[[UnitOfWork, UUID, Claim], Awaitable[object]]

LATER = datetime(2999, 1, 1, tzinfo=UTC)
_SESSION = statement(
    """
    INSERT INTO sessions (id, user_id, family_hash, refresh_hash, expires_at)
    VALUES (:id, :user_id, :hash, :hash, now() + INTERVAL '1 day')
    """
)
_CONTENTS = statement("SELECT content FROM messages WHERE conversation_id = :id ORDER BY seq")
ENDS = {
    "expired": statement("UPDATE sessions SET expires_at = now() WHERE user_id = :user_id"),
    "revoked": statement("UPDATE sessions SET revoked_at = now() WHERE user_id = :user_id"),
    "deleted": statement("DELETE FROM sessions WHERE user_id = :user_id"),
    "closed": statement("UPDATE users SET is_active = false WHERE id = :user_id"),
}


async def list_conversations(work: UnitOfWork, _: UUID, claim: Claim) -> object:
    return await work.conversations.list(user_id=claim.user_id, limit=5, claim=claim)


async def list_none(work: UnitOfWork, _: UUID, claim: Claim) -> object:
    return await work.conversations.list(
        user_id=claim.user_id, limit=5, model_type="nobody's", claim=claim
    )


async def get_conversation(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.conversations.get(id_, user_id=claim.user_id, claim=claim)


async def list_messages(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.messages.list(id_, user_id=claim.user_id, limit=5, claim=claim)


async def list_backwards(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.messages.list(
        id_, user_id=claim.user_id, limit=5, newest_first=True, claim=claim
    )


async def list_branch(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.messages.list_branch(
        id_, tip_id=id_, user_id=claim.user_id, limit=5, claim=claim
    )


async def list_branch_backwards(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.messages.list_branch(
        id_, tip_id=id_, user_id=claim.user_id, limit=5, newest_first=True, claim=claim
    )


async def list_no_branch(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.messages.list_branch(
        id_, tip_id=new_id(), user_id=claim.user_id, limit=5, claim=claim
    )


async def append(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.messages.append_at_head(
        new_id(),
        conversation_id=id_,
        user_id=claim.user_id,
        role=Role.USER,
        content="appended",
        claim=claim,
    )


async def start(work: UnitOfWork, id_: UUID, claim: Claim) -> object:
    return await work.starts.start_at_head(
        new_id(),
        user_id=claim.user_id,
        conversation_id=id_,
        question_id=new_id(),
        question=(TextPart("asked"),),
        answer_id=new_id(),
        model_type=MODEL,
        meanings={},
        settings={},
        max_attempts=3,
        owner=new_id(),
        lease=timedelta(seconds=5),
        claim=claim,
    )


FINDING: tuple[Question, ...] = (
    *(list_conversations, get_conversation, append, start),
    *(list_messages, list_backwards, list_branch, list_branch_backwards),
)
ALL: tuple[Question, ...] = (*FINDING, list_none, list_no_branch)


def name(question: Question) -> str:
    return question.__name__


async def log_in(database: Database, user_id: UUID) -> Claim:
    session_id = new_id()
    async with database.reading() as work:
        await work.connection.run(
            _SESSION, id=session_id, user_id=user_id, hash=session_id.bytes * 2
        )
    return Claim(user_id, session_id, LATER)


async def talk(database: Database, user_id: UUID) -> UUID:
    """Return a conversation of the user's with one message, which has its id."""
    id_ = (await new_conversation(database, user_id)).id
    async with database.reading() as work:
        assert await work.messages.append_at_head(
            id_, conversation_id=id_, user_id=user_id, role=Role.USER, content="first"
        )
    return id_


async def contents(database: Database, conversation_id: UUID) -> list[str]:
    async with database.reading() as work:
        return [row.content for row in await work.connection.all(_CONTENTS, id=conversation_id)]


@pytest.mark.parametrize("ask", FINDING, ids=name)
async def test_a_claim_is_proven_by_the_statement_that_it_comes_with(
    database: Database, ask: Question
) -> None:
    user_id = await new_user(database)
    conversation_id = await talk(database, user_id)
    claim = await log_in(database, user_id)
    statements: list[str] = []
    async with database.reading() as work:
        with work.connection.driver.query_logger(lambda record: statements.append(record.query)):
            assert await ask(work, conversation_id, claim)
            await asyncio.sleep(0)  # the driver tells of them when it has its turn
    assert len(statements) == 1


@pytest.mark.parametrize("ask", [list_none, list_no_branch], ids=name)
async def test_who_finds_nothing_is_proven_all_the_same(database: Database, ask: Question) -> None:
    user_id = await new_user(database)
    conversation_id = await talk(database, user_id)
    claim = await log_in(database, user_id)
    async with database.reading() as work:
        assert not await ask(work, conversation_id, claim)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("ask", ALL, ids=name)
async def test_a_login_that_has_ended_opens_and_changes_nothing(
    database: Database, ask: Question, how: str
) -> None:
    user_id = await new_user(database)
    conversation_id = await talk(database, user_id)
    claim = await log_in(database, user_id)
    async with database.reading() as work:
        await work.connection.run(ENDS[how], user_id=user_id)
        with pytest.raises(UserInactive if how == "closed" else Unauthenticated):
            await ask(work, conversation_id, claim)
    assert await contents(database, conversation_id) == ["first"]


@pytest.mark.parametrize("ask", ALL, ids=name)
async def test_a_token_that_has_ended_opens_nothing(database: Database, ask: Question) -> None:
    user_id = await new_user(database)
    conversation_id = await talk(database, user_id)
    claim = await log_in(database, user_id)
    ended = Claim(user_id, claim.session_id, datetime(2020, 1, 1, tzinfo=UTC))
    async with database.reading() as work:
        with pytest.raises(Unauthenticated):
            await ask(work, conversation_id, ended)
    assert await contents(database, conversation_id) == ["first"]


@pytest.mark.parametrize("ask", ALL, ids=name)
async def test_the_session_of_another_proves_nobody(database: Database, ask: Question) -> None:
    user_id, other = await new_user(database), await new_user(database)
    conversation_id = await talk(database, user_id)
    session_id = (await log_in(database, other)).session_id
    async with database.reading() as work:
        with pytest.raises(Unauthenticated):
            await ask(work, conversation_id, Claim(user_id, session_id, LATER))
    assert await contents(database, conversation_id) == ["first"]


async def test_what_is_anothers_is_missing_to_who_is_proven(database: Database) -> None:
    user_id, other = await new_user(database), await new_user(database)
    conversation_id = await talk(database, other)
    claim = await log_in(database, user_id)
    async with database.reading() as work:
        with pytest.raises(ConversationNotFound):
            await get_conversation(work, conversation_id, claim)
        assert await append(work, conversation_id, claim) is None
        assert await start(work, conversation_id, claim) is None
    assert await contents(database, conversation_id) == ["first"]


@pytest.mark.parametrize(
    "source",
    [
        "SELECT :user_id AS whose",
        "WITH a AS (SELECT CAST(:user_id AS uuid) AS whose) SELECT whose FROM a",
        """
        WITH RECURSIVE a (whose, n) AS (
            SELECT :user_id::uuid, 1 UNION ALL SELECT whose, n + 1 FROM a WHERE n < 3
        ) SELECT whose FROM a LIMIT 1
        """,
    ],
)
async def test_any_statement_can_prove(database: Database, source: str) -> None:
    user_id = await new_user(database)
    claim = await log_in(database, user_id)
    for until, expected in ((LATER, user_id), (datetime(2020, 1, 1, tzinfo=UTC), None)):
        async with database.reading() as work:
            found = await work.connection.one(
                proving(statement(source)),
                user_id=user_id,
                claimed_session=claim.session_id,
                claimed_until=until,
            )
        assert found.whose == expected


def test_a_statement_about_nobody_proves_nothing() -> None:
    with pytest.raises(ValueError, match="whose"):
        proving(statement("SELECT 1 WHERE :user_ids IS NULL"))


def test_a_statement_is_compiled_once() -> None:
    query: Statement = statement("SELECT :user_id")
    assert proving(query) is proving(query)
