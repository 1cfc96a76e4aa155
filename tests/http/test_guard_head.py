import re

from tertulia.http.guard import Guard

from .serving import exchange, request_head, serve
from .test_guard import CLOSE, api, echo, logged


async def test_the_answer_of_a_head_request_has_no_body() -> None:
    async with serve(Guard(echo)) as port:
        answer = await exchange(port, request_head("HEAD", "/?long", CLOSE))
    assert (answer.status, answer.body) == (200, b"")


async def test_the_answer_of_a_head_request_is_that_of_a_get_but_for_its_body() -> None:
    with logged() as logs:
        async with serve(Guard(api())) as port:
            get = await exchange(port, request_head("GET", "/items/7", CLOSE, "X-Request-ID: r"))
            head = await exchange(port, request_head("HEAD", "/items/7", CLOSE, "X-Request-ID: r"))
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert [(line["method"], line["route"]) for line in logs] == [
        ("GET", "/items/{item_id}"),
        ("HEAD", "/items/{item_id}"),
    ]


async def test_the_answer_of_a_head_request_for_a_stream_is_405() -> None:
    guard = Guard(api(), streams=re.compile("/spoilt|/fault"))
    with logged():
        async with serve(guard) as port:
            answer = await exchange(port, request_head("HEAD", "/spoilt", CLOSE))
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
