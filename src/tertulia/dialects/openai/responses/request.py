"""What `POST /v1/responses` takes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
)

from tertulia.dialects.openai.input_items import Input, words_or_list
from tertulia.domain.errors import Invalid
from tertulia.domain.models import ModelSettings

METADATA_MAX = 16
_LOGPROBS = "message.output_text.logprobs"
_NO_LOGPROBS = "Log probabilities are not kept here"
_NO_SUCH_FUNCTION = "No such function is among those that were sent"
_CHOICE = "body.tool_choice"
_TOOLS_MAX = 128

ModelName = Annotated[StrictStr, Field(min_length=1, max_length=200)]
ResponseId = Annotated[StrictStr, Field(min_length=1, max_length=200)]
Metadata = Annotated[
    dict[
        Annotated[StrictStr, Field(min_length=1, max_length=64)],
        Annotated[StrictStr, Field(max_length=512)],
    ],
    Field(max_length=METADATA_MAX),
]
Key = Annotated[StrictStr, Field(max_length=512)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _type_in(value: object) -> object:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).get("type")
    return getattr(value, "type", None)


class FunctionTool(BaseModel):
    """A function that the model may ask for. What else it has is not for us."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function"]
    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[StrictStr, Field(max_length=20_000)] | None = None
    parameters: dict[str, Any] | None = None
    strict: StrictBool | None = None

    def echoed(self) -> dict[str, Any]:
        """Return it as a response says it."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": self.strict,
        }

    def for_model(self) -> dict[str, Any]:
        """Return it as chat completions have it."""
        function = {name: value for name, value in self.echoed().items() if value is not None}
        del function["type"]
        return {"type": "function", "function": function}


class McpTool(BaseModel):
    """The tools of an MCP server that the operator has configured."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["mcp"]
    server_label: Annotated[StrictStr, Field(min_length=1, max_length=64)]
    server_url: None = Field(None, description="Servers are the operator's to name.")
    connector_id: None = None
    authorization: None = None
    headers: None = None
    allowed_tools: None = None

    def echoed(self) -> dict[str, Any]:
        """Return it as a response says it."""
        return {"type": "mcp", "server_label": self.server_label}


class HostedTool(BaseModel):
    """A tool that another server would run."""

    model_config = ConfigDict(extra="allow")

    type: StrictStr


def _tool(value: object) -> str:
    kind = _type_in(value)
    return f"({kind})" if kind in ("function", "mcp") else "(hosted)"


AnyTool = Annotated[
    Annotated[FunctionTool, Tag("(function)")]
    | Annotated[McpTool, Tag("(mcp)")]
    | Annotated[HostedTool, Tag("(hosted)")],
    Discriminator(_tool),
]


class NamedTool(BaseModel):
    """One of the tools."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function"]
    name: Annotated[StrictStr, Field(min_length=1, max_length=64)]


class AllowedTools(_Asked):
    """Some of the tools."""

    type: Literal["allowed_tools"]
    mode: Literal["none", "auto", "required"] = "auto"
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=_TOOLS_MAX)]


def _choice(value: object) -> str:
    return "(mode)" if isinstance(value, str) else f"({_type_in(value)})"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("(mode)")]
    | Annotated[NamedTool, Tag("(function)")]
    | Annotated[AllowedTools, Tag("(allowed_tools)")],
    Discriminator(
        _choice,
        custom_error_type="tool_choice",
        custom_error_message="Choose none, auto, required, a function, or allowed_tools",
    ),
]


class JsonSchemaFormat(BaseModel):
    """JSON as a schema has it."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["json_schema"]
    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: dict[str, Any] = Field(alias="schema")
    description: StrictStr | None = None
    strict: StrictBool | None = None


class PlainFormat(_Asked):
    """Words, or any JSON."""

    type: Literal["text", "json_object"]


class TextConfig(_Asked):
    """What the answer's words shall be like."""

    format: Annotated[JsonSchemaFormat | PlainFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(BaseModel):
    """How much the model shall think."""

    model_config = ConfigDict(extra="ignore")

    effort: Annotated[StrictStr, Field(pattern="^[a-z]{1,16}$")] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ConversationRef(_Asked):
    """A conversation, by its id."""

    id: ResponseId


class ImageConfig(BaseModel):
    """How pictures shall be read; models decide that here."""

    model_config = ConfigDict(extra="ignore")


class StreamOptions(_Asked):
    """How a stream shall be."""

    include_obfuscation: StrictBool | None = None


class ResponseSettings(_Asked):
    """How an answer shall be; the same for a response and for a turn of a WebSocket."""

    model: ModelName | None = None
    input: Input | None = None
    instructions: StrictStr | None = None
    previous_response_id: ResponseId | None = None
    conversation: (
        Annotated[
            Annotated[ResponseId, Tag("(words)")] | Annotated[ConversationRef, Tag("(list)")],
            Discriminator(words_or_list),
        ]
        | None
    ) = None
    store: StrictBool | None = None
    metadata: Metadata | None = None
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = None
    max_output_tokens: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    max_tool_calls: Annotated[StrictInt, Field(ge=1, le=1_000)] | None = None
    tools: Annotated[list[AnyTool], Field(max_length=_TOOLS_MAX)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: StrictBool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: Annotated[list[Key], Field(max_length=50)] | None = None
    user: Key | None = None
    safety_identifier: Key | None = None
    prompt_cache_key: Key | None = None
    prompt_cache_retention: Literal["in_memory", "24h", "in-memory"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: Literal["auto", "default", "flex", "priority", "fast", "ultrafast"] | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=20)] | None = None
    image: ImageConfig | None = None
    # What OpenAI runs on its own side; only its absence can be had here.
    access_programs: None = None
    background_options: None = None
    context_management: None = None
    moderation: None = None
    prompt: None = None

    def functions(self) -> list[FunctionTool]:
        """Return the tools that the model may ask for.

        Raises:
            Invalid: One of them is not a function.
        """
        found: list[FunctionTool] = []
        for number, tool in enumerate(self.tools or ()):
            if isinstance(tool, HostedTool):
                raise Invalid(
                    f"This server has no tool of the type {tool.type[:40]!r}",
                    field=f"body.tools[{number}].type",
                )
            if isinstance(tool, FunctionTool):
                found.append(tool)
        return found

    def servers(self) -> list[str]:
        """Return the MCP servers whose tools the model can use."""
        return [tool.server_label for tool in self.tools or () if isinstance(tool, McpTool)]

    def to_settings(self) -> ModelSettings:
        """Return what the model is to keep to.

        Raises:
            Invalid: It asks for what cannot be had here.
        """
        if self.top_logprobs:
            raise Invalid(_NO_LOGPROBS, field="body.top_logprobs")
        if _LOGPROBS in (self.include or ()):
            raise Invalid(_NO_LOGPROBS, field="body.include")
        functions, choice = self._allowed(self.functions()), self._choice()
        text, reasoning = self.text or TextConfig(), self.reasoning or Reasoning()
        return ModelSettings(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_output_tokens,
            tools=tuple(tool.for_model() for tool in functions),
            tool_choice=choice,
            parallel_tool_calls=self.parallel_tool_calls,
            response_format=_response_format(text),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            reasoning_effort=reasoning.effort,
            verbosity=text.verbosity,
        )

    def echo(self) -> dict[str, Any]:
        """Return what the response says of this request beside its model and its output."""
        given: dict[str, Any] = {
            name: value for name in _ECHOED if (value := getattr(self, name)) is not None
        }
        if self.tools:
            given["tools"] = [
                tool.echoed() for tool in self.tools if isinstance(tool, (FunctionTool, McpTool))
            ]
        if self.tool_choice is not None:
            choice = self.tool_choice
            given["tool_choice"] = choice if isinstance(choice, str) else choice.model_dump()
        if self.text is not None:
            given["text"] = _echoed_text(self.text)
        if self.reasoning is not None:
            summary = self.reasoning.summary or self.reasoning.generate_summary
            given["reasoning"] = {"effort": self.reasoning.effort, "summary": summary}
        return given

    def _allowed(self, functions: list[FunctionTool]) -> list[FunctionTool]:
        """Return the functions that the choice leaves.

        Raises:
            Invalid: It names one that was not sent, or demands a tool where there is none.
        """
        names = {tool.name for tool in functions}
        chosen, named = self.tool_choice, set[str]()
        if isinstance(chosen, AllowedTools):
            named = {tool.name for tool in chosen.tools}
            functions = [tool for tool in functions if tool.name in named]
        elif isinstance(chosen, NamedTool):
            named = {chosen.name}
        if not named <= names:
            raise Invalid(_NO_SUCH_FUNCTION, field=_CHOICE)
        if chosen == "required" and not functions and not self.servers():
            raise Invalid("There is no tool to choose", field=_CHOICE)
        return functions

    def _choice(self) -> str | Mapping[str, Any] | None:
        match self.tool_choice:
            case NamedTool(name=name):
                return {"type": "function", "function": {"name": name}}
            case AllowedTools(mode=mode):
                return mode
            case choice:
                return choice


class ResponseCreate(ResponseSettings):
    """The body of `POST /v1/responses`."""

    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    background: StrictBool | None = None


class ResponseTurn(ResponseSettings):
    """What starts a turn of a WebSocket."""

    type: Literal["response.create"]
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    stream_id: Key | None = None
    generate: StrictBool | None = None
    background: Literal[False] | None = None


_ECHOED = (
    "model",
    "instructions",
    "previous_response_id",
    "store",
    "metadata",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "truncation",
    "user",
    "safety_identifier",
    "prompt_cache_key",
)


def _response_format(text: TextConfig) -> Mapping[str, Any] | None:
    match text.format:
        case JsonSchemaFormat() as wanted:
            schema = wanted.model_dump(by_alias=True, exclude={"type"}, exclude_none=True)
            return {"type": "json_schema", "json_schema": schema}
        case PlainFormat(type="json_object"):
            return {"type": "json_object"}
        case _:
            return None


def _echoed_text(text: TextConfig) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": "text"}
    if isinstance(text.format, JsonSchemaFormat):
        shape = {"description": None, "strict": None, **text.format.model_dump(by_alias=True)}
    elif text.format is not None:
        shape = {"type": text.format.type}
    return {"format": shape, "verbosity": text.verbosity or "medium"}
