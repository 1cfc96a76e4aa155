"""A run as a chat completion."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from tertulia.dialects.openai.ids import completion_id
from tertulia.domain.models import Usage
from tertulia.domain.parts import Part, ReasoningPart, ToolCallPart, text_of
from tertulia.domain.runs import Run
from tertulia.runs.settings import echo_in

SERVICE_TIER = "default"
_ECHO = "chat"
LABEL = "chat"
"""Of the runs that are stored completions."""
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Asked(NamedTuple):
    """What a completion repeats of its request."""

    model: str
    """As it was asked for."""
    functions: bool
    """Whether tools were called functions, as in the protocol's first year."""
    is_stored: bool
    """Whether it can be asked for later."""

    @classmethod
    def of(cls, run: Run) -> "Asked | None":
        """Return what a run was asked with; None if it answers no chat request."""
        echo = echo_in(run.settings).get(_ECHO)
        return None if echo is None else cls(**echo)

    def echo(self) -> dict[str, Any]:
        """Return what a run keeps of it."""
        # `store` is what responses look at: they are not to show what was not to be stored.
        return {_ECHO: self._asdict(), "store": self.is_stored}


class CalledFunction(BaseModel):
    """A function, and what it is called with."""

    name: str
    arguments: str


class ToolCallResponse(BaseModel):
    """A tool call."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AnswerResponse(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    annotations: list[Any] = []
    reasoning_content: str | None = None
    tool_calls: list[ToolCallResponse] | None = None
    function_call: CalledFunction | None = None


class ChoiceResponse(BaseModel):
    """The only choice."""

    index: int = 0
    message: AnswerResponse
    logprobs: None = None
    finish_reason: FinishReason


class CompletionResponse(BaseModel):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChoiceResponse]
    usage: dict[str, Any]
    service_tier: str = SERVICE_TIER
    system_fingerprint: str | None = None
    metadata: dict[str, str] | None = None


_LEFT_OUT = ("reasoning_content", "tool_calls", "function_call")
"""What an answer has only if there is some."""


def completion_of(
    run: Run, parts: Sequence[Part], asked: Asked, *, metadata: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return a run that has ended well.

    Args:
        run: The run.
        parts: What it said.
        asked: What it was asked with.
        metadata: Its owner's notes; None if it is not stored.
    """
    answer = answer_of(parts, functions=asked.functions)
    completion = CompletionResponse(
        id=completion_id(run.id),
        created=created_s(run),
        model=asked.model,
        choices=[
            ChoiceResponse(
                message=answer, finish_reason=finish_reason_of(run, functions=asked.functions)
            )
        ],
        usage=usage_of(run.usage),
        metadata=metadata,
    )
    content = completion.model_dump()
    message = content["choices"][0]["message"]
    for name in _LEFT_OUT:
        if message[name] is None:
            del message[name]
    if metadata is None:
        del content["metadata"]
    return content


def answer_of(parts: Sequence[Part], *, functions: bool) -> AnswerResponse:
    """Return what was said; `content` is null where there are calls and no words."""
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    reasoning = "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    answer = AnswerResponse(
        content=text_of(parts) or (None if calls else ""), reasoning_content=reasoning or None
    )
    called = [CalledFunction(name=call.name, arguments=call.arguments) for call in calls]
    if functions:
        answer.function_call = called[0] if called else None
    elif calls:
        answer.tool_calls = [
            ToolCallResponse(id=call.call_id, function=function)
            for call, function in zip(calls, called, strict=True)
        ]
    return answer


def finish_reason_of(run: Run, *, functions: bool) -> FinishReason:
    """Return why an answer ended, in this protocol's words."""
    match run.finish_reason:
        case "tool_calls" if functions:
            return "function_call"
        case "length" | "tool_calls" | "content_filter" as reason:
            return reason
        case _:
            return "stop"


def usage_of(usage: Usage | None) -> dict[str, Any]:
    """Return what an answer cost; zero where nobody said."""
    usage = usage or Usage()
    asked, answered = usage.prompt_tokens or 0, usage.response_tokens or 0
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens or 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def created_s(run: Run) -> int:
    """Return when it was asked for, in seconds since 1970."""
    return int(run.created_at.timestamp())
