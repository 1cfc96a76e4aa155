import pytest
from fastapi import FastAPI

from tertulia.domain.errors import Invalid
from tertulia.http.errors import register_error_handlers
from tertulia.http.idempotency import Idempotent, fingerprint, parse_idempotency_key

from .serving import client_of


def keyed() -> FastAPI:
    app = FastAPI()
    register_error_handlers(app)

    @app.post("/")
    async def show(request: Idempotent) -> str | None:  # pyright: ignore[reportUnusedFunction]
        return None if request is None else request.key

    return app


class TestKey:
    @pytest.mark.parametrize("value", ["a", "x" * 255, '"8e03978e-40d5"', "!~"])
    def test_of_visible_ascii_is_taken_as_it_is(self, value: str) -> None:
        assert parse_idempotency_key(value) == value

    @pytest.mark.parametrize("value", ["", " ", "a b", "x" * 256, "é", "a\n", "\x7f"])
    def test_of_anything_else_is_invalid(self, value: str) -> None:
        with pytest.raises(Invalid) as caught:
            parse_idempotency_key(value)
        assert caught.value.field == "header.Idempotency-Key"

    async def test_reaches_the_route(self) -> None:
        async with client_of(keyed()) as client:
            answer = await client.post("/", headers={"Idempotency-Key": "k-1"})
        assert answer.json() == "k-1"

    async def test_is_optional(self) -> None:
        async with client_of(keyed()) as client:
            assert (await client.post("/")).json() is None

    async def test_sent_empty_is_refused(self) -> None:
        async with client_of(keyed()) as client:
            answer = await client.post("/", headers={"Idempotency-Key": ""})
        assert answer.status_code == 422

    async def test_sent_twice_is_refused(self) -> None:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        async with client_of(keyed()) as client:
            answer = await client.post("/", headers=headers)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "header.Idempotency-Key"

    def test_is_documented(self) -> None:
        (parameter,) = keyed().openapi()["paths"]["/"]["post"]["parameters"]
        assert parameter["name"] == "Idempotency-Key"


class TestFingerprint:
    def test_ignores_the_order_of_keys_and_white_space(self) -> None:
        assert fingerprint("POST", "/a", b'{"x": 1, "y": [2]}') == fingerprint(
            "post", "/a", b'{"y":[2],"x":1}'
        )

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PUT", "/a", b'{"x":1}'),
            ("POST", "/b", b'{"x":1}'),
            ("POST", "/a", b'{"x":1.0}'),
            ("POST", "/a", b'{"x":true}'),
            ("POST", "/a", b'{"x":[1]}'),
            ("POST", "/a", b""),
            ("POST", '/a7:{"x":1', b"}"),
        ],
    )
    def test_of_another_request_is_another(self, method: str, path: str, body: bytes) -> None:
        assert fingerprint(method, path, body) != fingerprint("POST", "/a", b'{"x":1}')

    def test_is_sha_256_also_of_what_is_not_json(self) -> None:
        assert len(fingerprint("POST", "/", b"\xff{[" * 2000)) == 32
        assert len(fingerprint("POST", "/", b"[" * 200_000)) == 32
