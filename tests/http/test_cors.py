from tertulia.http.cors import CrossOrigin
from tertulia.http.guard import Guard

from .serving import exchange, request_head, serve
from .test_guard import CLOSE, JSON, api, logged

PAGE = "Origin: https://app.example"
STRANGER = "Origin: https://evil.example"


def shared() -> CrossOrigin:
    return CrossOrigin(Guard(api()), origins=["https://app.example"])


async def test_a_page_reads_what_the_guard_answers() -> None:
    head = request_head("POST", "/any", PAGE, JSON, CLOSE, "Content-Length: 1")
    with logged():
        async with serve(shared()) as port:
            answer = await exchange(port, head, b"{")
    assert answer.json()["code"] == "invalid_json"
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


async def test_a_page_of_another_origin_reads_nothing() -> None:
    with logged():
        async with serve(shared()) as port:
            answer = await exchange(port, request_head("GET", "/items/7", STRANGER, CLOSE))
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


async def test_a_browser_that_asks_is_told_and_its_question_logged() -> None:
    head = request_head(
        "OPTIONS",
        "/items/7",
        PAGE,
        CLOSE,
        "Access-Control-Request-Method: DELETE",
        "Access-Control-Request-Headers: authorization",
    )
    with logged() as logs:
        async with serve(shared()) as port:
            answer = await exchange(port, head)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization"
    assert answer.headers["x-request-id"] == logs[0]["request_id"]


async def test_a_browser_that_asks_for_another_origin_is_refused_in_the_one_shape() -> None:
    head = request_head(
        "OPTIONS", "/items/7", STRANGER, CLOSE, "Access-Control-Request-Method: GET"
    )
    with logged() as logs:
        async with serve(shared()) as port:
            answer = await exchange(port, head)
    assert (answer.status, answer.json()["code"]) == (400, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-request-id"] == logs[0]["request_id"]
