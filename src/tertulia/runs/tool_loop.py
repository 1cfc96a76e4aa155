"""Having a run answered: the model is asked, the calls that it wants are made, it is asked again.

Runs without server-side tools ask once. With them, the calls of one answer are stored together,
after its end, and each is begun only when everything before it is stored. So a process that takes
a run over knows: of the calls without a result only the first may have been begun.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

from tertulia.conversations.tool_calls import Tip, find_open_calls, unanswered
from tertulia.domain.errors import ToolCallSettled, Unavailable
from tertulia.domain.models import Finish, ModelRequest, ModelSettings, ToolCall, Usage
from tertulia.domain.parts import Part, ToolCallPart, ToolResultPart, text_of
from tertulia.domain.tools import Approval, ServerTool
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.exact_text import storable
from tertulia.runs.calls import CallIds, count_rounds, split
from tertulia.runs.deciding import refusal
from tertulia.runs.live import LiveRun
from tertulia.runs.prompt import Asked, PromptBuilder
from tertulia.runs.send import Decision, Instructions
from tertulia.runs.settings import settings_from_json
from tertulia.runs.shortening import stream_shortened
from tertulia.runs.writer import EventWriter
from tertulia.storage.database import Database
from tertulia.telemetry.crash_points import crash_point
from tertulia.tools.names import server_of
from tertulia.tools.servers import UNKNOWN_OUTCOME, ToolServers

_DATABASE_RETRY_S = 0.5
_WAITS = Finish("tool_calls", Usage(), None)
_NO_SUCH_TOOL = "Error: there is no such tool."

Tools: TypeAlias = Mapping[str, ServerTool]
"""By the names that models know."""


@dataclass(frozen=True, slots=True)
class ToolLoop:
    """Answers runs that this process holds."""

    database: Database
    models: ModelCatalog
    prompts: PromptBuilder
    writer: EventWriter
    servers: ToolServers
    rounds_max: int
    """How often a model may ask for calls in one run; then it has to answer without."""

    async def answer(self, live: LiveRun) -> None:
        """Hear a run's answer to its end, or until calls wait that are not ours to make now.

        Raises:
            ProviderFailed: The model's provider failed.
            ToolServerFailed: A server that the run wants cannot be reached.
            ToolCallSettled: A call that the run is to make is gone.
        """
        names = _servers(live)
        if not names:
            await self._ask(live, None)
            return
        tools = await self.servers.list_tools(names)
        if await self._decide(live, tools) and await self._make_calls(live, tools, is_retry=True):
            while await self._ask(live, tools) and await self._make_calls(live, tools):
                pass

    def can_be_continued(self, live: LiveRun) -> bool:
        """Whether another process can go on where this one stops."""
        if not live.answer.is_plain_text:
            # A call may be under way.
            return False
        return self.models.continues_prefix(live.held.model_type)

    def take_up(self, live: LiveRun) -> None:
        """Go on with what former attempts said; what cannot be gone on with begins again."""
        kept, rest = _split(live)
        is_text = text_of(rest) != "" and len(rest) == 1
        continues = is_text and self.models.continues_prefix(live.held.model_type)
        if rest and not continues:
            live.restart(kept)
            self.writer.heard(live)

    async def _ask(self, live: LiveRun, tools: Tools | None) -> bool:
        """Hear one answer of the model; return whether it asks for calls (None: not ours)."""
        request = await self._request(live, tools)
        crash_point("run.before_model")
        live.begin_answer()
        ids = CallIds(request.messages)
        calls: list[ToolCall] = []
        is_whole = live.held.settings.get("whole", False)
        stream = self.models.stream(request) if is_whole else stream_shortened(self.models, request)
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                if isinstance(delta, ToolCall):
                    calls.append(_called(delta, ids.take(delta.call_id), live, tools))
                    continue
                is_first = live.received == 0
                live.hear(delta)
                self.writer.heard(live, is_first=is_first)
                crash_point("run.first_token" if is_first else "run.token")
                if live.waiting_chars:
                    await self.writer.room(live)
        if not calls:
            return False
        # Together, for all of them are stored before the first is made.
        for call in calls:
            live.hear(call)
        self.writer.heard(live)
        return tools is not None

    async def _decide(self, live: LiveRun, tools: Tools) -> bool:
        """Do as the user decided about calls; return whether the model can be asked then."""
        decisions = Decision.stored_in(live.held.settings)
        if not decisions:
            return True
        await self._store(live)
        answered = {part.call_id for part in live.answer.parts if isinstance(part, ToolResultPart)}
        waiting = {call.call_id for call in await self._open_calls(live)}
        may_have_begun = live.held.attempt > 1
        for decision in decisions:
            if decision.call.call_id in answered:
                continue
            if decision.call.call_id not in waiting:
                raise ToolCallSettled
            if decision.verdict.is_approved:
                await self._call(live, decision.call, tools, may_have_begun=may_have_begun)
            else:
                await self._take(live, decision.call, refusal(decision))
            may_have_begun = False
        waiting -= {decision.call.call_id for decision in decisions}
        return not waiting or self._wait(live)

    async def _make_calls(self, live: LiveRun, tools: Tools, *, is_retry: bool = False) -> bool:
        """Make the calls that may be made; return whether the model can be asked again.

        Args:
            live: The run.
            tools: That it can use.
            is_retry: Whether the calls were stored by an earlier attempt, if there are any.
        """
        if is_retry and live.answer.is_empty:
            return True
        await self._store(live)
        parts = live.answer.parts
        calls = unanswered(parts)
        if not calls:
            return True
        if count_rounds(parts) > self.rounds_max:
            return self._wait(live)
        waits, may_have_begun = False, is_retry
        for call in calls:
            if call.server is None or call.approval is not None:
                waits = True
                continue
            await self._call(live, call, tools, may_have_begun=may_have_begun)
            may_have_begun = False
        return not waits or self._wait(live)

    async def _call(
        self, live: LiveRun, call: ToolCallPart, tools: Tools, *, may_have_begun: bool
    ) -> None:
        """Make a call that is stored, and everything before it with it."""
        tool = tools.get(call.name)
        if tool is None:
            result = _NO_SUCH_TOOL
        elif may_have_begun and not tool.is_repeatable:
            result = UNKNOWN_OUTCOME
        else:
            result = storable(await self.servers.call(tool, call.arguments))
        await self._take(live, call, result)

    async def _take(self, live: LiveRun, call: ToolCallPart, result: str) -> None:
        live.hear_result(ToolResultPart(call.call_id, result))
        await self._store(live)

    def _wait(self, live: LiveRun) -> bool:
        """Let the run end with calls that somebody else makes, or decides about."""
        if live.finish is None:
            live.hear(_WAITS)
        return False

    async def _store(self, live: LiveRun) -> None:
        """Return when all that was said is stored, by this process, which holds the run still."""
        self.writer.heard(live)
        await self.writer.flush([live])
        if live.is_lost:
            raise asyncio.CancelledError

    async def _open_calls(self, live: LiveRun) -> Sequence[ToolCallPart]:
        held = live.held
        tip = Tip(held.conversation_id, held.prompt_id, held.user_id)
        while True:
            try:
                async with self.database.reading() as work:
                    return await find_open_calls(work, tip)
            except Unavailable:
                await asyncio.sleep(_DATABASE_RETRY_S)

    async def _request(self, live: LiveRun, tools: Tools | None) -> ModelRequest:
        held = live.held
        settings = settings_from_json(held.settings)
        kept, rest = _split(live)
        asked = Asked(
            held.conversation_id,
            prompt_id=held.prompt_id or held.message_id,
            user_id=held.user_id,
            instructions=Instructions.stored_in(held.settings),
            messages_min=held.settings.get("inputs", 0),
            context_tokens=self.models.info(held.model_type).context_tokens,
            answer_tokens=settings.max_tokens,
            so_far=kept,
            is_whole=held.settings.get("whole", False),
            branch=live.branch,
        )
        while True:
            try:
                messages = await self.prompts.build(asked)
            except Unavailable:
                await asyncio.sleep(_DATABASE_RETRY_S)
            else:
                prefix = text_of(rest)
                settings = self._with_tools(settings, tools, live)
                if prefix:
                    settings = _for_the_rest(settings, live)
                return ModelRequest(
                    held.model_type, messages, settings, prefix, pause=self.writer.breathe
                )

    def _with_tools(
        self, settings: ModelSettings, tools: Tools | None, live: LiveRun
    ) -> ModelSettings:
        if not tools:
            return settings
        functions = (tool.as_function() for tool in tools.values())
        settings = replace(settings, tools=(*settings.tools, *functions))
        if count_rounds(live.answer.parts) < self.rounds_max:
            return settings
        return replace(settings, tool_choice="none")


def _servers(live: LiveRun) -> Sequence[str]:
    return live.held.settings.get("mcp", ())


def _split(live: LiveRun) -> tuple[Sequence[Part], Sequence[Part]]:
    """Return what of the answer stays in any case, and the rest; see `calls.split`."""
    parts = live.answer.parts
    # Without servers, calls are the client's to make, who has not seen the end of the answer.
    return split(parts) if _servers(live) else ((), parts)


def _called(call: ToolCall, call_id: str, live: LiveRun, tools: Tools | None) -> ToolCall:
    """Return a model's call with its id here, who makes it, and whether the user is asked first."""
    server = server_of(call.name)
    tool = tools.get(call.name) if tools else None
    asks = tool is not None and tool.approval is Approval.ASK
    return replace(
        call,
        call_id=call_id,
        server=server if server in _servers(live) else None,
        approval="ask" if asks else None,
    )


def _for_the_rest(settings: ModelSettings, live: LiveRun) -> ModelSettings:
    """Return the settings for what is left of an answer that is continued."""
    if settings.max_tokens is None:
        return settings
    # An event is at least one token; how many more it was, nobody noted.
    said = len(live.answer.marks)
    return replace(settings, max_tokens=max(1, settings.max_tokens - said))
