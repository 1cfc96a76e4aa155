"""The guard's limit of how long an answer may take to begin."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from tertulia.http.errors import register_error_handlers
from tertulia.http.guard import Guard, GuardLimits

from .serving import client_of

LIMITS = GuardLimits(answer_s=0.1, deletion_s=5.0)


def slow_api(given_up: list[str]) -> FastAPI:
    """An API whose routes take longer than they may."""
    app = FastAPI()
    register_error_handlers(app)

    @app.api_route("/slow", methods=["GET", "POST", "PUT", "PATCH"])
    async def slow() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            given_up.append("slow")
            raise

    @app.delete("/slow")
    async def delete() -> str:
        await asyncio.sleep(0.3)
        return "deleted"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncGenerator[str]:
            for _ in range(3):
                yield "piece "
                await asyncio.sleep(0.1)

        return StreamingResponse(pieces())

    @app.get("/timeout")
    async def timeout() -> None:
        raise TimeoutError

    return app


@pytest.fixture
def given_up() -> list[str]:
    return []


@pytest.fixture
def app(given_up: list[str]) -> Guard:
    return Guard(slow_api(given_up), limits=LIMITS)


async def test_what_takes_too_long_is_given_up_and_answered(
    app: Guard, given_up: list[str]
) -> None:
    async with client_of(app) as client:
        answer = await client.get("/slow")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert given_up == ["slow"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_change_that_is_given_up_may_have_happened_and_says_so(
    app: Guard, method: str
) -> None:
    async with client_of(app) as client:
        answer = await client.request(method, "/slow")
    assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
    assert "Idempotency-Key" in answer.json()["detail"]


async def test_a_deletion_has_its_own_limit(app: Guard) -> None:
    async with client_of(app) as client:
        answer = await client.delete("/slow")
    assert (answer.status_code, answer.json()) == (200, "deleted")


async def test_an_answer_that_has_begun_may_last(app: Guard) -> None:
    async with client_of(app) as client:
        answer = await client.get("/stream")
    assert (answer.status_code, answer.text) == (200, "piece piece piece ")


async def test_a_timeout_of_the_app_is_a_fault_of_its_own(app: Guard) -> None:
    async with client_of(app) as client:
        answer = await client.get("/timeout")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
