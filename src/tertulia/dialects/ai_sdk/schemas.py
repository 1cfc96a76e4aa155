"""What AI SDK UI sends, and messages as it shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator
from pydantic.alias_generators import to_camel

from tertulia.dialects.client_ids import ID_CHARS_MAX, AddressableId
from tertulia.domain.errors import Invalid
from tertulia.domain.models import ModelSettings
from tertulia.domain.runs import OnBusy
from tertulia.runs.schemas import McpServerName, ModelName, Tool

MESSAGES_MAX = 2_000
PARTS_MAX = 1_000
"""Of one message."""
TOOLS_MAX = 128
MCP_SERVERS_MAX = 16
METADATA_MAX = 16

MessageId = Annotated[StrictStr, Field(min_length=1, max_length=ID_CHARS_MAX)]
Metadata = Annotated[
    dict[
        Annotated[StrictStr, Field(min_length=1, max_length=64)],
        Annotated[StrictStr, Field(max_length=512)],
    ],
    Field(max_length=METADATA_MAX),
]


class UIMessage(BaseModel):
    """A message as clients have it. What else it holds is theirs and is passed over."""

    model_config = ConfigDict(extra="ignore")

    id: MessageId
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[dict[str, Any]], Field(max_length=PARTS_MAX)]
    metadata: Any = None


class ChatRequest(BaseModel):
    """What `useChat` posts, and what its `body` option may add."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    id: AddressableId = Field(
        description="A conversation's id, or one that the client made up for a new one.",
        examples=["x3Fk9"],
    )
    messages: Annotated[list[UIMessage], Field(max_length=MESSAGES_MAX)] = Field(
        default=[],
        description="Only the end of it counts: the history is the server's.",
    )
    message: UIMessage | None = Field(None, description="The last message, instead of all.")
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: MessageId | None = Field(
        None, description="Of the message that is edited, continued, or answered again."
    )
    model: ModelName | None = Field(
        None, description="`provider:model`; default: the conversation's."
    )
    metadata: Metadata = Field(default={}, description="Of a conversation that begins with this.")
    on_busy: OnBusy = Field(
        OnBusy.INTERRUPT, description="What to do while the conversation is being answered."
    )
    tools: Annotated[list[Tool], Field(max_length=TOOLS_MAX)] = Field(
        default=[], description="What the model may call; the client runs it."
    )
    mcp: Annotated[list[McpServerName], Field(max_length=MCP_SERVERS_MAX)] = Field(
        default=[], description="Configured MCP servers whose tools the model can use."
    )
    tool_choice: Literal["auto", "none", "required"] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    max_output_tokens: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _takes_one_kind(self) -> "ChatRequest":
        if self.message is not None and self.messages:
            raise ValueError("send `messages` or `message`, not both")
        return self

    @property
    def told(self) -> list[UIMessage]:
        """The client's messages."""
        return self.messages if self.message is None else [self.message]

    def field_of(self, index: int) -> str:
        """Return what one of them is called in an error."""
        return f"body.messages[{index}]" if self.message is None else "body.message"

    def settings(self) -> ModelSettings:
        """Return how the model shall answer."""
        return ModelSettings(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_output_tokens,
            tools=tuple(tool.model_dump(exclude_none=True) for tool in self.tools),
            tool_choice=self.tool_choice,
        )


class UIMessageResponse(BaseModel):
    """A message as `useChat` takes it."""

    id: str
    role: Literal["system", "user", "assistant"]
    metadata: dict[str, Any]
    parts: list[dict[str, Any]]


def nothing_to_answer(field: str) -> Invalid:
    """Return what a client is told that sent nothing new."""
    return Invalid("There is no user's message, and no tool's output, to answer", field=field)
