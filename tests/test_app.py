from collections.abc import Iterator
from typing import Any

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
