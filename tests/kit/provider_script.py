"""What a scripted answer of a language model is made of; pure, `scripted_provider` acts it out."""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

DEFAULT_TEXT = (
    "A tertulia is a gathering of people who meet, often in the same café and at the same hour, "
    "to talk about whatever they care for: books, politics, music, bulls. Nobody takes minutes, "
    "and yet nothing that was said there is ever quite lost."
)
PROMPT_TOKENS = 12
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Script:
    """What one answer does. Positions (`…_at`, `…_after`) count chunks of text from 0."""

    text: str = DEFAULT_TEXT
    chunks: int | None = None
    """How many pieces the text is cut into; None cuts at words."""
    repeat: int = 1
    """How many times the text is said."""
    clock: bool = False
    """Say the time (seconds since the epoch, and a space) instead of each piece."""
    pace_ms: float = 0
    first_byte_delay_ms: float = 0
    accept_stall: bool = False
    """Take the request and send not even a status."""
    status: int = 200
    retry_after: str | float | None = None
    error_body: str | None = None
    fail_times: int | None = None
    """How many calls of this model get the fault; None: all. Later ones get the text."""
    cut_after: int | None = None
    """Reset the connection after so many chunks; -1 before the status line."""
    eof_after: int | None = None
    """End the stream in order after so many chunks."""
    stall_after: int | None = None
    malformed_at: int | None = None
    error_at: int | None = None
    error_message: str = "The model burned down"
    double_chunk_at: int | None = None
    raw_at: int | None = None
    raw: str = ""
    """A JSON text sent as it is, at `raw_at`."""
    huge_chunk: int | None = None
    """The size in bytes of a first chunk that is one long line."""
    html: bool = False
    json_document: bool = False
    """Answer with a whole completion although a stream was asked for."""
    no_finish: bool = False
    no_done: bool = False
    linger: bool = False
    """Keep the connection open after the last chunk."""
    endless: bool = False
    empty: bool = False
    wrong_types: bool = False
    tool_calls: list[Json] = field(default_factory=list[Json])
    """Each with `name` and `arguments` (a string), and perhaps `id`."""
    then: list[Json] = field(default_factory=list[Json])
    """The scripts of what follows when it is asked again with the calls' results; the last of them
    also for all that comes later. Without any it says the same again."""
    tool_garbage: bool = False
    tool_nameless: bool = False
    content_filter: bool = False
    finish_reason: str | None = None
    usage: Json | None = field(default_factory=lambda: {"prompt_tokens": PROMPT_TOKENS})
    """None leaves it out. What it says wins over what was counted."""
    reasoning: str = ""
    split_utf8: bool = False
    """Send the stream byte by byte."""
    line_end: str = "\n"
    embeddings: Json | None = None
    """A reply to a request for embeddings, instead of the true one."""
    numbers_only: bool = False
    """Embeddings come as numbers though base64 was asked for."""


def script_of(fields: Json, messages: list[Json]) -> Script:
    """Return the script of the answer to these messages."""
    script = Script(**fields)
    since = len(messages) - next(
        (at for at, m in enumerate(reversed(messages)) if m.get("role") == "user"), 0
    )
    rounds = sum(message.get("role") == "assistant" for message in messages[since:])
    if not rounds or not script.then:
        return script
    return Script(**script.then[min(rounds, len(script.then)) - 1])


def said(script: Script) -> Iterator[str]:
    """Yield the pieces of text that a stream says, without end if the script has none."""
    if script.empty:
        return
    all_pieces = pieces(script)
    while True:
        yield from all_pieces
        if not script.endless:
            return


def pieces(script: Script) -> list[str]:
    """Return the whole text, cut as the script wants it."""
    has_calls = bool(script.tool_calls) or script.tool_garbage or script.tool_nameless
    silent = has_calls or script.content_filter
    if silent and script.text == DEFAULT_TEXT:
        return []
    text = script.text * script.repeat
    if script.chunks is None:
        return cut_at_words(text)
    size = max(1, -(-len(text) // script.chunks))
    return [text[at : at + size] for at in range(0, len(text), size)]


def rest_of(script: Script, prefix: str) -> Script:
    """Return the script of what follows when a server is asked to go on from `prefix`.

    Raises:
        ValueError: The prefix is not how this answer begins.
    """
    text = script.text * script.repeat
    if not text.startswith(prefix):
        raise ValueError("The prefix is not the beginning of the answer")
    rest = text[len(prefix) :]
    chunks = script.chunks and max(1, script.chunks * len(rest) // max(1, len(text)))
    return replace(script, text=rest, repeat=1, chunks=chunks)


def cut_at_words(text: str) -> list[str]:
    """Return the words, each but the first with the space before it."""
    words = text.split(" ")
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)] if text else []


def finish_reason(script: Script) -> str:
    """Return why the answer ends."""
    if script.finish_reason is not None:
        return script.finish_reason
    if script.content_filter:
        return "content_filter"
    return "tool_calls" if script.tool_calls or script.tool_garbage else "stop"


def whole_completion(model: str, script: Script) -> Json:
    """Return the answer as one document."""
    all_pieces = pieces(script)
    message = {"role": "assistant", "content": "".join(all_pieces)}
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(script)}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": len(all_pieces),
            "total_tokens": PROMPT_TOKENS + len(all_pieces),
        },
    }


def whole_embeddings(body: Json, script: Script) -> Json:
    """Return a vector for each of a list of inputs: `embedding_of` it."""
    if script.embeddings is not None:
        return script.embeddings
    inputs: list[Any] = body["input"]
    vectors = [embedding_of(each, body.get("dimensions") or 3) for each in inputs]
    if body.get("encoding_format") == "base64" and not script.numbers_only:
        packed = [struct.pack(f"<{len(vector)}f", *vector) for vector in vectors]
        data: list[Any] = [base64.b64encode(each).decode() for each in packed]
    else:
        data = vectors
    items = [
        {"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(data)
    ]
    usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
    # In no order: the index says whose each is.
    return {"object": "list", "data": items[::-1], "model": body["model"], "usage": usage}


def embedding_of(each: str | list[int], dimensions: int = 3) -> list[float]:
    """Return a vector that tells inputs of different lengths apart; exact in 32 bits."""
    return [len(each) + at / 4 for at in range(dimensions)]
