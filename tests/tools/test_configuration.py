"""The operator's file: what can be meant is read, what cannot is refused with a reason."""

import json
import re
from pathlib import Path

import pytest

from tertulia.domain.tools import Approval
from tertulia.tools.configuration import SERVERS_MAX, read_servers
from tests.kit.documents import DOCS

_COMMAND = {"command": "x"}


def written(directory: Path, content: object) -> Path:
    path = directory / "mcp.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    example = re.search(r"```json\n(.*?)```", (DOCS / "mcp.md").read_text(), re.DOTALL)
    assert example is not None
    servers = read_servers(written(tmp_path, example[1]), {"TICKETS_KEY": "k-1"})
    files, tickets = servers["files"], servers["tickets"]
    assert (files.command, files.args, files.env) == (
        "mcp-files",
        ("/srv/docs",),
        {"MODE": "read-only"},
    )
    assert files.approval("anything") is Approval.ALLOW
    assert tickets.headers == {"Authorization": "Bearer k-1"}
    approvals = [tickets.approval(tool) for tool in ("search", "delete", "other")]
    assert approvals == [Approval.ALLOW, Approval.DENY, Approval.ASK]


def test_unless_it_is_said_every_call_needs_the_users_word(tmp_path: Path) -> None:
    servers = read_servers(written(tmp_path, {"mcpServers": {"a": _COMMAND}}), {})
    assert servers["a"].approval("tool") is Approval.ASK


def test_what_other_programs_keep_in_the_file_is_left_alone(tmp_path: Path) -> None:
    content = {"mcpServers": {"a": {"type": "http", "url": "http://localhost/mcp"}}, "theme": "x"}
    assert list(read_servers(written(tmp_path, content), {})) == ["a"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ([], "valid dictionary"),
        ({}, "mcpServers: Field required"),
        ({"mcpServers": {"a": {}}}, "either `command` or `url`"),
        ({"mcpServers": {"a": {**_COMMAND, "url": "http://h"}}}, "either `command` or `url`"),
        ({"mcpServers": {"a": {"url": "ftp://h"}}}, "a.url"),
        ({"mcpServers": {"a": {**_COMMAND, "headers": {"X": "y"}}}}, "belong to `url`"),
        ({"mcpServers": {"a": {"url": "http://h", "args": ["x"]}}}, "belong to `command`"),
        ({"mcpServers": {"a": {**_COMMAND, "tool": {}}}}, "a.tool: Extra inputs"),
        ({"mcpServers": {"a": {**_COMMAND, "default": "maybe"}}}, "a.default"),
        ({"mcpServers": {"a__b": _COMMAND}}, "the server name 'a__b'"),
        ({"mcpServers": {"-a": _COMMAND}}, "the server name '-a'"),
        ({"mcpServers": {"a" * 33: _COMMAND}}, "the server name"),
        ({"mcpServers": {"a": {**_COMMAND, "args": ["${NO}"]}}}, "the environment has no NO"),
        ({"mcpServers": {str(n): _COMMAND for n in range(SERVERS_MAX + 1)}}, "mcpServers"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        read_servers(written(tmp_path, content), {})
    assert str(tmp_path / "mcp.json") in str(refused.value)


def test_a_refusal_quotes_no_secret(tmp_path: Path) -> None:
    content = {"mcpServers": {"a": {"url": "http://h", "headers": {"X": ["s3cret"]}}}}
    with pytest.raises(ValueError, match=r"a\.headers\.X") as refused:
        read_servers(written(tmp_path, content), {})
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.json: No such file"):
        read_servers(tmp_path / "nothing.json", {})
