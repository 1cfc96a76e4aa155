from typing import Any

import pytest

from tertulia.http.headers import AnswerHeaders, accepts, request_id_of


def scope_of(
    *headers: tuple[bytes, bytes], path: str = "/", scheme: str = "http"
) -> dict[str, Any]:
    return {"path": path, "scheme": scheme, "headers": list(headers)}


def completed(
    scope: dict[str, Any], *given: tuple[bytes, bytes], docs: str = "/docs"
) -> dict[bytes, bytes]:
    headers = AnswerHeaders(scope, "r-1", docs_paths=[docs]).complete(given)
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    return dict(headers)


class TestRequestId:
    @pytest.mark.parametrize("given", [b"a", b"A-b_c.9", b"x" * 64])
    def test_of_the_caller_is_kept_if_it_is_sane(self, given: bytes) -> None:
        assert request_id_of(scope_of((b"x-request-id", given))).encode() == given

    @pytest.mark.parametrize("given", [b"", b"x" * 65, b"a b", b"a\n", b"<script>", b"\xc3\xa9"])
    def test_of_the_caller_is_replaced_if_it_is_not(self, given: bytes) -> None:
        assert len(request_id_of(scope_of((b"x-request-id", given)))) == 36

    def test_is_new_for_every_request(self) -> None:
        assert request_id_of(scope_of()) != request_id_of(scope_of())


class TestAccepts:
    @pytest.mark.parametrize(
        "accept",
        [
            b"text/event-stream",
            b"TEXT/Event-Stream; charset=utf-8",
            b"application/json, text/event-stream",
            b"text/event-stream, */*;q=0.1",
            b"application/json;q=0.5,text/event-stream;q=0.7",
        ],
    )
    def test_what_is_asked_for_by_name(self, accept: bytes) -> None:
        assert accepts(scope_of((b"accept", accept)), "text/event-stream")

    @pytest.mark.parametrize(
        "accept",
        [
            b"",
            b"*/*",
            b"text/*",
            b"text/event-stream;q=0",
            b"text/event-stream;q=0.000, application/json",
            b"application/json, text/event-stream;q=0.1",
            b"application/x-text/event-streamer",
            b"text/event-stream;q=much",
        ],
    )
    def test_nothing_else(self, accept: bytes) -> None:
        assert not accepts(scope_of((b"accept", accept)), "text/event-stream")

    def test_what_stands_in_a_second_field(self) -> None:
        scope = scope_of((b"accept", b"a/b;q=0.3"), (b"accept", b"text/event-stream"))
        assert accepts(scope, "text/event-stream")


class TestAnswerHeaders:
    def test_protect_every_answer(self) -> None:
        assert completed(scope_of()) == {
            b"x-content-type-options": b"nosniff",
            b"referrer-policy": b"no-referrer",
            b"x-frame-options": b"DENY",
            b"cross-origin-resource-policy": b"same-origin",
            b"cache-control": b"no-store",
            b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
            b"x-request-id": b"r-1",
        }

    def test_ask_for_https_only_over_https(self) -> None:
        headers = completed(scope_of(scheme="https"))
        assert headers[b"strict-transport-security"] == b"max-age=31536000"

    def test_let_the_documentation_load_its_scripts(self) -> None:
        policy = completed(scope_of(path="/docs"))[b"content-security-policy"]
        assert b"https://cdn.jsdelivr.net" in policy
        assert b"frame-ancestors 'none'" in policy

    def test_leave_what_a_route_has_set(self) -> None:
        headers = completed(scope_of(), (b"Cache-Control", b"max-age=60"), (b"etag", b'"1"'))
        assert headers[b"cache-control"] == b"max-age=60"
        assert headers[b"etag"] == b'"1"'

    def test_keep_cookies_apart(self) -> None:
        cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        headers = AnswerHeaders(scope_of(), "r-1", docs_paths=[]).complete(cookies)
        assert [pair for pair in headers if pair[0] == b"set-cookie"] == cookies

    def test_name_no_server(self) -> None:
        assert b"server" not in completed(scope_of(), (b"Server", b"x/1.0"))

    @pytest.mark.parametrize(
        ("location", "sent"),
        [
            (b"http://evil.example/a/?b=1#c", b"/a/?b=1#c"),
            (b"https://EVIL.example//other.example/", b"/other.example/"),
            (b"https://login.example/", b"https://login.example/"),
            (b"/runs/1", b"/runs/1"),
        ],
    )
    def test_make_a_redirect_to_the_callers_host_relative(
        self, location: bytes, sent: bytes
    ) -> None:
        scope = scope_of((b"host", b"evil.example"))
        assert completed(scope, (b"location", location))[b"location"] == sent
