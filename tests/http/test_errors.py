from collections.abc import Iterator
from typing import Annotated, Any, Literal

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.exceptions import HTTPException

from tertulia.domain import errors as domain
from tertulia.domain.errors import TertuliaError
from tertulia.http.errors import (
    DOCUMENTED_CODES,
    FIELD_ERRORS_MAX,
    OWN_CODES,
    error_response,
    register_error_handlers,
    status_of,
)
from tertulia.http.guard import Guard

from .serving import client_of


def whole_tree(error: type[TertuliaError]) -> Iterator[type[TertuliaError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from whole_tree(kind)


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Account(BaseModel):
    model_config = ConfigDict(extra="forbid")

    password: str = Field(min_length=12)
    tags: list[int] = []
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    nickname: str = "none"

    @field_validator("nickname")
    @classmethod
    def refuse_aloud(cls, value: str) -> str:
        if value != "none":
            raise ValueError(f"{value} is no nickname")
        return value


async def answer_to(error: Exception) -> httpx2.Response:
    app = FastAPI()
    register_error_handlers(app)

    @app.get("/")
    async def fail() -> None:  # pyright: ignore[reportUnusedFunction]  the app holds it
        raise error

    async with client_of(Guard(app)) as client:
        return await client.get("/")


def accounts() -> Guard:
    app = FastAPI()
    register_error_handlers(app)

    @app.post("/accounts")
    async def create(account: Account) -> str:  # pyright: ignore[reportUnusedFunction]
        return account.nickname

    return Guard(app)


async def post_account(body: object) -> httpx2.Response:
    async with client_of(accounts()) as client:
        return await client.post("/accounts", json=body)


class TestDomainError:
    @pytest.mark.parametrize(
        "kind", list(whole_tree(TertuliaError)), ids=lambda kind: kind.__name__
    )
    async def test_is_answered_with_its_status_and_code(self, kind: type[TertuliaError]) -> None:
        answer = await answer_to(kind())
        assert answer.status_code == status_of(kind)
        assert answer.json() == {"detail": kind.default_detail, "code": kind.code}

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            (domain.IdempotencyKeyReused, 422),
            (domain.EmailTaken, 400),
            (domain.WrongCredentials, 401),
            (domain.UserInactive, 403),
            (domain.RunNotFound, 404),
            (domain.RunActive, 409),
            (domain.DatabaseUnavailable, 503),
        ],
    )
    def test_has_the_status_of_its_kind(self, kind: type[TertuliaError], status: int) -> None:
        assert status_of(kind) == status

    async def test_of_missing_credentials_names_the_scheme(self) -> None:
        answer = await answer_to(domain.Unauthenticated())
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize(
        ("error", "retry_after"),
        [
            (domain.Overloaded(), "1"),
            (domain.DatabaseUnavailable(retry_after_s=7), "7"),
            (domain.RunActive(), "1"),
            (domain.IdempotencyKeyInFlight(), "1"),
            (domain.Conflict(), None),
            (domain.NotFound(), None),
        ],
    )
    async def test_says_when_to_come_back_if_that_helps(
        self, error: TertuliaError, retry_after: str | None
    ) -> None:
        assert (await answer_to(error)).headers.get("retry-after") == retry_after

    async def test_names_its_field(self) -> None:
        answer = await answer_to(domain.Invalid("Too long", field="body.title"))
        assert answer.json()["errors"] == [{"field": "body.title", "message": "Too long"}]

    async def test_outside_the_seven_kinds_is_a_fault(self) -> None:
        answer = await answer_to(TertuliaError("SELECT secrets"))
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert "SELECT" not in answer.text


class TestValidationError:
    async def test_names_every_field(self) -> None:
        answer = await post_account({"password": "short", "tags": [1, "x"], "admin": True})
        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_request"
        assert [error["field"] for error in answer.json()["errors"]] == [
            "body.password",
            "body.tags[1]",
            "body.admin",
        ]
        assert answer.json()["detail"].startswith("body.password: String should have")
        assert answer.json()["detail"].endswith("(and 2 more)")

    async def test_never_repeats_a_value(self) -> None:
        secret = "hunter2-secret"
        bodies: list[Any] = [
            {"password": [secret]},
            {"password": "long enough it is", "nickname": secret},
            {"password": "long enough it is", "pet": {"kind": secret}},
            {"password": "long enough it is", "tags": [secret]},
            secret,
            [secret],
        ]
        for body in bodies:
            answer = await post_account(body)
            assert answer.status_code == 422
            assert secret not in answer.text

    async def test_of_thousands_of_items_is_a_short_answer(self) -> None:
        answer = await post_account({"password": "long enough it is", "tags": ["x"] * 9000})
        assert len(answer.json()["errors"]) == FIELD_ERRORS_MAX
        assert "(and 8999 more)" in answer.json()["detail"]

    async def test_cuts_a_long_unknown_field(self) -> None:
        answer = await post_account({"password": "long enough it is", "k" * 100_000: 1})
        assert answer.status_code == 422
        assert len(answer.text) < 1500

    async def test_of_an_empty_body_names_the_body(self) -> None:
        async with client_of(accounts()) as client:
            answer = await client.post("/accounts", headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"field": "body", "message": "Field required"}]


class TestHttpException:
    async def test_of_an_unknown_route(self) -> None:
        app = FastAPI()
        register_error_handlers(app)
        async with client_of(Guard(app)) as client:
            answer = await client.get("/nowhere")
        assert answer.status_code == 404
        assert answer.json() == {"detail": "Not Found", "code": "route_not_found"}

    async def test_of_another_method_says_which_are_allowed(self) -> None:
        app = FastAPI()
        register_error_handlers(app)
        app.get("/here")(lambda: None)
        async with client_of(Guard(app)) as client:
            answer = await client.post("/here")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "GET"

    @pytest.mark.parametrize(
        ("error", "status", "code", "detail"),
        [
            (HTTPException(400, "No"), 400, "bad_request", "No"),
            (HTTPException(418, "Tea"), 418, "bad_request", "Tea"),
            (HTTPException(503, "Later"), 503, "unavailable", "Later"),
            (HTTPException(507, "/var/lib"), 507, "internal_error", "Internal server error"),
        ],
    )
    async def test_has_the_one_shape(
        self, error: HTTPException, status: int, code: str, detail: str
    ) -> None:
        answer = await answer_to(error)
        assert answer.status_code == status
        assert answer.json() == {"detail": detail, "code": code}

    async def test_without_a_body_stays_without(self) -> None:
        answer = await answer_to(HTTPException(304))
        assert (answer.status_code, answer.content) == (304, b"")


class TestDocumentedCodes:
    def test_cover_the_whole_tree(self) -> None:
        assert {kind.code for kind in whole_tree(TertuliaError)} <= set(DOCUMENTED_CODES)

    def test_are_one_sentence_each(self) -> None:
        for code, documented in DOCUMENTED_CODES.items():
            assert documented.meaning.endswith("."), code
            assert 400 <= documented.status <= 599, code

    def test_are_told_once(self) -> None:
        assert not {kind.code for kind in whole_tree(TertuliaError)} & set(OWN_CODES)


def test_text_that_utf_8_cannot_carry_is_replaced() -> None:
    assert b'"lone ?"' in error_response(400, "bad_request", "lone \ud800").body
