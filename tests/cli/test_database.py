"""Waiting for a database that is told."""

import asyncio

import pytest

from tertulia.cli.database import wait_for_database
from tertulia.cli.errors import CommandFailed

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


async def test_a_database_that_answers_is_not_waited_for(dsn: str) -> None:
    lines: list[str] = []
    state = await asyncio.to_thread(wait_for_database, dsn, lines.append, wait_s=1)
    assert state.revision
    assert not lines


def test_one_that_never_comes_ends_the_wait_with_its_reason() -> None:
    lines: list[str] = []
    with pytest.raises(CommandFailed, match=r"did not answer .* Check DATABASE_URL"):
        wait_for_database(NOWHERE, lines.append, wait_s=0.6)
    assert lines[0].startswith("Waiting for PostgreSQL")


async def test_one_that_refuses_us_is_not_waited_for(dsn: str) -> None:
    refused = dsn.replace("tertulia@", "mallory@")
    with pytest.raises(CommandFailed, match="refuses"):
        await asyncio.to_thread(wait_for_database, refused, print, wait_s=1)
