"""Waiting for a database that is told."""

import asyncio

import pytest

from tertulia.cli.database import require_usable, wait_for_database
from tertulia.cli.errors import CommandFailed
from tertulia.storage.inspection import DatabaseState, inspect

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
    with pytest.raises(CommandFailed, match=r"PostgreSQL cannot be used: .*mallory"):
        await asyncio.to_thread(wait_for_database, refused, print, wait_s=1)


async def test_a_forgetful_database_is_refused_in_production_with_what_to_do(dsn: str) -> None:
    state = await inspect(dsn)
    with pytest.raises(CommandFailed, match=r"fsync is off\. Turn it on: take -c fsync=off"):
        require_usable(state, print, is_production=True)


async def test_a_forgetful_database_is_noted_in_one_line_elsewhere(dsn: str) -> None:
    lines: list[str] = []
    require_usable(await inspect(dsn), lines.append, is_production=False)
    assert len(lines) == 1
    assert "fsync, full_page_writes, synchronous_commit" in lines[0]


@pytest.mark.parametrize("is_production", [True, False])
def test_a_database_that_cannot_do_the_work_is_refused_everywhere(*, is_production: bool) -> None:
    state = DatabaseState("14.1", 100, None, faults=("It is too old.",), unsafe=())
    with pytest.raises(CommandFailed, match="too old"):
        require_usable(state, print, is_production=is_production)
