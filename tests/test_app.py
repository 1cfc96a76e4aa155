from collections.abc import Iterable, Iterator
from typing import Any, cast

import httpx2
import pytest

from tertulia.app import Application, create_app
from tertulia.config import Settings


@pytest.fixture
def app() -> Application:
    settings: dict[str, Any] = {"secret_key": "5f0d1c7e9b3a48628d4e7f1a2b3c4d5e6f708192a3b4c5d6"}
    return create_app(
        Settings.model_validate(settings | {"database_url": "postgresql://nowhere/x"})
    )


def operations(app: Application) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in app.fastapi.openapi()["paths"].items():
        if "get" in methods:
            yield path, methods["get"]


def keys_of_schemas(described: object) -> Iterator[str]:
    inside: Iterable[object] = ()
    if isinstance(described, dict):
        yield from (members := cast("dict[str, object]", described))
        inside = members.values()
    elif isinstance(described, list):
        inside = cast("list[object]", described)
    for each in inside:
        yield from keys_of_schemas(each)


def test_the_documentation_names_bounds_as_json_schema_does(app: Application) -> None:
    keys = set(keys_of_schemas(app.fastapi.openapi()))
    assert {"minimum", "maximum"} <= keys
    assert not {"ge", "le", "gt", "lt"} & keys
    parameters = app.fastapi.openapi()["paths"]["/conversations"]["get"]["parameters"]
    schemas = {each["name"]: each["schema"] for each in parameters}
    bounded = {"type": "integer", "minimum": 1, "maximum": 200}
    assert bounded in schemas["limit"]["anyOf"]
    assert bounded in schemas["take"]["anyOf"]
    assert (schemas["skip"]["minimum"], schemas["skip"]["maximum"]) == (0, 10_000)


async def test_what_can_be_read_has_a_head_unless_it_is_a_stream(app: Application) -> None:
    streams = {
        path
        for path, operation in operations(app)
        if "text/event-stream" in operation["responses"]["200"]["content"]
    }
    without_head: set[str] = set()
    # Without its lifespan the app has nothing to answer from: a 500, which is not what is asked.
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        for path, _ in operations(app):
            if (await client.head(path)).status_code == 405:
                without_head.add(path)
    assert without_head == streams
    assert len(streams) == 3
