"""The use cases of runs: start, look up, follow, cancel."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from tertulia.domain.conversations import Message, NewMessage, Retention
from tertulia.domain.errors import MessageNotFound, QueueFull, RunActive, RunNotFound
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.ids import new_id
from tertulia.domain.models import ModelInfo
from tertulia.domain.parts import ToolResultPart
from tertulia.domain.runs import OnBusy, Run, RunStatus
from tertulia.domain.users import Claim
from tertulia.llm.catalog import ModelCatalog
from tertulia.runs.calls import check_servers
from tertulia.runs.checks import check_model
from tertulia.runs.deciding import as_asked, decisions_about, going_on, heeded_before
from tertulia.runs.executor import Executor
from tertulia.runs.follower import Followed, Follower
from tertulia.runs.opening import held, is_new, lock_or_create, open_for, store_run
from tertulia.runs.quick_start import QuickStart
from tertulia.runs.send import NewConversation, Send, Verdict
from tertulia.storage.database import Database, retried
from tertulia.storage.ending import CANCELLED, end_as_stored
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.unit_of_work import UnitOfWork
from tertulia.telemetry.crash_points import crash_point

_QUEUE_MAX = 100
"""Runs that may wait for their turn in one conversation."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run, and whether an earlier request with the same key had started it."""

    run: Run
    is_replay: bool


@dataclass(frozen=True, slots=True)
class RunService:
    """Starts, finds, follows and cancels runs."""

    database: Database
    models: ModelCatalog
    executor: Executor
    follower: Follower
    notifier: Notifier
    process_id: UUID
    max_attempts: int
    context_messages: int
    """Of one branch, the newest that a model is told."""
    quick_start: QuickStart

    @property
    def mcp_servers(self) -> Sequence[str]:
        """The names of the configured MCP servers, whose tools a run can be given."""
        return self.executor.loop.servers.names

    @retried
    async def start(
        self,
        where: UUID | NewConversation,
        send: Send,
        *,
        user_id: UUID,
        idempotent: IdempotentRequest | None = None,
        also_temporary: bool = False,
        claim: Claim | None = None,
    ) -> Started:
        """Store what is sent and the run that answers it, and begin.

        One transaction, most often of one statement; then this process executes the run, unless it
        has to wait for its turn.

        Args:
            where: The id of a conversation, or one to be made.
            send: What is asked for.
            user_id: Whose.
            idempotent: The run that this request made before is returned as it is now.
            also_temporary: Whether a conversation that is temporary may be gone on in.
            claim: What says that it is the user, where that is still to be proven.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            MessageNotFound: The conversation has no message `send.parent_id`.
            ModelNotFound: `send.model_type` is not on offer.
            RunActive: The conversation is being answered, and `send.on_busy` is `reject`.
            QueueFull: Too many runs wait for their turn there already.
            Invalid: There is nothing to answer, or it names a server that is not configured.
            ToolCallSettled: A call waits for no decision, or was decided in another way.
            IdempotencyKeyReused: The key came with another request before.
        """
        # A process that is stopping, or executes all it can, leaves the run to any other.
        leaves = self.follower.feeds.is_draining or self.executor.room == 0
        is_quick = idempotent is None and not leaves
        if claim is not None and not (is_quick and self.quick_start.is_sure(where, send)):
            await self.prove(claim)
            claim = None
        await self.models.wait_for_lists()
        await check_model(self.database, self.models, where, send, user_id=user_id)
        run_id = new_id()
        crash_point("send.before_transaction")
        if is_quick:
            quick = await self.quick_start.start(where, send, run_id, user_id=user_id, claim=claim)
            if quick is not None:
                crash_point("send.committed")
                self._begin(quick.run, quick.prompt_id, quick.branch)
                self._tell(quick.run, quick.prompt_id)
                return Started(quick.run, is_replay=False)
        return await self._start(
            where,
            send,
            run_id,
            user_id=user_id,
            idempotent=idempotent,
            also_temporary=also_temporary,
            owner=None if leaves else self.process_id,
            claim=claim,
        )

    async def _start(
        self,
        where: UUID | NewConversation,
        send: Send,
        run_id: UUID,
        *,
        user_id: UUID,
        idempotent: IdempotentRequest | None,
        also_temporary: bool,
        owner: UUID | None,
        claim: Claim | None,
    ) -> Started:
        """Do all that a start may be, step by step, in one transaction."""
        async with self.database.transaction() as work:
            if claim is not None:
                await work.sessions.authenticate(claim)
            earlier = await work.idempotency.claim(idempotent, user_id=user_id, resource_id=run_id)
            if earlier is not None:
                return Started(await work.runs.get(earlier, user_id=user_id), is_replay=True)
            check_servers(send, self.mcp_servers)
            named = self.models.resolve(send.model_type) if send.model_type else None
            conversation = await lock_or_create(
                work,
                where,
                user_id=user_id,
                model_type=named or self.models.default,
                copied_max=self.context_messages,
                also_temporary=also_temporary,
            )
            crash_point("send.locked")
            heeded, send = await heeded_before(work, conversation, send)
            if heeded is not None:
                await work.idempotency.point_to(idempotent, heeded.id, user_id=user_id)
                return Started(heeded, is_replay=True)
            waits, stopped = await self._make_way(work, conversation, send.on_busy)
            opened = await open_for(work, conversation, send)
            run = await store_run(
                work,
                run_id,
                opened=opened,
                model_type=named or self.models.resolve(conversation.model_type, strict=False),
                send=send,
                owner=None if waits else owner,
                max_attempts=self.max_attempts,
            )
            crash_point("send.before_commit")
        crash_point("send.committed")
        self.quick_start.learn(conversation.model_type)
        self._begin(run, opened.prompt.id)
        self._tell(
            run,
            opened.prompt.id if opened.new else None,
            stopped,
            is_new=is_new(where, conversation),
        )
        return Started(run, is_replay=False)

    async def decide(
        self,
        run_id: UUID,
        verdicts: Mapping[str, Verdict],
        *,
        user_id: UUID,
        send: Send | None = None,
        results: Sequence[ToolResultPart] = (),
        idempotent: IdempotentRequest | None = None,
    ) -> Started:
        """Have calls made that wait for the user's word, or refused, and go on from there.

        A new run begins with the calls' results. It asks the model when no other call of the same
        answer waits. The same decisions again find the run that was told them.

        Args:
            run_id: The run that waits.
            verdicts: By the ids of its calls.
            user_id: Whose.
            send: How to go on, where that is not as the run that waits was asked for.
            results: Of calls of the same answer that were the client's to make; without `send`.
            idempotent: As in `start`.

        Raises:
            RunNotFound: No such run, or it is another user's.
            ToolCallNotFound: It made no such call, or one that is the client's to make.
            ToolCallSettled: As in `start`.
            RunActive: The conversation is being answered.
        """
        run, answer = await self.get_answer(run_id, user_id=user_id)
        send = send or replace(as_asked(run), tool_results=results)
        return await self.start(
            run.conversation_id,
            going_on(run, send, decisions_about(answer, verdicts)),
            user_id=user_id,
            idempotent=idempotent,
            also_temporary=True,
        )

    async def prove(self, claim: Claim) -> None:
        """Make sure that a claim holds.

        Raises:
            Unauthenticated: It does not.
            UserInactive: The user's account is closed.
        """
        async with self.database.reading() as work:
            await work.sessions.authenticate(claim)

    async def get(self, run_id: UUID, *, user_id: UUID) -> Run:
        """Return the user's run.

        Raises:
            RunNotFound: No such run, or it is another user's.
        """
        async with self.database.reading() as work:
            return await work.runs.get(run_id, user_id=user_id)

    async def find_asked(self, conversation_id: UUID, send: Send, *, user_id: UUID) -> Run | None:
        """Return the conversation's newest run, if it answers what `send` would ask.

        Who lost a stream in the middle asks the same again, and wants the rest of that answer.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        async with self.database.reading() as work:
            run = await work.runs.find_newest(
                conversation_id, user_id=user_id, content=send.content
            )
            if run is None:
                await work.conversations.get(conversation_id, user_id=user_id)
            return run

    async def list(
        self, conversation_id: UUID, *, user_id: UUID, limit: int, before_seq: int | None = None
    ) -> Sequence[Run]:
        """Return the conversation's runs, newest first.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        async with self.database.reading() as work:
            runs = await work.runs.list(
                conversation_id, user_id=user_id, limit=limit, before_seq=before_seq
            )
            if not runs:
                await work.conversations.get(conversation_id, user_id=user_id)
            return runs

    async def is_read(self, run: Run, *, user_id: UUID, after: int) -> bool:
        """Whether the run has ended, and who has seen its event `after` has seen that."""
        if not run.status.is_terminal or after == 0:
            return False
        async with self.database.reading() as work:
            end = await work.run_events.end(run.id, user_id=user_id)
        return end is not None and after >= end

    async def get_answer(self, run_id: UUID, *, user_id: UUID) -> tuple[Run, Message]:
        """Return the user's run and its answer, which is empty until the run has ended.

        Raises:
            RunNotFound: No such run, or it is another user's.
        """
        async with self.database.reading() as work:
            run = await work.runs.get(run_id, user_id=user_id)
            try:
                answer = await work.messages.get(
                    run.message_id, conversation_id=run.conversation_id, user_id=user_id
                )
            except MessageNotFound:
                # Deleted between the two statements, and the run with it.
                raise RunNotFound from None
        return run, answer

    def follow(
        self, run_id: UUID, *, user_id: UUID, after: int = 0, stays: bool = False
    ) -> AsyncGenerator[Followed, None]:
        """Follow a run that is known to be the user's; see `Follower.follow`."""
        return self.follower.follow(run_id, user_id=user_id, after=after, stays=stays)

    @retried
    async def cancel(self, run_id: UUID, *, user_id: UUID) -> Run:
        """End the run now, keeping what is stored of its answer. An ended run stays as it is.

        Whoever executes it finds itself fenced at once and closes the connection to the model.

        Raises:
            RunNotFound: No such run, or it is another user's.
        """
        async with self.database.transaction() as work:
            locked = await work.runs.lock(run_id, user_id=user_id)
            if locked.status.is_terminal:
                return await work.runs.get(run_id, user_id=user_id)
            received = self.executor.tokens(run_id)
            finished = await end_as_stored(work, locked, CANCELLED, received=received)
            run = await work.runs.get(run_id, user_id=user_id)
            crash_point("cancel.before_commit")
        crash_point("cancel.committed")
        self._tell_stopped([run])
        if finished.another_waits:
            self.notifier.claimable()
        return run

    async def delete(self, run_id: UUID, *, user_id: UUID) -> None:
        """Forget a run, ended first if it goes on. What was said stays in its conversation.

        A conversation that is there for its runs goes with the last of them.

        Raises:
            RunNotFound: No such run, or it is another user's.
        """
        run = await self.cancel(run_id, user_id=user_id)
        async with self.database.transaction() as work:
            await work.conversations.lock(run.conversation_id, user_id=user_id, also_temporary=True)
            await work.runs.delete(run_id, user_id=user_id)
            gone = await work.conversations.delete_unused(
                run.conversation_id, user_id=user_id, retention=Retention.WITH_RUNS
            )
        if gone:
            self.notifier.changed(
                "conversation.deleted", user_id=user_id, conversation_id=run.conversation_id
            )

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return what can be asked, the default first."""
        return await self.models.list()

    async def _make_way(
        self, work: UnitOfWork, conversation: LockedConversation, on_busy: OnBusy
    ) -> tuple[bool, Sequence[Run]]:
        """Return whether the new run has to wait, and the runs that were stopped for it."""
        active = await work.runs.count_active(conversation.id, limit=_QUEUE_MAX + 1)
        if not active:
            return False, ()
        match on_busy:
            case OnBusy.REJECT:
                raise RunActive(retry_after_s=1)
            case OnBusy.QUEUE:
                if active > _QUEUE_MAX:
                    raise QueueFull(retry_after_s=1)
                return True, ()
            case OnBusy.INTERRUPT:
                stopped: list[Run] = []
                for each in await work.runs.lock_active(conversation.id):
                    received = self.executor.tokens(each.id)
                    finished = await end_as_stored(work, each, CANCELLED, received=received)
                    stopped.append(finished.run)
                return False, stopped

    def _begin(
        self, run: Run, prompt_id: UUID | None, branch: Sequence[NewMessage] | None = None
    ) -> None:
        if run.status is RunStatus.RUNNING:
            mine = held(run, prompt_id=prompt_id, max_attempts=self.max_attempts)
            self.executor.begin(mine, branch)
        else:
            # Also where it waits for its turn: what it waits for may have just ended.
            self.notifier.claimable()

    def _tell(
        self,
        run: Run,
        message_id: UUID | None,
        stopped: Sequence[Run] = (),
        *,
        is_new: bool = False,
    ) -> None:
        """Tell of a run that was started, of the last message that came with it, and the rest."""
        if is_new:
            self.notifier.changed(
                "conversation.created", user_id=run.user_id, conversation_id=run.conversation_id
            )
        if stopped:
            self._tell_stopped(stopped)
        if message_id is not None:
            # One notice, however many messages came: it says where to look from.
            self.notifier.changed(
                "message.created",
                user_id=run.user_id,
                conversation_id=run.conversation_id,
                message_id=message_id,
            )
        if run.status is RunStatus.RUNNING:
            self.notifier.run_changed("run.started", run)

    def _tell_stopped(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self.executor.lose(run.id)
            self.follower.feeds.look(run.id)
            self.notifier.run_changed("run.ended", run)
        self.notifier.stopped([run.id for run in runs])
