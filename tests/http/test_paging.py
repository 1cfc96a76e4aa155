from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from fastapi import FastAPI, Request, Response
from hypothesis import given
from hypothesis import strategies as st

from tertulia.domain.errors import Invalid
from tertulia.domain.ids import new_id
from tertulia.http.errors import register_error_handlers
from tertulia.http.paging import (
    Cursor,
    Limit,
    Page,
    Skip,
    decode_cursor,
    encode_cursor,
    show_page,
)

from .serving import client_of

NOW = datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC)
INT64 = st.integers(-(2**63), 2**63 - 1)


def numbers() -> FastAPI:
    """An API that lists the numbers from 0 to 24."""
    app = FastAPI()
    register_error_handlers(app)

    @app.get("/numbers")
    async def list_numbers(  # pyright: ignore[reportUnusedFunction]  the app holds it
        request: Request,
        response: Response,
        skip: Skip = 0,
        limit: Limit = 10,
        cursor: Cursor = None,
    ) -> list[int]:
        first = skip if cursor is None else decode_cursor(cursor, (int,))[0]
        items = list(range(25))[first : first + limit]
        following = encode_cursor(first + limit) if first + limit < 25 else None
        return list(show_page(request, response, Page(items, following)))

    return app


class TestCursor:
    @given(st.datetimes(timezones=st.just(UTC)), INT64, st.uuids())
    def test_gives_back_what_it_was_made_of(self, time: datetime, number: int, id_: UUID) -> None:
        cursor = encode_cursor(time, number, id_)
        assert decode_cursor(cursor, (datetime, int, UUID)) == (time, number, id_)

    def test_keeps_the_moment_of_a_time_in_another_zone(self) -> None:
        elsewhere = NOW.astimezone(timezone(timedelta(hours=8)))
        assert decode_cursor(encode_cursor(elsewhere), (datetime,)) == (NOW,)

    def test_is_url_safe(self) -> None:
        assert encode_cursor(NOW, new_id()).replace("-", "").replace("_", "").isalnum()

    def test_with_any_character_changed_is_invalid(self) -> None:
        cursor = encode_cursor(NOW, new_id())
        for place, character in enumerate(cursor):
            changed = cursor[:place] + ("A" if character != "A" else "B") + cursor[place + 1 :]
            with pytest.raises(Invalid) as caught:
                decode_cursor(changed, (datetime, UUID))
            assert caught.value.field == "query.cursor"

    @pytest.mark.parametrize(
        "cursor", ["", "A", "====", "你好", "a b", "AAAA\n", "A" * 300, "-_-_", "AAAAAAdAAAAA"]
    )
    def test_that_nobody_made_is_invalid(self, cursor: str) -> None:
        with pytest.raises(Invalid):
            decode_cursor(cursor, (int,))

    def test_of_another_list_is_invalid(self) -> None:
        with pytest.raises(Invalid):
            decode_cursor(encode_cursor(1, new_id()), (datetime, UUID))

    @given(st.text(max_size=80))
    def test_of_random_text_is_invalid_or_right(self, text: str) -> None:
        try:
            values = decode_cursor(text, (int,))
        except Invalid:
            return
        assert encode_cursor(*values) == text


class TestLink:
    async def test_leads_through_the_whole_list(self) -> None:
        seen: list[int] = []
        async with client_of(numbers()) as client:
            target: str | None = "/numbers?limit=7"
            while target is not None:
                answer = await client.get(target)
                seen += answer.json()
                target = answer.links["next"]["url"] if "next" in answer.links else None
        assert seen == list(range(25))

    async def test_keeps_the_other_parameters_and_drops_where_to_begin(self) -> None:
        query = "skip=2&tag=a%26b&limit=3&tag=%E4%BD%A0&offset=9&flag="
        async with client_of(numbers()) as client:
            link = (await client.get(f"/numbers?{query}")).headers["link"]
        cursor = encode_cursor(5)
        expected = f"</numbers?tag=a%26b&limit=3&tag=%E4%BD%A0&flag=&cursor={cursor}>"
        assert link == f'{expected}; rel="next"'

    async def test_never_repeats_the_host_header(self) -> None:
        async with client_of(numbers()) as client:
            answer = await client.get("/numbers", headers={"Host": "evil.example"})
        assert answer.headers["link"].startswith("</numbers?")
        assert "evil" not in answer.headers["link"]

    async def test_is_absent_on_the_last_page(self) -> None:
        async with client_of(numbers()) as client:
            answer = await client.get("/numbers?skip=20")
        assert answer.json() == [20, 21, 22, 23, 24]
        assert "link" not in answer.headers


class TestBounds:
    @pytest.mark.parametrize(
        "query", ["skip=-1", "skip=10001", "limit=0", "limit=201", "limit=1e9", "limit=x"]
    )
    async def test_a_number_outside_is_refused_by_name(self, query: str) -> None:
        async with client_of(numbers()) as client:
            answer = await client.get(f"/numbers?{query}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == f"query.{query.partition('=')[0]}"

    @pytest.mark.parametrize("number", ["1_0", "%205", "5%20", "5.0", "%2B5", "", "%D9%A5", "--5"])
    async def test_a_number_not_written_in_digits_is_refused(self, number: str) -> None:
        async with client_of(numbers()) as client:
            answer = await client.get(f"/numbers?limit={number}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "query.limit"

    async def test_an_empty_cursor_is_refused(self) -> None:
        async with client_of(numbers()) as client:
            answer = await client.get("/numbers?cursor=")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "query.cursor"

    async def test_a_tampered_cursor_is_a_422_of_its_field(self) -> None:
        async with client_of(numbers()) as client:
            answer = await client.get("/numbers?cursor=AAAA")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "query.cursor"
