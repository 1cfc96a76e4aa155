import re

from hypothesis import given
from hypothesis import strategies as st

from tertulia.tools.names import SERVER_NAME, model_name, server_of

_TAKEN_BY_PROVIDERS = re.compile(r"[A-Za-z0-9_-]{1,64}")
_servers = st.from_regex(SERVER_NAME, fullmatch=True)
_tools = st.text(max_size=130) | st.from_regex(r"[A-Za-z0-9_.-]{1,70}", fullmatch=True)


def test_a_name_that_providers_take_is_kept() -> None:
    assert model_name("files", "read_file") == "files__read_file"


@given(server=_servers, tool=_tools)
def test_every_name_can_be_taken_and_tells_its_server(server: str, tool: str) -> None:
    name = model_name(server, tool)
    assert _TAKEN_BY_PROVIDERS.fullmatch(name)
    assert server_of(name) == server


@given(one=st.tuples(_servers, _tools), other=st.tuples(_servers, _tools))
def test_no_two_tools_have_one_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (one == other) is (model_name(*one) == model_name(*other))


def test_what_is_no_tool_of_a_server_belongs_to_none() -> None:
    assert [server_of(name) for name in ("look", "__look", "a_b__look", "")] == [None] * 4
