"""What runs look like on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tertulia.domain.models import ModelInfo, ModelSettings, Usage
from tertulia.domain.parts import ToolResultPart
from tertulia.domain.runs import OnBusy, Run, RunStatus
from tertulia.runs.send import Send, user_says

CONTENT_CHARS_MAX = 100_000
MODEL_NAME_CHARS_MAX = 200
_TOOLS_MAX = 128
_MCP_SERVERS_MAX = 16
_CALL_ID_CHARS_MAX = 1_000

Content = Annotated[str, StringConstraints(min_length=1, max_length=CONTENT_CHARS_MAX)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=MODEL_NAME_CHARS_MAX)]
McpServerName = Annotated[str, StringConstraints(min_length=1, max_length=32)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class ToolFunction(BaseModel):
    """A function that a model may ask for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = Field(None, max_length=4_096)
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """A tool in OpenAI's shape."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: ToolFunction


class ToolResult(BaseModel):
    """What a tool answered that the client called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    call_id: str = Field(min_length=1, max_length=_CALL_ID_CHARS_MAX)
    content: str = Field(max_length=CONTENT_CHARS_MAX)


class ToolCallDecision(BaseModel):
    """Whether a call is made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    approve: bool


class McpServerResponse(BaseModel):
    """A configured MCP server."""

    name: str = Field(description="For `mcp` of a run.")


class RunCreate(BaseModel):
    """What to answer, and how."""

    model_config = ConfigDict(extra="forbid")

    content: Content | None = Field(
        None, description="The user's new message. Without it an existing message is answered."
    )
    parent_id: UUID | None = Field(
        None,
        description="The message that `content` follows (an edit is a sibling: name the parent of "
        "what is edited), or without `content` the message to answer (again). Default: the head.",
    )
    model_type: ModelName | None = Field(
        None, description="`provider:model`; default: the conversation's."
    )
    on_busy: OnBusy = Field(
        OnBusy.REJECT, description="What to do while the conversation is being answered."
    )
    temperature: float | None = Field(None, ge=0, le=2, strict=True)
    top_p: float | None = Field(None, gt=0, le=1, strict=True)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000, strict=True)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, strict=True)
    stop: list[StopString] = Field(default_factory=list, max_length=4)
    tools: list[Tool] = Field(
        default_factory=list[Tool],
        max_length=_TOOLS_MAX,
        description="Their calls end the run and are the client's to make: see `tool_results`.",
    )
    tool_results: list[ToolResult] = Field(
        default_factory=list[ToolResult],
        max_length=_TOOLS_MAX,
        description="Of calls that wait where the conversation ends, or at `parent_id`. They are "
        "stored as a message of the role `tool`, before `content` if there is any, and answered.",
    )
    mcp: list[McpServerName] = Field(
        default_factory=list[str],
        max_length=_MCP_SERVERS_MAX,
        description="Configured MCP servers whose tools the model can use in this run; "
        "`GET /mcp-servers` lists them.",
    )

    def to_send(self) -> Send:
        """Return it in the service's words."""
        return Send(
            messages=() if self.content is None else [user_says(self.content)],
            parent_id=self.parent_id,
            model_type=self.model_type,
            on_busy=self.on_busy,
            mcp=list(dict.fromkeys(self.mcp)),
            tool_results=[
                ToolResultPart(result.call_id, result.content) for result in self.tool_results
            ],
            settings=ModelSettings(
                temperature=self.temperature,
                top_p=self.top_p,
                max_tokens=self.max_tokens,
                seed=self.seed,
                stop=tuple(self.stop),
                tools=tuple(tool.model_dump(exclude_none=True) for tool in self.tools),
            ),
        )


class RunErrorResponse(BaseModel):
    """Why a run failed."""

    model_config = ConfigDict(from_attributes=True)

    code: str
    message: str


class UsageResponse(BaseModel):
    """What an answer cost; null where nobody said."""

    model_config = ConfigDict(from_attributes=True)

    prompt_tokens: int | None
    response_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None

    @classmethod
    def of(cls, usage: Usage) -> "UsageResponse":
        """Return it for the wire: money as a JSON number."""
        cost = None if usage.cost_usd is None else float(usage.cost_usd)
        return cls(
            prompt_tokens=usage.prompt_tokens,
            response_tokens=usage.response_tokens,
            total_tokens=usage.total_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=cost,
        )


class RunResponse(BaseModel):
    """One answer being generated, or how it went."""

    id: UUID
    conversation_id: UUID
    message_id: UUID
    status: RunStatus
    attempt: int
    model_type: str
    error: RunErrorResponse | None
    usage: UsageResponse | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> "RunResponse":
        """Return the run for the wire."""
        return cls(
            id=run.id,
            conversation_id=run.conversation_id,
            message_id=run.message_id,
            status=run.status,
            attempt=run.attempt,
            model_type=run.model_type,
            error=None if run.error is None else RunErrorResponse.model_validate(run.error),
            usage=None if run.usage is None else UsageResponse.of(run.usage),
            created_at=run.created_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
        )


class ModelResponse(BaseModel):
    """A model on offer, and what it can do."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    provider: str
    is_default: bool
    context_tokens: int | None
    continues_prefix: bool
    tools: bool
    reasoning: bool

    @classmethod
    def of(cls, info: ModelInfo) -> "ModelResponse":
        """Return the model for the wire."""
        return cls.model_validate(info)
