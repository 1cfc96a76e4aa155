"""Why a PostgreSQL cannot be asked, and whether waiting will mend it."""

from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from tertulia.storage.inspection import inspect
from tertulia.storage.unreachable import DatabaseNotReady, places

NO_PORT = "postgresql://nobody@127.0.0.1:1/nothing"


async def refusal(dsn: str) -> DatabaseNotReady:
    with pytest.raises(DatabaseNotReady) as failure:
        await inspect(dsn, timeout_s=2)
    return failure.value


async def test_a_server_that_is_not_there_may_come() -> None:
    why = await refusal(NO_PORT)
    assert str(why) == "nothing listens at 127.0.0.1:1"
    assert not why.is_lasting


async def test_a_socket_may_come_where_its_directory_is(tmp_path: Path) -> None:
    why = await refusal(f"postgresql://nobody@/nothing?host={quote(str(tmp_path))}")
    assert str(why) == f"there is no socket in {tmp_path}"
    assert not why.is_lasting


@pytest.mark.parametrize(
    ("dsn", "reason", "remedy"),
    [
        ("postgresql://x@/d?host=/no/such/place", "no directory /no/such/place", "socket"),
        ("postgresql://x@%2Fno%2Fsuch%2Fplace/d", "no directory /no/such/place", "socket"),
        ("postgresql://x@no-such-host.invalid/d", "'no-such-host.invalid'", "Correct the host"),
        ("postgresql://x@127.0.0.1:1/d?sslmode=much", "sslmode", "DATABASE_URL"),
        ("postgresql://x:pa[ss@127.0.0.1/d", "cannot be understood", "percent-encoded"),
    ],
    ids=["directory", "directory as host", "host", "option", "URL"],
)
async def test_what_waiting_cannot_mend_is_said_with_its_remedy(
    dsn: str, reason: str, remedy: str
) -> None:
    why = await refusal(dsn)
    assert why.is_lasting
    assert reason in str(why)
    assert remedy in why.remedy


async def test_a_missing_database_is_lasting(dsn: str) -> None:
    why = await refusal(dsn.replace("/test_", "/missing_"))
    assert "does not exist" in str(why)
    assert "CREATE DATABASE" in why.remedy
    assert why.is_lasting


async def test_a_refused_user_is_lasting(dsn: str) -> None:
    why = await refusal(dsn.replace("tertulia@", "mallory@"))
    assert "mallory" in str(why)
    assert why.is_lasting


async def test_a_user_who_may_not_connect_is_lasting(dsn: str) -> None:
    name = dsn.partition("?")[0].rpartition("/")[2]
    admin: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    try:
        await admin.execute(
            f'CREATE ROLE "{name}" LOGIN; REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC'
        )
        why = await refusal(dsn.replace("tertulia@", f"{name}@"))
        await admin.execute(f'DROP ROLE "{name}"')
    finally:
        await admin.close()
    assert why.is_lasting
    assert "GRANT CONNECT" in why.remedy


async def test_a_piece_of_a_password_is_never_taken_for_the_host() -> None:
    why = await refusal("postgresql://x:p@ss.invalid/word@127.0.0.1:1/d")
    assert "ss" not in str(why).replace("password", "")
    assert "percent-encoded" in why.remedy


@pytest.mark.parametrize(
    ("dsn", "where"),
    [
        ("postgresql://u:secret@db.example.com/d", ("db.example.com:5432",)),
        ("postgresql://u:secret@a:1,b:2/d", ("a:1", "b:2")),
        ("postgresql:///d?host=/run/pg&port=5433", ("/run/pg",)),
        ("postgresql://u:se@cret@a/d", ()),
    ],
)
def test_where_a_server_should_be_is_told_without_secrets(dsn: str, where: tuple[str, ...]) -> None:
    assert places(dsn) == where
