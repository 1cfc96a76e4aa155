"""What `POST /v1/chat/completions` takes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from tertulia.conversations.schemas import Metadata
from tertulia.dialects.openai.chat.completion import LABEL, Asked
from tertulia.dialects.openai.chat.messages import MESSAGES_MAX, ChatMessage, read_messages
from tertulia.domain.conversations import NewMessage, Retention, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.models import ModelSettings
from tertulia.domain.parts import text_of
from tertulia.runs.send import Instructions, NewConversation, Send

TOOLS_MAX = 128
TOKENS_MAX = 1_000_000
_NAMED = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}
_TOOL_CHOICE = {
    "anyOf": [
        {"enum": ["none", "auto", "required"]},
        {
            "type": "object",
            "properties": {"type": {"const": "function"}, "function": _NAMED},
            "required": ["type", "function"],
        },
        {
            "type": "object",
            "properties": {
                "type": {"const": "allowed_tools"},
                "allowed_tools": {
                    "type": "object",
                    "properties": {
                        "mode": {"enum": ["auto", "required"]},
                        "tools": {"type": "array", "items": {"type": "object"}},
                    },
                    "required": ["mode", "tools"],
                },
            },
            "required": ["type", "allowed_tools"],
        },
        {"type": "null"},
    ]
}
_FUNCTION_CALL = {"anyOf": [{"enum": ["none", "auto"]}, _NAMED, {"type": "null"}]}
_TITLE_CHARS = 80
_NO_WORDS = "…"
"""The title of a conversation in which nobody says a word."""

Json: TypeAlias = dict[str, Any]
FunctionName = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Key = Annotated[StrictStr, Field(max_length=512)]
Penalty = Annotated[float, Field(ge=-2, le=2, strict=True)]
Tokens = Annotated[StrictInt, Field(ge=1, le=TOKENS_MAX)]
StopString = Annotated[StrictStr, Field(min_length=1, max_length=100)]


def _only(*allowed: object) -> AfterValidator:
    """Return what lets a field be sent as long as it asks for nothing."""

    def check(value: object) -> object:
        # By type as well: 0 is not False here.
        if value is not None and not any(
            type(value) is type(each) and value == each for each in allowed
        ):
            raise PydanticCustomError("not_supported", "This server cannot do that")
        return value

    return AfterValidator(check)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FunctionDefinition(_Asked):
    """A function that the model may ask for."""

    name: FunctionName
    description: Annotated[StrictStr, Field(max_length=20_000)] | None = None
    parameters: dict[str, Any] | None = None
    strict: StrictBool | None = None

    def for_model(self) -> dict[str, Any]:
        """Return it as a tool."""
        return {"type": "function", "function": self.model_dump(exclude_none=True)}


class FunctionTool(_Asked):
    """A tool, which can only be a function."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(BaseModel):
    """One of the functions; what else is said of it was said with the tools."""

    model_config = ConfigDict(extra="ignore")

    name: FunctionName


class NamedTool(BaseModel):
    """The same, as a tool."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(_Asked):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=TOOLS_MAX)]


class AllowedToolChoice(_Asked):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class JsonSchema(BaseModel):
    """What an answer in JSON is like."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    name: FunctionName
    description: Annotated[StrictStr, Field(max_length=20_000)] | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: StrictBool | None = None


class ResponseFormat(_Asked):
    """What the answer's words are: anything, JSON, or JSON as a schema has it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Asked):
    """What else a stream says."""

    include_usage: StrictBool | None = None
    include_obfuscation: StrictBool | None = None


class ChatCreate(_Asked):
    """What is to be answered, and how."""

    model: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MESSAGES_MAX)]
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=TOOLS_MAX)] | None = None
    # Any: pydantic's words for a union name neither of its members well.
    tool_choice: Annotated[Any, WithJsonSchema(_TOOL_CHOICE)] = None
    parallel_tool_calls: StrictBool | None = None
    functions: Annotated[list[FunctionDefinition], Field(max_length=TOOLS_MAX)] | None = Field(
        None, description="Deprecated: `tools`."
    )
    function_call: Annotated[Any, WithJsonSchema(_FUNCTION_CALL)] = Field(
        None, description="Deprecated: `tool_choice`."
    )
    response_format: ResponseFormat | None = None
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = Field(None, description="Deprecated: `max_completion_tokens`.")
    stop: Annotated[
        Annotated[list[StopString], Field(max_length=4)] | None,
        BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None),
    ] = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    verbosity: Literal["low", "medium", "high"] | None = None
    store: StrictBool | None = None
    metadata: Metadata | None = Field(None, description="Kept where the answer is (`store`).")
    n: Annotated[Any, _only(1)] = None
    # Accepted, and without effect here.
    user: Key | None = None
    safety_identifier: Key | None = None
    prompt_cache_key: Key | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = None
    prediction: dict[str, Any] | None = None
    # What nobody can do here; only its absence can be had.
    logit_bias: Annotated[Any, _only({})] = None
    logprobs: Annotated[Any, _only(False)] = None
    top_logprobs: Annotated[Any, _only(0)] = None
    modalities: Annotated[Any, _only(["text"])] = None
    audio: Annotated[Any, _only()] = None
    web_search_options: Annotated[Any, _only()] = None
    moderation: Annotated[Any, _only()] = None

    @property
    def streams(self) -> bool:
        """Whether the answer is sent as it is written."""
        return self.stream is True

    @property
    def includes_usage(self) -> bool:
        """Whether a stream says in the end what the answer cost."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    @property
    def asked(self) -> Asked:
        """What the answer repeats of this."""
        return Asked(self.model, self.functions is not None, self.store is True)

    def conversation(self) -> NewConversation:
        """Return the conversation that the messages are put in."""
        if not self.asked.is_stored:
            return NewConversation(retention=Retention.TEMPORARY)
        return NewConversation(metadata=self.metadata or {}, retention=Retention.WITH_RUNS)

    def to_send(self, *, heeds_system: bool) -> Send:
        """Return it in the service's words.

        Args:
            heeds_system: Whether `system` messages are instructions, and not a user's words.

        Raises:
            Invalid: It contradicts itself, or asks for what nobody can do here.
        """
        if self.stream_options is not None and not self.streams:
            raise Invalid("This is for streams only", field="body.stream_options")
        messages = read_messages(self.messages, field="body.messages")
        return Send(
            messages=messages,
            model_type=self.model,
            settings=self._settings(),
            instructions=Instructions(heeds_system=heeds_system),
            title=_title(messages),
            label=LABEL if self.asked.is_stored else None,
            echo=self.asked.echo(),
        )

    def _settings(self) -> ModelSettings:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise Invalid("Send max_completion_tokens alone", field="body.max_tokens")
        tools, choice = self._tools()
        return ModelSettings(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            seed=self.seed,
            stop=tuple(self.stop or ()),
            tools=tools,
            tool_choice=choice if tools else None,
            # Before there were tools, a model called one function at a time.
            parallel_tool_calls=self.parallel_tool_calls if self.functions is None else False,
            response_format=self._response_format(),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            reasoning_effort=self.reasoning_effort,
            verbosity=self.verbosity,
        )

    def _tools(self) -> tuple[tuple[Mapping[str, Any], ...], str | Mapping[str, Any] | None]:
        """Return the tools, and how the model chooses among them."""
        if self.functions is None and self.function_call is None:
            functions = [tool.function for tool in self.tools or ()]
            functions, chosen = _allowed(functions, self.tool_choice)
            mode, name = _tool_choice(chosen)
            field = "body.tool_choice"
        elif self.tools is None and self.tool_choice is None:
            functions = self.functions or []
            mode, name = _function_choice(self.function_call)
            field = "body.function_call"
        else:
            raise Invalid("Send tools and tool_choice alone", field="body.functions")
        if mode == "required" and not functions:
            raise Invalid("There is no tool to choose", field=field)
        if name is not None and all(name != each.name for each in functions):
            raise Invalid("No such function is among those that were sent", field=field)
        choice = mode if name is None else {"type": "function", "function": {"name": name}}
        return tuple(each.for_model() for each in functions), choice

    def _response_format(self) -> Mapping[str, Any] | None:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return {"type": "json_object"}
        if wanted.json_schema is None:
            raise Invalid("A schema is missing", field="body.response_format.json_schema")
        schema = wanted.json_schema.model_dump(exclude_none=True)
        return {"type": "json_schema", "json_schema": schema}


def _allowed(
    functions: Sequence[FunctionDefinition], choice: object
) -> tuple[Sequence[FunctionDefinition], object]:
    """Return the functions that a choice leaves, and how to choose among them."""
    if not isinstance(choice, dict) or cast("Json", choice).get("type") != "allowed_tools":
        return functions, cast("object", choice)
    field = "body.tool_choice"
    try:
        allowed = AllowedToolChoice.model_validate(choice).allowed_tools
    except ValidationError as error:
        wrong = "This must have a mode, auto or required, and name functions"
        raise Invalid(wrong, field=field) from error
    names = {tool.function.name for tool in allowed.tools}
    if not names <= {each.name for each in functions}:
        raise Invalid("No such function is among those that were sent", field=field)
    return [each for each in functions if each.name in names], allowed.mode


def _tool_choice(value: object) -> tuple[str | None, str | None]:
    """Return a way to choose, or the name of a function."""
    match value:
        case None:
            return None, None
        case str(mode) if mode in ("none", "auto", "required"):
            return mode, None
        case {"type": "function", "function": {"name": str(name)}}:
            return None, name
        case _:
            raise Invalid(
                "This must be none, auto, required, or name a function", field="body.tool_choice"
            )


def _function_choice(value: object) -> tuple[str | None, str | None]:
    match value:
        case None:
            return None, None
        case str(mode) if mode in ("none", "auto"):
            return mode, None
        case {"name": str(name)}:
            return None, name
        case _:
            raise Invalid("This must be none, auto, or name a function", field="body.function_call")


def _title(messages: list[NewMessage]) -> str:
    """Return the first words of the last thing that the user said."""
    said = (text_of(each.parts) for each in reversed(messages) if each.role is Role.USER)
    words = " ".join(next(said, "")[: _TITLE_CHARS * 4].split())
    if len(words) > _TITLE_CHARS:
        words = f"{words[: _TITLE_CHARS - 1].rstrip()}…"
    return words or _NO_WORDS


class ChatUpdate(_Asked):
    """What shall be different about a stored completion."""

    metadata: Metadata | None
