"""A connection that tests of storage cause faults with."""

from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def admin(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection beside the pool, to cause faults and look at their traces."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "admin"})
    yield connection
    await connection.close()
