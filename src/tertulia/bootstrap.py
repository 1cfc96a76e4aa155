"""Builds everything once, from the settings, and takes it down again."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from tertulia.auth.passwords import Passwords
from tertulia.auth.service import AuthService
from tertulia.auth.tokens import AccessTokens
from tertulia.config import Settings
from tertulia.conversations.search import ConversationSearch
from tertulia.conversations.service import ConversationService
from tertulia.domain.errors import Draining, Unavailable
from tertulia.domain.ids import new_id
from tertulia.domain.models import ProviderFailed
from tertulia.jobs.worker import JobWorker
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.e5 import bundled_embeddings_path
from tertulia.llm.embedders import Embedder
from tertulia.llm.local import BUNDLED_MODEL, LocalModel, bundled_model_path
from tertulia.llm.local_embeddings import BUNDLED_EMBEDDING_MODEL, LocalEmbedder
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.llm.others import OtherProvider
from tertulia.llm.providers import Provider
from tertulia.runs.changes import Changes
from tertulia.runs.executor import Executor
from tertulia.runs.feeds import Feeds
from tertulia.runs.follower import Follower
from tertulia.runs.keeper import Keeper
from tertulia.runs.prompt import PromptBuilder
from tertulia.runs.quick_start import QuickStart
from tertulia.runs.service import RunService
from tertulia.runs.titles import TitleWriter
from tertulia.runs.tool_loop import ToolLoop
from tertulia.runs.writer import EventWriter
from tertulia.storage.database import Database, DatabaseLimits
from tertulia.storage.notices import Listener, Notice, Notifier
from tertulia.telemetry.tasks import TaskSet
from tertulia.tools.configuration import read_servers
from tertulia.tools.limits import ToolLimits
from tertulia.tools.servers import ToolServers

OPENAI_URL = "https://api.openai.com/v1"
_TASKS_END_S = 3.0
_ENGINE_CONNECTIONS = 3
_LISTENING_CONNECTIONS = 1
"""The event writer, the keeper of leases and the notifier; each uses one at a time."""
_RESTART_S = 1.0
_HAND_OVER_S = 2.0
"""For storing what is left, on top of the time that answers are given to end."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Services:
    """What the routes call, and what the server's life needs."""

    auth: AuthService
    conversations: ConversationService
    search: ConversationSearch
    runs: RunService
    changes: Changes
    database: Database
    feeds: Feeds
    keeper: Keeper
    jobs: JobWorker
    tasks: TaskSet
    drain_s: float
    """How long answers that nobody else can go on with get to end."""
    _handing_over: asyncio.Task[None] | None = None

    def begin_drain(self) -> None:
        """Take nothing on, and let runs and followers go on elsewhere.

        Called in the event loop when the process is told to stop.
        """
        if self._handing_over is None:
            self.jobs.stop()
            self.feeds.drain()
            handing_over = _hand_over(self.keeper, self.drain_s)
            self._handing_over = self.tasks.spawn(handing_over, name="hand-over")

    async def drain(self) -> None:
        """Do the same, and wait until it is done. No request is open any more."""
        self.begin_drain()
        assert self._handing_over is not None
        await self._handing_over
        # What requests began while they were waited for.
        await _hand_over(self.keeper, 0.0)

    async def check_readiness(self) -> None:
        """Make sure that requests can be served.

        Raises:
            Unavailable: The database is away, or this process is stopping.
        """
        if self.feeds.is_draining:
            raise Draining
        await self.database.check()


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Services]:
    """Build everything, keep it running for as long as the block does, and take it down.

    On the way out the runs of this process are handed over to the others.

    Raises:
        DatabaseUnavailable: There is no database.
        ValueError: The settings name a model that there is not.
    """
    assert settings.database_url is not None, "the entrance provides a database"
    assert settings.secret_key is not None, "the entrance provides a key"
    models = build_models(settings)
    tasks = TaskSet()
    servers = build_tool_servers(settings, tasks)
    dsn = settings.database_url.get_secret_value()
    for_requests = settings.pool_size - _ENGINE_CONNECTIONS - _LISTENING_CONNECTIONS
    database = await Database.open(dsn, DatabaseLimits(pool_size=for_requests))
    # Answers are written and leases extended over connections that no request can take.
    engine = await Database.open(dsn, DatabaseLimits(pool_size=_ENGINE_CONNECTIONS))
    passwords = Passwords()
    try:
        services = _build(
            settings,
            database=database,
            engine=engine,
            models=models,
            servers=servers,
            passwords=passwords,
            tasks=tasks,
        )
        yield services
        await services.drain()
    finally:
        await servers.close()
        await tasks.cancel_all(_TASKS_END_S)
        passwords.close()
        await models.close()
        await engine.close()
        await database.close()


async def _hand_over(keeper: Keeper, patience_s: float) -> None:
    """Give the runs away; without a database others take them when their leases have ended."""
    try:
        async with asyncio.timeout(patience_s + _HAND_OVER_S):
            await keeper.hand_over(patience_s=patience_s)
    except (TimeoutError, Unavailable) as error:
        log.warning("runs not handed over; their leases will end", error=type(error).__name__)


def build_tool_servers(settings: Settings, tasks: TaskSet) -> ToolServers:
    """Return the MCP servers of the operator's file; none is started before a run wants it.

    Raises:
        ValueError: The file says what cannot be meant.
    """
    limits = ToolLimits(call_s=settings.mcp_call_s, result_chars=settings.mcp_result_chars)
    if settings.mcp_config is None:
        return ToolServers(limits=limits)
    return ToolServers.of(read_servers(settings.mcp_config, os.environ), limits, tasks)


def build_models(settings: Settings) -> ModelCatalog:
    """Return every model that the settings make available, the bundled one loaded.

    Raises:
        ValueError: There is none, or not the one that should be the default, or the local one
            cannot be loaded.
    """
    providers: dict[str, Provider] = {}
    embedders: dict[str, Embedder] = {}
    default_embedding = None
    default = settings.default_model
    path = settings.local_model_path or bundled_model_path()
    if settings.local_model and path is not None:
        local = LocalModel(path)
        try:
            local.load()
        except ProviderFailed as failure:
            raise ValueError(failure.message) from failure
        providers[local.name] = local
        default = default or f"{local.name}:{BUNDLED_MODEL}"
    if settings.openai_base_url or settings.openai_api_key:
        key = settings.openai_api_key
        providers["openai"] = embedders["openai"] = OpenAICompatible(
            "openai",
            settings.openai_base_url or OPENAI_URL,
            key.get_secret_value() if key else None,
            continuation=settings.openai_continuation,
        )
    for name, secret in (
        ("anthropic", settings.anthropic_api_key),
        ("google", settings.google_api_key),
        ("mistral", settings.mistral_api_key),
        ("groq", settings.groq_api_key),
        ("cohere", settings.cohere_api_key),
    ):
        if secret is not None:
            providers[name] = OtherProvider(name, {"api_key": secret.get_secret_value()})
    if settings.bedrock:
        providers["bedrock"] = OtherProvider("bedrock", {})
    # Costs nothing until somebody asks it, so it is there with any settings.
    if (folder := bundled_embeddings_path()) is not None:
        embedders["local"] = LocalEmbedder(folder)
        default_embedding = f"local:{BUNDLED_EMBEDDING_MODEL}"
    if default is None:
        raise ValueError("There is no bundled model here: name one in TERTULIA_DEFAULT_MODEL")
    return ModelCatalog(
        providers,
        default,
        _offered(settings, providers),
        embedders=embedders,
        default_embedding=default_embedding,
    )


def _offered(settings: Settings, providers: Mapping[str, Provider]) -> Sequence[str] | None:
    """Return all that is on offer, if the operator has named it; the bundled model always is."""
    if settings.models is None:
        return None
    bundled = [f"local:{BUNDLED_MODEL}"] if "local" in providers else []
    return list(dict.fromkeys((*bundled, *settings.models)))


def _build(
    settings: Settings,
    *,
    database: Database,
    engine: Database,
    models: ModelCatalog,
    servers: ToolServers,
    passwords: Passwords,
    tasks: TaskSet,
) -> Services:
    process_id = new_id()
    notifier, feeds, changes = Notifier(engine), Feeds(), Changes()
    writer = EventWriter(engine, feeds, notifier, process_id)
    executor = Executor(
        database=database,
        loop=ToolLoop(
            database,
            models,
            PromptBuilder(database, settings.system_prompt, settings.context_messages),
            writer,
            servers,
            rounds_max=settings.mcp_rounds,
        ),
        writer=writer,
        tasks=tasks,
        deadline_s=settings.run_deadline_s,
        max_runs=settings.max_runs,
    )
    follower = Follower(database, feeds, executor.executes, notifier, executor.shown)
    keeper = Keeper(engine, executor, notifier, process_id)
    titles = TitleWriter(database, models, notifier)
    receive = _receiver(feeds, executor, keeper, changes, notifier)
    listener = Listener(database.dsn, receive, missed=_looker(feeds, keeper, changes))
    jobs = JobWorker(database, {"title": titles.write})
    for name, loop in (
        ("notifier", notifier.run),
        ("listener", listener.run),
        ("event writer", writer.run),
        ("feeds", follower.watch),
        ("keeper", keeper.run),
        ("jobs", jobs.run),
        ("models", models.keep_fresh),
    ):
        tasks.spawn(_for_ever(name, loop), name=name)
    return Services(
        auth=_build_auth(settings, database, passwords, notifier),
        conversations=ConversationService(database, notifier, models.default),
        search=ConversationSearch(database),
        runs=RunService(
            database,
            models,
            executor,
            follower,
            notifier,
            process_id,
            max_attempts=settings.run_attempts,
            context_messages=settings.context_messages,
            quick_start=QuickStart(database, models, process_id, settings.run_attempts),
        ),
        changes=changes,
        database=database,
        feeds=feeds,
        keeper=keeper,
        jobs=jobs,
        tasks=tasks,
        drain_s=settings.drain_s,
    )


def _build_auth(
    settings: Settings, database: Database, passwords: Passwords, notifier: Notifier
) -> AuthService:
    assert settings.secret_key is not None, "see `running`"
    return AuthService(
        database,
        passwords,
        AccessTokens(settings.secret_key.get_secret_value()),
        notifier,
        registration_open=settings.registration_open,
        access_lifetime=timedelta(minutes=settings.access_token_minutes),
        refresh_lifetime=timedelta(days=settings.refresh_token_days),
    )


async def _for_ever(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Run what the process cannot do without, and begin again should a fault of ours end it."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("begun again", loop=name)
        await asyncio.sleep(_RESTART_S)


def _receiver(
    feeds: Feeds, executor: Executor, keeper: Keeper, changes: Changes, notifier: Notifier
) -> Callable[[Notice], None]:
    def receive(notice: Notice) -> None:
        match notice["kind"]:
            case "stored":
                for run_id in notice["run_ids"]:
                    feeds.look(UUID(run_id))
            case "watched":
                mine = [id_ for id_ in map(UUID, notice["run_ids"]) if executor.executes(id_)]
                # Between their look and this notice something may have been stored.
                notifier.stored(executor.writer.watched.note(mine))
            case "stopped":
                for run_id in notice["run_ids"]:
                    executor.lose(UUID(run_id))
                    feeds.look(UUID(run_id))
            case "claimable":
                keeper.wake()
            case "changed":
                changes.publish(notice)
            case other:
                # A newer replica may have more to say.
                log.debug("notice not understood", kind=other)

    return receive


def _looker(feeds: Feeds, keeper: Keeper, changes: Changes) -> Callable[[], None]:
    def look() -> None:
        changes.miss()
        feeds.look_at_all()
        keeper.wake()

    return look
