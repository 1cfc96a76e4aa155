"""AI SDK UI's side of a stream, as version 7 has it: what chunks may be, and what they make."""

import json
from typing import Any

from tests.kit.person import Person
from tests.kit.provider_script import Json

# Required fields, and those that may be there besides.
SHAPES: dict[str, tuple[set[str], set[str]]] = {
    "start": (set(), {"messageId", "messageMetadata"}),
    "start-step": (set(), set()),
    "reset-step": (set(), set()),
    "finish-step": (set(), set()),
    "text-start": ({"id"}, set()),
    "text-delta": ({"id", "delta"}, set()),
    "text-end": ({"id"}, set()),
    "reasoning-start": ({"id"}, set()),
    "reasoning-delta": ({"id", "delta"}, set()),
    "reasoning-end": ({"id"}, set()),
    "tool-input-start": ({"toolCallId", "toolName"}, {"providerExecuted"}),
    "tool-input-available": ({"toolCallId", "toolName", "input"}, {"providerExecuted"}),
    "tool-input-error": (
        {"toolCallId", "toolName", "input", "errorText"},
        {"providerExecuted"},
    ),
    "tool-approval-request": ({"approvalId", "toolCallId"}, set()),
    "tool-output-available": ({"toolCallId", "output"}, {"providerExecuted"}),
    "message-metadata": ({"messageMetadata"}, set()),
    "error": ({"errorText"}, set()),
    "abort": (set(), {"reason"}),
    "finish": (set(), {"finishReason", "messageMetadata"}),
}
FINISH_REASONS = {"stop", "length", "content-filter", "tool-calls", "error", "other"}
PROTOCOL = "x-vercel-ai-ui-message-stream"


def checked(chunk: Json) -> Json:
    """Return a chunk that the SDK would take."""
    required, optional = SHAPES[chunk["type"]]
    fields = set(chunk) - {"type"}
    assert required <= fields <= required | optional, chunk
    for name in fields & {"id", "delta", "toolCallId", "toolName", "errorText", "messageId"}:
        assert isinstance(chunk[name], str), chunk
    if chunk["type"] == "finish":
        assert chunk["finishReason"] in FINISH_REASONS
    return chunk


def chunks_of(body: str) -> list[Json]:
    """Return the chunks of a whole stream."""
    frames = [frame for frame in body.split("\n\n") if frame.startswith("data: ")]
    assert frames[-1] == "data: [DONE]", body[-200:]
    return [checked(json.loads(frame.removeprefix("data: "))) for frame in frames[:-1]]


def read(chunks: list[Json]) -> Json:
    """Return the message that the SDK makes of the chunks: `id`, `metadata`, `parts`."""
    message: Json = {"id": None, "metadata": {}, "parts": []}
    parts: list[Json] = message["parts"]
    written: dict[str, Json] = {}
    calls: dict[str, Json] = {}
    for chunk in chunks:
        kind = chunk["type"]
        message["metadata"] |= chunk.get("messageMetadata", {})
        match kind.split("-"):
            case ["start"]:
                message["id"] = chunk["messageId"]
            case ["start", "step"]:
                parts.append({"type": "step-start"})
            case ["reset", "step"]:
                while parts[-1] != {"type": "step-start"}:
                    parts.pop()
                written.clear()
            case [name, "start"]:
                written[chunk["id"]] = {"type": name, "text": "", "state": "streaming"}
                parts.append(written[chunk["id"]])
            case [_, "delta"]:
                written[chunk["id"]]["text"] += chunk["delta"]
            case [_, "end"]:
                written.pop(chunk["id"])["state"] = "done"
            case ["tool", *step]:
                _hear_tool(chunk, "-".join(step), parts, calls)
            case _:
                pass
    return message


def _hear_tool(chunk: Json, step: str, parts: list[Json], calls: dict[str, Json]) -> None:
    if step == "input-start":
        call = {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}
        calls[chunk["toolCallId"]] = call
        parts.append(call)
    call = calls[chunk["toolCallId"]]
    told = {name: chunk[name] for name in ("input", "output", "errorText") if name in chunk}
    if "providerExecuted" in chunk:
        told["providerExecuted"] = chunk["providerExecuted"]
    call.update(told)
    call["state"] = {
        "input-start": "input-streaming",
        "input-available": "input-available",
        "input-error": "output-error",
        "approval-request": "approval-requested",
        "output-available": "output-available",
    }[step]
    call.pop("approval", None)
    if step == "approval-request":
        call["approval"] = {"id": chunk["approvalId"]}


def said(text: str, name: str = "u1", role: str = "user") -> Json:
    return {"id": name, "role": role, "parts": [{"type": "text", "text": text}]}


def text_of(message: Json) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


class ChatClient:
    """One `useChat`: it keeps its messages and sends all of them each time."""

    def __init__(self, person: Person, chat_id: str, messages: list[Json] | None = None) -> None:
        self.person = person
        self.id = chat_id
        self.messages = messages or []

    async def post(self, messages: list[Json], **fields: Any) -> Any:  # noqa: ANN401  a response
        body = {"id": self.id, "messages": messages, "trigger": "submit-message", **fields}
        return await self.person.call("POST", "/ai-sdk/chat", json=body)

    async def send(self, text: str, **fields: Any) -> Json:  # noqa: ANN401  JSON
        """Say something and return the answer."""
        self.messages.append(said(text, f"{self.id}-{len(self.messages)}"))
        return await self.go_on(**fields)

    async def go_on(self, **fields: Any) -> Json:  # noqa: ANN401  JSON
        """Send what is shown and return the answer."""
        answer = await self.post(self.messages, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.headers[PROTOCOL] == "v1"
        message = {"role": "assistant", **read(chunks_of(answer.text))}
        self.messages.append(message)
        return message

    async def regenerate(self, **fields: Any) -> Json:  # noqa: ANN401  JSON
        """Have the last answer written anew."""
        self.messages.pop()
        return await self.go_on(trigger="regenerate-message", **fields)

    async def history(self, **query: Any) -> list[Json]:  # noqa: ANN401  a query
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        found = await self.person.call("GET", f"/ai-sdk/chat/{self.id}/messages?{asked}")
        assert found.status_code == 200, found.text
        return found.json()

    async def resume(self, query: str = "") -> list[Json] | None:
        """Return the chunks of a resumed stream; None if there is none."""
        found = await self.person.call("GET", f"/ai-sdk/chat/{self.id}/stream{query}")
        if found.status_code == 204:
            return None
        assert found.headers[PROTOCOL] == "v1"
        return chunks_of(found.text)
