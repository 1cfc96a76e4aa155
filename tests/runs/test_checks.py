"""What a model cannot do is refused before anything is stored."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tertulia.app import create_app
from tertulia.config import Settings
from tests.kit.replica import SECRET_KEY
from tests.kit.stage import fetch_number
from tests.kit.waiting import until
from tests.runs.talking import Talker, join

MODEL = "anthropic:claude-3-haiku"
SCHEMA = {"name": "weather", "schema": {"type": "object"}}
FORM = {"type": "json_schema", **SCHEMA}
STORED = "SELECT (SELECT count(*) FROM conversations) + (SELECT count(*) FROM idempotency_keys)"


@pytest.fixture
async def ana(dsn: str) -> AsyncIterator[Talker]:
    settings = Settings.model_validate(
        {
            "database_url": dsn,
            "secret_key": SECRET_KEY,
            "local_model": False,
            "anthropic_api_key": "sk-ant-nobody",
            "default_model": MODEL,
            "pool_size": 9,
            "drain_s": 0,
        }
    )
    app = create_app(settings)
    async with app.fastapi.router.lifespan_context(app.fastapi):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            ana = await join(client, "ana")

            async def is_imported() -> bool:
                return len((await ana.send("GET", "/models")).json()) > 1

            # It may take longer than a request waits for anything.
            await until(is_imported, "the provider's library", within_s=60)
            yield ana


@pytest.mark.parametrize(
    ("path", "asked", "param"),
    [
        (
            "/v1/chat/completions",
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": "Sky?"}],
                "response_format": {"type": "json_schema", "json_schema": SCHEMA},
            },
            "response_format",
        ),
        (
            "/v1/chat/completions",
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": "Sky?"}],
                "response_format": {"type": "json_object"},
            },
            "response_format",
        ),
        (
            "/v1/responses",
            {"model": MODEL, "input": "Sky?", "text": {"format": FORM}},
            "text.format",
        ),
        ("/v1/responses", {"input": "Sky?", "text": {"format": FORM}}, "text.format"),
    ],
)
async def test_a_form_that_a_model_cannot_be_held_to_is_a_400(
    ana: Talker, dsn: str, path: str, asked: dict[str, Any], param: str
) -> None:
    answer = await ana.send("POST", path, asked, Idempotency_Key="once")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert "cannot be held" in answer.json()["error"]["message"]
    assert await fetch_number(dsn, STORED) == 0


async def test_a_conversations_own_model_is_asked_too(ana: Talker, dsn: str) -> None:
    made = await ana.send("POST", "/v1/conversations", {})
    asked = {"conversation": made.json()["id"], "input": "Sky?", "text": {"format": FORM}}

    answer = await ana.send("POST", "/v1/responses", asked)

    assert answer.status_code == 400
    assert await fetch_number(dsn, "SELECT count(*) FROM messages") == 0
