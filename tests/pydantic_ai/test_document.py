"""The agent in the document runs as it stands there."""

import asyncio
import os
import re
import sys
from pathlib import Path

from tertulia.domain.ids import new_id
from tertulia.storage.database import Database
from tests.kit.documents import DOCS
from tests.pydantic_ai.native import Native


async def test_it_goes_on_each_time(dsn: str, database: Database, tmp_path: Path) -> None:
    document = (DOCS / "pydantic-ai.md").read_text()
    found = re.search(r"```python\n# agent\.py\n(.*?)```", document, re.DOTALL)
    assert found is not None
    program = tmp_path / "agent.py"
    program.write_text(found[1])
    async with database.transaction() as work:
        user = await work.users.create(
            new_id(), email="alice@example.com", username="alice", password_hash="none"
        )
    printed: list[str] = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(program),
            env={**os.environ, "DATABASE_URL": dsn},
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        assert process.returncode == 0
        printed.append(output.decode().strip())
    answer = "success (no tool calls)"
    assert printed == [f"2 {answer}", f"4 {answer}"]
    native = Native(database, user.id)
    assert await native.texts() == ["How do I make soup?", answer] * 2
    assert (await native.only()).title == "How do I make soup?"
