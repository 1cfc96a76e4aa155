"""AG-UI 1.0's side of a stream: which events may follow which, and the messages they make."""

import json
from typing import Any

from tests.kit.provider_script import Json

REQUIRED: dict[str, set[str]] = {
    "RUN_STARTED": {"threadId", "runId"},
    "RUN_FINISHED": {"threadId", "runId"},
    "RUN_ERROR": {"message"},
    "TEXT_MESSAGE_START": {"messageId", "role"},
    "TEXT_MESSAGE_CONTENT": {"messageId", "delta"},
    "TEXT_MESSAGE_END": {"messageId"},
    "REASONING_START": {"messageId"},
    "REASONING_MESSAGE_START": {"messageId", "role"},
    "REASONING_MESSAGE_CONTENT": {"messageId", "delta"},
    "REASONING_MESSAGE_END": {"messageId"},
    "REASONING_END": {"messageId"},
    "TOOL_CALL_START": {"toolCallId", "toolCallName", "parentMessageId"},
    "TOOL_CALL_ARGS": {"toolCallId", "delta"},
    "TOOL_CALL_END": {"toolCallId"},
    "TOOL_CALL_RESULT": {"messageId", "toolCallId", "content"},
    "MESSAGES_SNAPSHOT": {"messages"},
}
_OPENED = ("TEXT_MESSAGE", "REASONING_MESSAGE", "REASONING", "TOOL_CALL")
_ENDS = ("RUN_FINISHED", "RUN_ERROR")


def events_of(body: str) -> list[Json]:
    """Return the events of a whole stream, in an order that a client takes."""
    frames = [frame for frame in body.split("\n\n") if frame.startswith("data: ")]
    return verified([json.loads(frame.removeprefix("data: ")) for frame in frames])


def verified(events: list[Json]) -> list[Json]:
    """Return the events of one run; each is whole, begun before it goes on, and ended."""
    assert events[0]["type"] == "RUN_STARTED"
    assert [event["type"] in _ENDS for event in events] == [False] * (len(events) - 1) + [True]
    opened: set[tuple[str, str]] = set()
    for event in events:
        assert REQUIRED[event["type"]] <= set(event), event
        assert None not in event.values(), event
        kind, _, step = event["type"].rpartition("_")
        if kind not in _OPENED or step == "RESULT":
            continue
        thing = (kind, event["toolCallId" if kind == "TOOL_CALL" else "messageId"])
        if step == "START":
            assert thing not in opened, event
            opened.add(thing)
        else:
            assert thing in opened, event
            if step == "END":
                opened.remove(thing)
    assert not opened, opened
    return events


def read(events: list[Json], told: list[Json] | None = None) -> list[Json]:
    """Return the messages that a client has after these events."""
    messages: dict[str, Json] = {message["id"]: message for message in told or []}
    calls: dict[str, Json] = {}
    for event in events:
        kind = event["type"]
        if kind in ("TEXT_MESSAGE_START", "REASONING_MESSAGE_START"):
            new = {"id": event["messageId"], "role": event["role"], "content": ""}
            messages.setdefault(event["messageId"], new)
        elif kind in ("TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT"):
            message = messages[event["messageId"]]
            message["content"] = message.get("content", "") + event["delta"]
        elif kind == "TOOL_CALL_START":
            parent = event["parentMessageId"]
            message = messages.setdefault(parent, {"id": parent, "role": "assistant"})
            call = {"name": event["toolCallName"], "arguments": ""}
            calls[event["toolCallId"]] = call
            made = {"id": event["toolCallId"], "type": "function", "function": call}
            message.setdefault("toolCalls", []).append(made)
        elif kind == "TOOL_CALL_ARGS":
            calls[event["toolCallId"]]["arguments"] += event["delta"]
        elif kind == "TOOL_CALL_RESULT":
            result = {name: event[name] for name in ("toolCallId", "content")}
            name = event["messageId"]
            messages[name] = {"id": name, "role": "tool", **result}
        elif kind == "MESSAGES_SNAPSHOT":
            messages = {message["id"]: dict(message) for message in event["messages"]}
    return list(messages.values())


def says(text: str, name: str = "u1", role: str = "user", **more: Any) -> Json:  # noqa: ANN401  JSON
    return {"id": name, "role": role, "content": text, **more}
