"""A run's events as chunks."""

import json
from dataclasses import replace
from typing import Any

from openai.types.chat import ChatCompletionChunk

from tertulia.dialects.openai.chat.chunks import DONE, Chunks
from tertulia.dialects.openai.chat.completion import Asked
from tertulia.domain.models import Usage
from tertulia.domain.runs import EventKind, RunEvent, RunStatus
from tests.dialects.openai.chat.test_failures import RUN

COMPLETED = replace(RUN, status=RunStatus.COMPLETED, finish_reason="stop", usage=Usage(3, 4, 2, 1))


def chunks(*, functions: bool = False, includes_usage: bool = False) -> Chunks:
    asked = Asked("m", functions=functions, is_stored=False)
    return Chunks(RUN, asked, includes_usage=includes_usage)


def event(kind: EventKind, **data: Any) -> RunEvent:  # noqa: ANN401  whatever an event has
    return RunEvent(1, kind, data)


def read(told: list[bytes]) -> list[ChatCompletionChunk]:
    """Return what the SDK's types say it is."""
    return [ChatCompletionChunk.model_validate_json(each, strict=True) for each in told]


def text(delta: str) -> RunEvent:
    return event(EventKind.TEXT, delta=delta)


def call(call_id: str) -> RunEvent:
    return event(EventKind.TOOL_CALL, call_id=call_id, name="f", arguments="{}")


def test_the_first_words_are_preceded_by_who_says_them() -> None:
    stream = chunks()

    first = read(stream.hear(text("Hé\n\"'")))
    second = read(stream.hear(text("llo")))

    assert [chunk.choices[0].delta.role for chunk in first] == ["assistant", None]
    assert [chunk.choices[0].delta.content for chunk in first + second] == ["", "Hé\n\"'", "llo"]


def test_an_answer_without_a_word_has_a_role_and_an_end() -> None:
    *told, done = chunks().end(COMPLETED)

    assert done == DONE
    assert [chunk.choices[0].finish_reason for chunk in read(told)] == [None, "stop"]


def test_nobody_is_told_the_usage_unasked() -> None:
    *told, _ = chunks().end(COMPLETED)

    assert all("usage" not in json.loads(each) for each in told)


def test_the_usage_is_announced_and_comes_last() -> None:
    *told, last, _ = chunks(includes_usage=True).end(COMPLETED)

    assert all(json.loads(each)["usage"] is None for each in told)
    (chunk,) = read([last])
    assert chunk.choices == []
    assert chunk.usage is not None
    assert (chunk.usage.prompt_tokens, chunk.usage.completion_tokens) == (3, 4)
    assert chunk.usage.prompt_tokens_details is not None
    assert chunk.usage.prompt_tokens_details.cached_tokens == 2
    assert chunk.usage.completion_tokens_details is not None
    assert chunk.usage.completion_tokens_details.reasoning_tokens == 1


def test_calls_are_counted() -> None:
    stream = chunks()

    told = read(stream.hear(call("a")) + stream.hear(call("b")))

    calls = [each for chunk in told for each in chunk.choices[0].delta.tool_calls or ()]
    assert [(each.index, each.id) for each in calls] == [(0, "a"), (1, "b")]


def test_of_functions_only_the_first_is_called() -> None:
    stream = chunks(functions=True)

    told = read(stream.hear(call("a")) + stream.hear(call("b")))
    end = read(stream.end(replace(COMPLETED, finish_reason="tool_calls"))[:-1])

    assert [chunk.choices[0].delta.function_call is not None for chunk in told] == [False, True]
    assert [chunk.choices[0].finish_reason for chunk in end] == ["function_call"]


def test_a_new_beginning_matters_once_something_was_shown() -> None:
    stream = chunks()
    restart = event(EventKind.RESTART, attempt=2)

    assert stream.hear(restart) == []
    stream.hear(text("Hello"))
    (last,) = stream.hear(restart)
    assert json.loads(last)["error"]["code"] == "answer_restarted"
    assert stream.is_over
