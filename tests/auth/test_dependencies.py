"""What is made of the `Authorization` header."""

from .people import Person, refusal


class TestCurrentCaller:
    async def test_without_a_header_is_401(self, ana: Person) -> None:
        answer = await ana.client.get("/auth/me")
        assert refusal(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"

    async def test_with_anything_but_one_genuine_bearer_token_is_401(self, ana: Person) -> None:
        token = ana.access_token
        wrong = [
            "",
            "Bearer",
            "Bearer ",
            token,
            f"Basic {token}",
            f"Bearer  {token}x",
            f"Bearer {token} {token}",
            f"Bearer {token},",
            f"Bearer {token[:-2]}",
            f"Bearer {ana.refresh_token}",
            "Bearer null",
            "Bearer " + "a" * 7000,
            "Bearer " + "a.b.c",
            "Bearer sk-" + "a" * 43,
        ]
        for value in wrong:
            answer = await ana.client.get("/auth/me", headers={"Authorization": value})
            assert refusal(answer) == (401, "unauthenticated"), value
            assert answer.json()["detail"] in ("Invalid token", "Not authenticated")

    async def test_with_bytes_that_are_no_text_is_401(self, ana: Person) -> None:
        headers = {b"Authorization": b"Bearer \xff\xfe"}
        answer = await ana.client.get("/auth/me", headers=headers)
        assert refusal(answer) == (401, "unauthenticated")

    async def test_takes_the_scheme_in_any_case(self, ana: Person) -> None:
        for scheme in ("bearer", "BEARER", "Bearer"):
            headers = {"Authorization": f"{scheme} {ana.access_token}"}
            assert (await ana.client.get("/auth/me", headers=headers)).status_code == 200

    async def test_with_two_headers_is_401(self, ana: Person, bob: Person) -> None:
        headers = [
            ("Authorization", f"Bearer {ana.access_token}"),
            ("Authorization", f"Bearer {bob.access_token}"),
        ]
        assert (await ana.client.get("/auth/me", headers=headers)).status_code == 401

    async def test_takes_no_token_from_the_query_or_a_cookie(self, ana: Person) -> None:
        path = f"/auth/me?token={ana.access_token}&access_token={ana.access_token}"
        cookies = {"Cookie": f"access_token={ana.access_token}"}
        assert (await ana.client.get(path, headers=cookies)).status_code == 401
