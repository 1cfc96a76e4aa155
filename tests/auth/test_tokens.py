import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tertulia.auth.tokens import (
    AccessTokens,
    RefreshToken,
    Secret,
    is_api_key,
    new_api_key,
)
from tertulia.domain.errors import Unauthenticated
from tertulia.domain.ids import new_id

from .people import SECRET_KEY

USER_ID = UUID("019c4c5e-0000-7000-8000-0000000000a1")
SESSION_ID = UUID("019c4c5e-0000-7000-8000-0000000000b2")
ISSUED_AT = datetime(2026, 2, 11, 12, 0, 0, 900_000, tzinfo=UTC)
CLAIMS: dict[str, Any] = {
    "iss": "tertulia",
    "sub": str(USER_ID),
    "sid": str(SESSION_ID),
    "typ": "access",
    "iat": 1_770_811_200,
    "exp": 1_770_813_000,
    "jti": "one",
}

tokens = AccessTokens(SECRET_KEY)


def signed(claims: object, *, header: object = None, key: str = SECRET_KEY) -> str:
    """Sign whatever it is, as no honest library would."""
    head = json.dumps({"alg": "HS256", "typ": "JWT"} if header is None else header)
    body = claims if isinstance(claims, str) else json.dumps(claims)
    message = f"{_encoded(head.encode())}.{_encoded(body.encode())}"
    signature = hmac.digest(key.encode(), message.encode(), hashlib.sha256)
    return f"{message}.{_encoded(signature)}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def assert_refused(token: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        tokens.read(token)
    assert refused.value.code == "unauthenticated"


class TestIssue:
    def test_is_read_again(self) -> None:
        token = tokens.issue(
            user_id=USER_ID,
            session_id=SESSION_ID,
            issued_at=ISSUED_AT,
            lifetime=timedelta(minutes=30),
        )
        claims = tokens.read(token)
        assert (claims.user_id, claims.session_id) == (USER_ID, SESSION_ID)
        assert claims.expires_at == datetime(2026, 2, 11, 12, 30, tzinfo=UTC)

    def test_carries_every_claim(self) -> None:
        token = tokens.issue(
            user_id=USER_ID,
            session_id=SESSION_ID,
            issued_at=ISSUED_AT,
            lifetime=timedelta(minutes=30),
        )
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})  # pyright: ignore[reportUnknownMemberType]
        assert claims | {"jti": "one"} == CLAIMS

    @pytest.mark.parametrize("secret_key", ["", "short", "x" * 31])
    def test_needs_a_long_key(self, secret_key: str) -> None:
        with pytest.raises(ValueError, match="shorter than 32 bytes"):
            AccessTokens(secret_key)


class TestRead:
    def test_takes_what_was_signed_here(self) -> None:
        assert tokens.read(signed(CLAIMS)).user_id == USER_ID

    @pytest.mark.parametrize("claim", sorted(CLAIMS))
    def test_refuses_a_token_without_one_of_its_claims(self, claim: str) -> None:
        assert_refused(signed({name: CLAIMS[name] for name in CLAIMS if name != claim}))

    @pytest.mark.parametrize(
        "changed",
        [
            {"typ": "refresh"},
            {"typ": None},
            {"iss": "somebody"},
            {"aud": "somebody"},
            {"sub": 7},
            {"sub": "alice"},
            {"sub": None},
            {"sid": [1]},
            {"sid": ""},
            {"exp": "1770813000"},
            {"exp": True},
            {"exp": 1.5},
            {"exp": 10**30},
            {"exp": -(10**30)},
            {"exp": None},
            {"jti": 1},
            {"nbf": 99_999_999_999},
        ],
    )
    def test_refuses_claims_that_are_not_what_they_should_be(self, changed: dict[str, Any]) -> None:
        assert_refused(signed({**CLAIMS, **changed}))

    @pytest.mark.parametrize("name", ["none", "None", "HS384", "RS256", "", None, 5])
    def test_refuses_every_other_algorithm(self, name: object) -> None:
        assert_refused(signed(CLAIMS, header={"alg": name, "typ": "JWT"}))

    def test_refuses_an_unsigned_token(self) -> None:
        assert_refused(jwt.encode(CLAIMS, "", algorithm="none"))  # pyright: ignore[reportUnknownMemberType]

    def test_refuses_a_token_whose_signature_was_cut_off(self) -> None:
        assert_refused(signed(CLAIMS).rpartition(".")[0] + ".")

    def test_refuses_another_key(self) -> None:
        assert_refused(signed(CLAIMS, key="another-secret-key-that-is-long-enough"))

    def test_refuses_another_payload_under_the_same_signature(self) -> None:
        head, _, signature = signed(CLAIMS).split(".")
        _, body, _ = signed({**CLAIMS, "sub": str(new_id())}).split(".")
        assert_refused(f"{head}.{body}.{signature}")

    @pytest.mark.parametrize(
        "header",
        [
            {"alg": "HS256", "crit": ["exp"]},
            {"alg": "HS256", "b64": False},
            {"alg": "HS256", "kid": 5},
            [],
            "HS256",
            {},
        ],
    )
    def test_refuses_strange_headers(self, header: object) -> None:
        assert_refused(signed(CLAIMS, header=header))

    @pytest.mark.parametrize(
        "token",
        [
            "",
            ".",
            "..",
            "a.b.c",
            "é.é.é",
            "\ud800",
            "\x00",
            " " + signed(CLAIMS),
            signed(CLAIMS) + ".more",
            signed("[" * 900),
            signed("[]"),
            signed('"text"'),
            f"{_encoded(b'[' * 3000)}.e30.x",
            f"{_encoded(b'{' * 10)}.e30.x",
            signed({**CLAIMS, "more": "x" * 5000}),
        ],
    )
    def test_refuses_what_is_no_token(self, token: str) -> None:
        assert_refused(token)

    @given(st.text(max_size=200))
    def test_refuses_any_text(self, text: str) -> None:
        assert_refused(text)

    @given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
    def test_refuses_any_three_segments(self, head: bytes, body: bytes, signature: bytes) -> None:
        assert_refused(".".join(map(_encoded, (head, body, signature))))


class TestRefreshToken:
    def test_says_what_it_is(self) -> None:
        token = RefreshToken.first(SESSION_ID)
        assert token.session_id == SESSION_ID
        assert RefreshToken.read(token.text) == token

    def test_has_its_family_in_common_with_the_next(self) -> None:
        token = RefreshToken.first(SESSION_ID)
        following = token.next()
        assert (following.session_id, following.family) == (SESSION_ID, token.family)
        assert following.own != token.own

    def test_is_never_twice_the_same(self) -> None:
        one, other = (RefreshToken.first(SESSION_ID) for _ in range(2))
        assert len({one.family, one.own, other.family, other.own}) == 4

    def test_does_not_show_itself_when_printed(self) -> None:
        token = RefreshToken.first(SESSION_ID)
        assert token.family.text not in repr(token)
        assert token.own.text not in repr(token)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "rt_",
            f"rt_{SESSION_ID.hex}_short",
            f"rt_{SESSION_ID.hex}_{'a' * 43}",
            f"rt_{SESSION_ID.hex}_{'a' * 43}.{'a' * 42}",
            f"rt_{SESSION_ID.hex}_{'a' * 87}",
            f"rt_{SESSION_ID.hex.upper()}_{'a' * 43}.{'a' * 43}",
            f"rt_{SESSION_ID}_{'a' * 43}.{'a' * 43}",
            f"rt_{SESSION_ID.hex}_{'a' * 43}.{'a' * 43}\n",
            f"rt_{'٣' * 32}_{'a' * 43}.{'a' * 43}",
            "sk-" + "a" * 43,
            "\ud800",
        ],
    )
    def test_anything_else_is_none(self, text: str) -> None:
        with pytest.raises(Unauthenticated):
            RefreshToken.read(text)


class TestApiKey:
    def test_has_the_form_it_is_recognised_by(self) -> None:
        key = new_api_key()
        assert is_api_key(key.text)
        assert len(key.text) == 46

    def test_is_never_twice_the_same(self) -> None:
        assert new_api_key().text != new_api_key().text

    @pytest.mark.parametrize("text", ["sk-", "sk-" + "a" * 42, "sk-" + "a" * 43 + "\n", "rt_"])
    def test_anything_else_is_none(self, text: str) -> None:
        assert not is_api_key(text)


def test_a_secret_does_not_show_itself_when_printed() -> None:
    secret = Secret("sk-secret")
    assert "secret" not in repr(secret).replace("Secret", "")
    assert secret.hash == hashlib.sha256(b"sk-secret").digest()
