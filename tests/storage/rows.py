"""Rows that tests of storage stand on, and what PostgreSQL did for a statement."""

import asyncio
import json
import random
import string
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from tertulia.domain.conversations import Conversation
from tertulia.domain.ids import new_id
from tertulia.storage.database import Database
from tertulia.storage.statements import Statement, statement

MODEL = "scripted:parrot"

_FLUSH_STATISTICS = statement("SELECT pg_stat_force_next_flush()")
_LONG_VALUE_BLOCKS = statement(
    """
    SELECT toast_blks_hit + toast_blks_read AS blocks FROM pg_statio_user_tables
    WHERE relname = 'messages'
    """
)
_SLEEP = statement("SELECT pg_sleep(:seconds)")
_INSERT_USER = statement(
    """
    INSERT INTO users (id, email, email_key, username, username_key, password_hash)
    VALUES (:id, :name, :name, :name, :name, 'none')
    """
)


async def new_user(database: Database) -> UUID:
    """Store a user that nobody can log in as; return its id."""
    id_ = new_id()
    async with database.reading() as work:
        await work.connection.run(_INSERT_USER, id=id_, name=f"{id_}@example.com")
    return id_


async def new_conversation(database: Database, user_id: UUID) -> Conversation:
    """Store an empty conversation."""
    async with database.transaction() as work:
        return await work.conversations.create(
            new_id(), user_id=user_id, title=None, model_type=MODEL
        )


async def works(database: Database, times: int) -> bool:
    """Whether so many transactions can be open at once."""

    async def use() -> None:
        async with database.transaction() as work:
            await work.connection.all(_SLEEP, seconds=0.02)

    async with asyncio.timeout(30):
        await asyncio.gather(*(use() for _ in range(times)))
    return True


def noise(characters: int) -> str:
    """Return text that hardly becomes shorter when PostgreSQL compresses it."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=characters))


async def long_value_blocks(database: Database) -> int:
    """Return how many blocks of messages' long values (TOAST) were read since the beginning.

    What connections other than the database's only one did may be missing.
    """
    async with database.reading() as work:
        await work.connection.all(_FLUSH_STATISTICS)
        return (await work.connection.one(_LONG_VALUE_BLOCKS)).blocks


@dataclass(frozen=True, slots=True)
class Plan:
    """What `EXPLAIN (ANALYZE, BUFFERS)` says of one execution."""

    nodes: tuple[dict[str, Any], ...]
    """Every node, from the root down."""

    @property
    def kinds(self) -> set[str]:
        return {node["Node Type"] for node in self.nodes}

    @property
    def rows_read(self) -> int:
        """The most rows that any node gave, or threw away, in all its loops."""
        return max(
            round(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            )
            for node in self.nodes
        )

    @property
    def blocks(self) -> int:
        """Pages of 8 kB touched."""
        return self.nodes[0]["Shared Hit Blocks"] + self.nodes[0]["Shared Read Blocks"]

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}


async def explain(
    database: Database,
    query: Statement,
    *,
    generic: bool,
    **parameters: Any,  # noqa: ANN401  a value is of any type
) -> Plan:
    """Run a statement as the server would and return its plan.

    Args:
        database: Lends the connection, with all its settings.
        query: The statement.
        generic: Whether it is planned without a look at the values, as PostgreSQL may decide to do
            from the sixth execution on a connection.
        parameters: The values.
    """
    mode = "force_generic_plan" if generic else "force_custom_plan"
    values = query.arguments(parameters)
    async with database.reading() as work:
        driver = work.connection.driver
        prepared = await driver.prepare(query.sql)
        types = [kind.name for kind in prepared.get_parameters()]
        await driver.execute(f"SET plan_cache_mode = {mode}")
        await driver.execute(f"PREPARE probe ({', '.join(types)}) AS {query.sql}")
        try:
            literals = [
                await driver.fetchval(f"SELECT quote_nullable($1::{kind})", value)
                for kind, value in zip(types, values, strict=True)
            ]
            found = await driver.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE probe({', '.join(literals)})"
            )
        finally:
            await driver.execute("DEALLOCATE probe")
    return Plan(tuple(_flat(json.loads(found)[0]["Plan"])))


def _flat(node: dict[str, Any]) -> list[dict[str, Any]]:
    children = cast("list[dict[str, Any]]", node.get("Plans", []))
    return [node, *(each for child in children for each in _flat(child))]
