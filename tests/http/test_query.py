"""Query strings that are read once."""

from dataclasses import dataclass
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI, Query

from tertulia.domain.errors import Invalid
from tertulia.http.errors import register_error_handlers
from tertulia.http.paging import Cursor, Skip
from tertulia.http.query import QueryReader

from .serving import client_of


@dataclass(frozen=True, slots=True)
class Wanted:
    limit: int
    skip: int
    cursor: str | None


class Reads:
    """How often a query was made something of."""

    def __init__(self) -> None:
        self.count = 0

    def page(
        self,
        *,
        limit: Annotated[int, Query(ge=1, le=9, description="Rows.")] = 5,
        skip: Skip = 0,
        cursor: Cursor = None,
    ) -> Wanted:
        self.count += 1
        if limit == 7:
            raise Invalid("Seven is refused", field="query.limit")
        return Wanted(limit, skip, cursor)


def apps() -> tuple[Reads, FastAPI, FastAPI]:
    """One app whose route reads with a reader, and one with FastAPI alone."""
    reads, alone = Reads(), Reads()
    reader = QueryReader(reads.page)
    one, other = FastAPI(), FastAPI()
    for app in (one, other):
        register_error_handlers(app)

    @one.get("/", openapi_extra=reader.documented)
    async def read(wanted: Annotated[Wanted, Depends(reader)]) -> Wanted:  # pyright: ignore[reportUnusedFunction]
        return wanted

    @other.get("/", name="read")
    async def find(wanted: Annotated[Wanted, Depends(alone.page)]) -> Wanted:  # pyright: ignore[reportUnusedFunction]
        return wanted

    return reads, one, other


async def ask(app: FastAPI, query: str) -> httpx2.Response:
    async with client_of(app) as client:
        return await client.get(f"/?{query}")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "limit=3&skip=2&cursor=abc",
        "limit=3&limit=4",
        "limit=0",
        "limit=x&skip=-1&cursor=",
        "limit=",
        "skip=+1",
        "skip=10001",
        "limit=7",
        "other=1&&=&%",
        "cursor=%E5%AD%A6",
        "cursor=" + "a" * 257,
    ],
)
async def test_a_query_is_read_as_fastapi_reads_it(query: str) -> None:
    _, one, other = apps()
    read, found = await ask(one, query), await ask(other, query)
    assert (read.status_code, read.json()) == (found.status_code, found.json())


async def test_the_same_query_is_read_once() -> None:
    reads, app, _ = apps()
    for _ in range(3):
        assert (await ask(app, "limit=3")).json()["limit"] == 3
    assert (await ask(app, "limit=4")).json()["limit"] == 4
    assert reads.count == 2


async def test_a_query_that_is_refused_is_refused_again() -> None:
    _, app, _ = apps()
    for _ in range(2):
        assert (await ask(app, "limit=7")).status_code == 422
        assert (await ask(app, "limit=x")).status_code == 422


async def test_a_long_query_is_not_remembered() -> None:
    reads, app, _ = apps()
    for _ in range(2):
        assert (await ask(app, f"limit=3&other={'x' * 300}")).json()["limit"] == 3
    assert reads.count == 2


def test_the_parameters_are_documented_as_fastapi_documents_them() -> None:
    _, one, other = apps()
    documented, expected = (app.openapi()["paths"]["/"]["get"] for app in (one, other))
    assert documented["parameters"] == expected["parameters"]
