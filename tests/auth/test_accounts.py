import pytest
from hypothesis import given
from hypothesis import strategies as st

from tertulia.auth.accounts import (
    check_email,
    check_key_name,
    check_password,
    check_username,
    checked,
)
from tertulia.domain.errors import Invalid


class TestCheckEmail:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("alice@example.com", "alice@example.com"),
            ("Alice@EXAMPLE.com", "Alice@example.com"),
            ("爱丽丝@例子.中国", "爱丽丝@例子.中国"),
            ("ali.ce+tag@xn--fsqu00a.xn--fiqs8s", "ali.ce+tag@例子.中国"),
        ],
    )
    def test_keeps_an_address_in_its_normal_form(self, given: str, kept: str) -> None:
        assert check_email(given) == kept

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "alice",
            "@example.com",
            "alice@",
            "alice@localhost",
            "alice@exam ple.com",
            " alice@example.com",
            "alice@example.com\n",
            "Alice <alice@example.com>",
            "a@b@example.com",
            "alice@127.0.0.1",
            "alice\u200b@example.com\u202e",
            "a" * 89 + "@example.com",
        ],
    )
    def test_refuses_what_is_no_address(self, text: str) -> None:
        with pytest.raises(ValueError, match="Must be"):
            check_email(text)

    @given(st.text(max_size=40).map(lambda text: f"{text}@{text}.com"))
    def test_never_fails_in_another_way(self, text: str) -> None:
        try:
            assert len(check_email(text)) <= 100
        except ValueError as error:
            assert str(error).startswith("Must ")  # noqa: PT017  both ends are fine


class TestCheckUsername:
    @pytest.mark.parametrize(
        "name", ["ana", "Ana María", "爱丽丝", "أحمد", "o'neil_3", "한글이름", "प्रिया", "x" * 50]
    )
    def test_takes_names_of_any_script(self, name: str) -> None:
        assert check_username(name) == name

    @pytest.mark.parametrize("name", ["\u0301" * 4, "___", "...", "🔑🔑🔑", "- -"])
    def test_refuses_what_has_no_letter_and_no_digit(self, name: str) -> None:
        with pytest.raises(ValueError, match="Must have a letter or a digit"):
            check_username(name)

    @pytest.mark.parametrize(
        "name",
        [
            "an",
            "x" * 51,
            " ana",
            "ana ",
            "ana\u3000",
            "an  a",
            "ana\n",
            "a\tna",
            "a\u00a0na",
            "a\u200bna",
            "a\u202ena",
            "ana\u3164",
            "ana\ufe0f",
            "ana\u2800",
            "a\u034fna",
            "a\ue000na",
            "a\x00na",
            "a\ud800na",
        ],
    )
    def test_refuses_what_cannot_be_seen(self, name: str) -> None:
        with pytest.raises(ValueError, match="Must"):
            check_username(name)


class TestCheckPassword:
    @pytest.mark.parametrize(
        "password", ["123456", " " * 6, "密码密码密码", "🔑" * 128, "a\x07bcde"]
    )
    def test_takes_any_characters_as_they_are(self, password: str) -> None:
        assert check_password(password) == password

    @pytest.mark.parametrize("password", ["", "12345", "x" * 129])
    def test_refuses_other_lengths(self, password: str) -> None:
        with pytest.raises(ValueError, match="Must be 6 to 128 characters long"):
            check_password(password)


class TestCheckKeyName:
    def test_takes_one_visible_character(self) -> None:
        assert check_key_name("x") == "x"

    @pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101])
    def test_refuses_what_cannot_be_listed(self, name: str) -> None:
        with pytest.raises(ValueError, match="Must"):
            check_key_name(name)


def test_a_refusal_names_the_field_and_not_the_text() -> None:
    with pytest.raises(Invalid) as refused:
        checked(check_password, "short", "password")
    assert refused.value.field == "body.password"
    assert "short" not in refused.value.detail
