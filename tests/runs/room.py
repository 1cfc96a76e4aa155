"""The parts that execute runs, as one process has them, on a real database and provider."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tertulia.domain.ids import new_id
from tertulia.domain.runs import Run
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.runs.executor import Executor
from tertulia.runs.feeds import Feeds
from tertulia.runs.keeper import Keeper
from tertulia.runs.prompt import PromptBuilder
from tertulia.runs.tool_loop import ToolLoop
from tertulia.runs.writer import EventWriter
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tertulia.telemetry.tasks import TaskSet
from tertulia.tools.servers import ToolServers
from tests.kit.scripted_provider import ScriptedProvider

MODEL = "openai:scripted"


@dataclass(frozen=True)
class Room:
    """One process's share of the work."""

    database: Database
    provider: ScriptedProvider
    executor: Executor
    keeper: Keeper
    feeds: Feeds

    async def ended(self, run: Run, *, within_s: float = 10.0) -> Run:
        """Wait for the run to end and return it."""
        async with asyncio.timeout(within_s):
            while True:
                async with self.database.reading() as work:
                    found = await work.runs.get(run.id, user_id=run.user_id)
                if found.status.is_terminal:
                    return found
                await asyncio.sleep(0.02)

    async def text(self, run: Run) -> str:
        """Return what the answer says."""
        async with self.database.reading() as work:
            message = await work.messages.get(
                run.message_id, conversation_id=run.conversation_id, user_id=run.user_id
            )
        return message.content


@asynccontextmanager
async def open_room(
    database: Database, provider: ScriptedProvider, *, max_runs: int = 10, deadline_s: float = 60.0
) -> AsyncGenerator[Room]:
    """Build everything but the keeper's loop, which tests turn by hand."""
    tasks, feeds, notifier, process_id = TaskSet(), Feeds(), Notifier(database), new_id()
    models = ModelCatalog({"openai": OpenAICompatible("openai", provider.base_url, None)}, MODEL)
    writer = EventWriter(database, feeds, notifier, process_id)
    executor = Executor(
        database=database,
        loop=ToolLoop(
            database,
            models,
            PromptBuilder(database, None, 50),
            writer,
            ToolServers(),
            rounds_max=8,
        ),
        writer=writer,
        tasks=tasks,
        deadline_s=deadline_s,
        max_runs=max_runs,
    )
    keeper = Keeper(database, executor, notifier, process_id)
    tasks.spawn(writer.run(), name="writer")
    try:
        yield Room(database, provider, executor, keeper, feeds)
    finally:
        await tasks.cancel_all(2)
        await models.close()
