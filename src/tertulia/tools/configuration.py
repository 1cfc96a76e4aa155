"""The operator's file of MCP servers, in the shape that other programs read too.

{"mcpServers": {
    "files": {"command": "mcp-files", "args": ["/srv/docs"], "env": {"MODE": "ro"}},
    "tickets": {"url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${KEY}"},
                "default": "ask", "tools": {"search": "allow", "delete": "deny"}}
}}
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tertulia.domain.tools import Approval

from .names import SERVER_NAME

SERVERS_MAX = 64
_FILE_BYTES_MAX = 1_048_576
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_Text = Annotated[str, Field(max_length=8_192)]


class ToolServerConfig(BaseModel):
    """One server: a command to start, or an address to ask, and who may let its tools be called."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["stdio", "http", "streamable-http"] | None = None
    """Other programs want it said; here `command` or `url` says it."""
    command: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    args: tuple[_Text, ...] = ()
    env: dict[str, _Text] = Field(default_factory=dict[str, str])
    """Besides `PATH`, `HOME` and the like; nothing else of this server's environment is passed."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s/]", max_length=4_096)] | None = None
    headers: dict[str, _Text] = Field(default_factory=dict[str, str])
    default: Approval = Approval.ASK
    """For the tools that `tools` does not name."""
    tools: dict[str, Approval] = Field(default_factory=dict[str, Approval])

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("it needs either `command` or `url`")
        if self.command is None and (self.args or self.env):
            raise ValueError("`args` and `env` belong to `command`")
        if self.url is None and self.headers:
            raise ValueError("`headers` belong to `url`")
        return self

    def approval(self, tool: str) -> Approval:
        """Return whether a tool of this server may be called."""
        return self.tools.get(tool, self.default)


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    servers: dict[str, ToolServerConfig] = Field(alias="mcpServers", max_length=SERVERS_MAX)


def read_servers(path: Path, environment: Mapping[str, str]) -> Mapping[str, ToolServerConfig]:
    """Return the servers that a file names.

    Args:
        path: Of the JSON file.
        environment: Where `${NAME}` is looked up, so that the file needs to hold no secrets.

    Raises:
        ValueError: The file cannot be read, or says what cannot be meant. Its values are not
            quoted: some are secrets.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if len(text) > _FILE_BYTES_MAX:
        raise ValueError(f"{path} is larger than {_FILE_BYTES_MAX} bytes")
    try:
        given = json.loads(text)
    except ValueError:
        raise ValueError(f"{path} is not JSON") from None
    try:
        servers = _File.model_validate(given).servers
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{path}: {place}: {wrong['msg']}") from None
    for name in servers:
        if not SERVER_NAME.fullmatch(name):
            raise ValueError(
                f"{path}: the server name {name!r} must be 1 to 32 of A-Z, a-z, 0-9 and '-', "
                "with no '-' at its ends"
            )
    return {name: _expanded(path, name, each, environment) for name, each in servers.items()}


def _expanded(
    path: Path, name: str, server: ToolServerConfig, environment: Mapping[str, str]
) -> ToolServerConfig:
    def value_of(found: re.Match[str]) -> str:
        value = environment.get(found[1])
        if value is None:
            raise ValueError(f"{path}: {name}: the environment has no {found[1]}")
        return value

    def expand(text: str) -> str:
        return _VARIABLE.sub(value_of, text)

    return server.model_copy(
        update={
            "args": tuple(map(expand, server.args)),
            "env": {key: expand(value) for key, value in server.env.items()},
            "url": None if server.url is None else expand(server.url),
            "headers": {key: expand(value) for key, value in server.headers.items()},
        }
    )
