"""A run's events as the events of a response's stream.

The same run gives the same events with the same numbers, whoever asks, when and where: they are
made of the run's own events alone, from the first on. So `starting_after` is good for ever.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tertulia.dialects.openai.ids import item_id
from tertulia.dialects.openai.items import COMPLETED, IN_PROGRESS, INCOMPLETE, Item, item
from tertulia.dialects.openai.items import output_text as words_of
from tertulia.dialects.openai.responses.object import (
    begun,
    decided_calls,
    echo_of,
    final_event_of,
    finished,
    last_status_of,
    requests_of,
)
from tertulia.domain.conversations import Role
from tertulia.domain.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from tertulia.domain.runs import EventKind, Run, RunEvent
from tertulia.runs.follower import Followed
from tertulia.runs.live import RunEnded

Event: TypeAlias = dict[str, Any]

_EVENTS_EACH_MAX = 8
"""So many events of the stream one event of a run makes, at most: it closes an item (3), opens one
(2) and says it whole (3)."""


@dataclass(slots=True)
class _Open:
    """An item that is being said."""

    kind: EventKind
    number: int
    fragments: list[str]

    def part(self) -> TextPart | ReasoningPart:
        text = "".join(self.fragments)
        return TextPart(text) if self.kind is EventKind.TEXT else ReasoningPart(text)


@dataclass(slots=True)
class ResponseEvents:
    """Makes the events of one response's stream; feed it all that the run has, from the start."""

    run: Run
    _sequence: int = 0
    _open: _Open | None = None
    _output: dict[int, Item] = field(default_factory=dict[int, Item])
    """The items that are whole, by their place."""
    _begun: int = 0
    """How many items there are."""
    _calls: dict[str, tuple[int, ToolCallPart]] = field(
        default_factory=dict[str, tuple[int, ToolCallPart]]
    )
    """Calls that this server makes and whose result is still to come, and their places."""
    _decided: Mapping[str, ToolCallPart] = field(init=False)
    """Calls of an earlier answer that this run was told to make, or not to."""

    def __post_init__(self) -> None:
        self._decided = decided_calls(self.run)

    def begin(self) -> list[Event]:
        """Return the events that come before anything is said."""
        if echo_of(self.run).get("background"):
            steps = (("created", "queued"), ("queued", "queued"), ("in_progress", IN_PROGRESS))
        else:
            steps = (("created", IN_PROGRESS), ("in_progress", IN_PROGRESS))
        return [
            self._event(f"response.{step}", response=begun(self.run, status=status))
            for step, status in steps
        ]

    def hear(self, event: RunEvent) -> list[Event]:
        """Return what the next event of the run becomes."""
        match event.kind:
            case EventKind.TEXT | EventKind.REASONING:
                return self._say(event.kind, event.data["delta"])
            case EventKind.TOOL_CALL:
                call = ToolCallPart(**event.data)
                return [*self._close(COMPLETED), *self._any_call(call)]
            case EventKind.TOOL_RESULT if event.data["call_id"] in self._calls:
                return [*self._close(COMPLETED), *self._result(ToolResultPart(**event.data))]
            case EventKind.TOOL_RESULT if event.data["call_id"] in self._decided:
                result = ToolResultPart(**event.data)
                begun_call = self._own_call(self._decided[result.call_id])
                return [*self._close(COMPLETED), *begun_call, *self._result(result)]
            case EventKind.RESTART:
                return self._restart(event)
            case EventKind.TOOL_RESULT | EventKind.DONE:
                return self._close(COMPLETED)

    def end(self, ended: RunEnded) -> list[Event]:
        """Return the last events."""
        closing = self._close(last_status_of(ended.run))
        for number, call in self._calls.values():
            closing += self._done(number, [call], INCOMPLETE)
        response = finished(ended.run, [self._output[place] for place in sorted(self._output)])
        return [*closing, self._event(final_event_of(ended.run), response=response)]

    def _event(self, kind: str, **fields: Any) -> Event:  # noqa: ANN401  whatever the event says
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event

    def _say(self, kind: EventKind, delta: str) -> list[Event]:
        events: list[Event] = []
        if self._open is None or self._open.kind is not kind:
            events += self._close(COMPLETED)
            events += self._begin_words(kind)
        said = self._open
        assert said is not None, "an item has just been opened"
        said.fragments.append(delta)
        place = self._place(said.number, "msg" if kind is EventKind.TEXT else "rs")
        if kind is EventKind.TEXT:
            events.append(
                self._event(
                    "response.output_text.delta",
                    **place,
                    content_index=0,
                    delta=delta,
                    logprobs=[],
                )
            )
        else:
            events.append(
                self._event(
                    "response.reasoning_summary_text.delta",
                    **place,
                    summary_index=0,
                    delta=delta,
                )
            )
        return events

    def _next(self) -> int:
        """Return the place of a new item."""
        self._begun += 1
        return self._begun - 1

    def _begin_words(self, kind: EventKind) -> list[Event]:
        number = self._next()
        self._open = _Open(kind, number, [])
        shown = self._item(number, [self._open.part()], IN_PROGRESS)
        if kind is EventKind.TEXT:
            shown["content"] = []
            added = "response.content_part.added"
            place = {**self._place(number, "msg"), "content_index": 0, "part": words_of("")}
        else:
            added = "response.reasoning_summary_part.added"
            part = {"type": "summary_text", "text": ""}
            place = {**self._place(number, "rs"), "summary_index": 0, "part": part}
        return [
            self._event("response.output_item.added", output_index=number, item=shown),
            self._event(added, **place),
        ]

    def _close(self, status: str) -> list[Event]:
        said, self._open = self._open, None
        if said is None:
            return []
        part = said.part()
        if isinstance(part, TextPart):
            place = {**self._place(said.number, "msg"), "content_index": 0}
            done = self._event("response.output_text.done", **place, text=part.text, logprobs=[])
            part_done = self._event("response.content_part.done", **place, part=words_of(part.text))
        else:
            place = {**self._place(said.number, "rs"), "summary_index": 0}
            done = self._event("response.reasoning_summary_text.done", **place, text=part.text)
            told = {"type": "summary_text", "text": part.text}
            part_done = self._event("response.reasoning_summary_part.done", **place, part=told)
        return [done, part_done, *self._done(said.number, [part], status)]

    def _any_call(self, call: ToolCallPart) -> list[Event]:
        if call.server is None:
            return self._call(call)
        return self._own_call(call) if call.approval is None else self._request(call)

    def _request(self, call: ToolCallPart) -> list[Event]:
        """Return how the user is asked whether a call may be made."""
        number = self._next()
        shown = self._item(number, [call], COMPLETED)
        added = self._event("response.output_item.added", output_index=number, item=shown)
        return [added, *self._done(number, [call], COMPLETED)]

    def _own_call(self, call: ToolCallPart) -> list[Event]:
        number = self._next()
        self._calls[call.call_id] = (number, call)
        place = self._place(number, "mcp")
        begun_call = {**self._item(number, [call], IN_PROGRESS), "arguments": ""}
        asked = call.arguments
        return [
            self._event("response.output_item.added", output_index=number, item=begun_call),
            self._event("response.mcp_call.in_progress", **place),
            self._event("response.mcp_call_arguments.delta", **place, delta=asked),
            self._event("response.mcp_call_arguments.done", **place, arguments=asked),
        ]

    def _result(self, result: ToolResultPart) -> list[Event]:
        number, call = self._calls.pop(result.call_id)
        told = self._event("response.mcp_call.completed", **self._place(number, "mcp"))
        return [told, *self._done(number, [call, result], COMPLETED)]

    def _call(self, call: ToolCallPart) -> list[Event]:
        number = self._next()
        place = self._place(number, "fc")
        begun_call = {**self._item(number, [call], IN_PROGRESS), "arguments": ""}
        return [
            self._event("response.output_item.added", output_index=number, item=begun_call),
            self._event("response.function_call_arguments.delta", **place, delta=call.arguments),
            self._event(
                "response.function_call_arguments.done",
                **place,
                name=call.name,
                arguments=call.arguments,
            ),
            *self._done(number, [call], COMPLETED),
        ]

    def _done(self, number: int, parts: Sequence[Part], status: str) -> list[Event]:
        whole = self._item(number, parts, status)
        self._output[number] = whole
        return [self._event("response.output_item.done", output_index=number, item=whole)]

    def _restart(self, event: RunEvent) -> list[Event]:
        """Forget what was said, and begin again at the first item.

        The numbers go on behind any that the forgotten events can have had: who comes later, when
        those are gone, counts the same.
        """
        closing = self._close(INCOMPLETE)
        self._output.clear()
        self._calls.clear()
        self._begun = 0
        self._sequence = _EVENTS_EACH_MAX * (event.seq + 1)
        return closing

    def _item(self, number: int, parts: Sequence[Part], status: str) -> Item:
        return item(
            self.run.message_id,
            number,
            parts,
            role=Role.ASSISTANT,
            status=status,
            requests=requests_of(self.run),
        )

    def _place(self, number: int, prefix: str) -> dict[str, Any]:
        name = item_id(prefix, self.run.message_id, number)
        return {"item_id": name, "output_index": number}


async def response_events(
    run: Run, followed: AsyncGenerator[Followed, None], *, after: int | None = None
) -> AsyncGenerator[Event, None]:
    """Yield the events of a response's stream that are numbered above `after`."""
    events = ResponseEvents(run)
    first = -1 if after is None else after
    async with aclosing(followed):
        for event in events.begin():
            if event["sequence_number"] > first:
                yield event
        async for item in followed:
            for event in _told(events, item):
                if event["sequence_number"] > first:
                    yield event


def _told(events: ResponseEvents, item: Followed) -> list[Event]:
    match item:
        case RunEvent():
            return events.hear(item)
        case RunEnded():
            return events.end(item)
        case _:
            # The stream ends; its reader asks again with `starting_after`.
            return []
