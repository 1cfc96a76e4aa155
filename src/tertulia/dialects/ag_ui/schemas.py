"""What AG-UI's clients send."""

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr
from pydantic.alias_generators import to_camel

from tertulia.dialects.client_ids import ID_CHARS_MAX, AddressableId
from tertulia.domain.models import ModelSettings
from tertulia.runs.schemas import McpServerName

MESSAGES_MAX = 2_000
PARTS_MAX = 500
"""Of one message."""
TOOLS_MAX = 128
CONTEXT_MAX = 50
MCP_SERVERS_MAX = 16
_TEXT_CHARS_MAX = 20_000

Id = Annotated[StrictStr, Field(min_length=1, max_length=ID_CHARS_MAX)]


class _Sent(BaseModel):
    """A thing of the protocol. What it may have besides is passed over, as the protocol wants."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)


class AgMessage(_Sent):
    """A message as clients have it."""

    # What else it holds is kept: a client may be told it again.
    model_config = ConfigDict(extra="allow")

    id: Id
    role: Literal["developer", "system", "assistant", "user", "tool", "activity", "reasoning"]
    content: StrictStr | list[Any] | dict[str, Any] | None = None
    tool_call_id: Id | None = None


class AgTool(_Sent):
    """A tool that the client runs."""

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[StrictStr, Field(max_length=_TEXT_CHARS_MAX)] = ""
    parameters: dict[str, Any] | None = None

    def for_model(self) -> dict[str, Any]:
        """Return it as chat completions have it."""
        function: dict[str, Any] = {"name": self.name, "description": self.description}
        if self.parameters is not None:
            function["parameters"] = self.parameters
        return {"type": "function", "function": function}


class AgContext(_Sent):
    """Something that the model shall know."""

    description: Annotated[StrictStr, Field(max_length=_TEXT_CHARS_MAX)]
    value: Annotated[StrictStr, Field(max_length=_TEXT_CHARS_MAX)]


class ResumeEntry(_Sent):
    """What the user says to an interrupt."""

    interrupt_id: Id
    status: Literal["resolved", "cancelled"]
    payload: Any = None

    @property
    def is_approval(self) -> bool:
        """Whether the call may be made: only `false` and `{"approved": false}` say no to it."""
        told: Any = self.payload
        if isinstance(told, dict):
            told = cast("dict[str, Any]", told).get("approved", True)
        return self.status == "resolved" and told is not False


class ForwardedProps(_Sent):
    """What an application may ask for besides; other properties are its own."""

    model: Annotated[StrictStr, Field(min_length=1, max_length=200)] | None = None
    mcp: Annotated[list[McpServerName], Field(max_length=MCP_SERVERS_MAX)] = []


def _fields_of(value: object) -> object:
    # Any JSON may be forwarded; what is no object says nothing to this server.
    return cast("dict[str, Any]", value) if isinstance(value, dict) else ForwardedProps()


class RunInput(_Sent):
    """`RunAgentInput`."""

    thread_id: AddressableId = Field(
        description="A conversation's id, or one that the client made up for a new one."
    )
    run_id: Id
    protocol_version: Annotated[StrictStr, Field(max_length=20)] | None = None
    parent_run_id: Id | None = None
    messages: Annotated[list[AgMessage], Field(max_length=MESSAGES_MAX)] = Field(
        description="Only the end of them counts: the history is the server's."
    )
    tools: Annotated[list[AgTool], Field(max_length=TOOLS_MAX)] | None = None
    context: Annotated[list[AgContext], Field(max_length=CONTEXT_MAX)] | None = None
    state: Any = Field(None, description="Of the client's; nothing here reads it.")
    forwarded_props: Annotated[ForwardedProps, BeforeValidator(_fields_of)] = Field(
        default_factory=ForwardedProps,
        description="`model` names the model that answers, `mcp` the configured MCP servers whose "
        "tools it can use.",
    )
    resume: Annotated[list[ResumeEntry], Field(max_length=TOOLS_MAX)] | None = Field(
        None, description="Whether the calls may be made that a run was interrupted for."
    )

    def settings(self) -> ModelSettings:
        """Return how the model shall answer."""
        return ModelSettings(tools=tuple(tool.for_model() for tool in self.tools or ()))

    def instructions(self) -> str | None:
        """Return what the application tells the model: its system messages, and the context."""
        told = [
            each.content
            for each in self.messages
            if each.role in ("system", "developer") and isinstance(each.content, str)
        ]
        told += [f"{each.description}: {each.value}" for each in self.context or ()]
        return "\n\n".join(told) or None
