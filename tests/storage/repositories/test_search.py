"""Finding words in what a user's conversations say."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from tertulia.domain.conversations import NewMessage, Retention, Role
from tertulia.domain.ids import new_id
from tertulia.domain.parts import TextPart
from tertulia.storage.database import Database
from tertulia.storage.repositories.search import SEARCHED_MESSAGES, Found
from tests.storage.rows import MODEL, new_user


@pytest.fixture
async def user(database: Database) -> UUID:
    return await new_user(database)


async def converse(
    database: Database,
    user: UUID,
    *contents: str,
    title: str | None = None,
    retention: Retention = Retention.KEPT,
) -> UUID:
    async with database.transaction() as work:
        made = await work.conversations.create(
            new_id(), user_id=user, title=title, model_type=MODEL, retention=retention
        )
        locked = await work.conversations.lock(made.id, user_id=user, also_temporary=True)
        new = [NewMessage(Role.USER, (TextPart(content),)) for content in contents]
        await work.messages.append_all(locked, new, parent=work.messages.head(locked))
    return made.id


async def find(database: Database, user: UUID, words: str, *, limit: int = 50) -> Sequence[Found]:
    async with database.reading() as work:
        return await work.search.find(words, user_id=user, limit=limit)


async def excerpts(database: Database, user: UUID, words: str) -> list[str]:
    return [found.excerpt for found in await find(database, user, words)]


async def test_words_are_found_in_any_case_newest_first(database: Database, user: UUID) -> None:
    first = await converse(database, user, "The Café opens at nine", "Nothing here")
    second = await converse(database, user, "Which café?", title="Coffee")
    found = await find(database, user, "café")
    assert [each.conversation_id for each in found] == [second, first]
    assert [each.title for each in found] == ["Coffee", None]
    assert [each.role for each in found] == [Role.USER, Role.USER]


async def test_chinese_is_found_without_spaces(database: Database, user: UUID) -> None:
    await converse(database, user, "请问明天北京的天气怎么样?", "上海呢?")
    assert await excerpts(database, user, "北京的天气") == ["请问明天北京的天气怎么样?"]
    assert await excerpts(database, user, "南京") == []


async def test_titles_are_found(database: Database, user: UUID) -> None:
    id_ = await converse(database, user, "Hello", title="关于数据库的问题")
    (found,) = await find(database, user, "数据库")
    assert (found.conversation_id, found.message_id, found.role) == (id_, None, None)
    assert found.excerpt == "关于数据库的问题"


@pytest.mark.parametrize("words", ["%", "_", "\\", "100%", "a_b", "c:\\temp"])
async def test_what_means_something_to_like_means_itself(
    database: Database, user: UUID, words: str
) -> None:
    await converse(database, user, "nothing of the kind", f"before {words} after")
    assert await excerpts(database, user, words) == [f"before {words} after"]


async def test_an_excerpt_is_what_stands_around_the_first_place(
    database: Database, user: UUID
) -> None:
    await converse(database, user, f"{'x' * 5_000} needle {'y' * 5_000}")
    (excerpt,) = await excerpts(database, user, "NEEDLE")
    assert len(excerpt) == 240
    assert "needle" in excerpt


async def test_nobody_elses_words_are_found(database: Database, user: UUID) -> None:
    await converse(database, await new_user(database), "a secret", title="secret")
    assert await find(database, user, "secret") == []


async def test_what_is_temporary_is_not_found(database: Database, user: UUID) -> None:
    await converse(database, user, "for a moment", retention=Retention.TEMPORARY)
    assert await find(database, user, "moment") == []


async def test_only_the_newest_messages_are_looked_at(database: Database, user: UUID) -> None:
    later = ["later"] * SEARCHED_MESSAGES
    await converse(database, user, "too long ago", *later)
    assert await find(database, user, "ago") == []
    assert len(await find(database, user, "later", limit=7)) == 7
