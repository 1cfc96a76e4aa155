"""The document's shortest client works as it stands there."""

from tests.dialects.conftest import Server
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.snippets import python_in, run_snippet


async def test_the_shortest_client_prints_an_answer(server: Server, ana: Person) -> None:
    [snippet] = python_in("ag-ui.md")
    assert await run_snippet(snippet, URL=server.url, TOKEN=ana.token) == DEFAULT_TEXT
