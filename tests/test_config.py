"""Settings come from the environment, and unsafe ones are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tertulia.config import Settings

GOOD_SECRET = "Zx7-qL2v_Tn9wRk4mYb8cHd1sGf6jPe3"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Environment variables are the interface under test, so they are what is set and unset."""
    monkeypatch.chdir(tmp_path)  # no `.env` here
    for name in ("DATABASE_URL", "SECRET_KEY", "TERTULIA_DATABASE_URL", "TERTULIA_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)


def settings() -> Settings:
    return Settings()


def test_a_server_needs_no_settings() -> None:
    assert settings().database_url is None


@pytest.mark.parametrize("name", ["DATABASE_URL", "TERTULIA_DATABASE_URL"])
def test_both_names_of_the_database_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "postgresql://u:p@h/d")
    monkeypatch.setenv("SECRET_KEY", GOOD_SECRET)
    url = settings().database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:p@h/d"


def test_a_database_of_ones_own_needs_a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/d")
    with pytest.raises(ValidationError, match="SECRET_KEY is required"):
        settings()


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("short", "too short"),
        ("x" * 64, "repeats"),
        ("abab" * 16, "repeats"),
        ("your-secret-key-here-your-secret-key-here", "documentation"),
        ("changethis-changethis-changethis-now", "documentation"),
        ("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "documentation"),
    ],
)
def test_a_key_that_could_be_guessed_is_refused(
    secret: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", secret)
    with pytest.raises(ValidationError, match=reason):
        settings()


def test_a_refused_key_is_not_repeated_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "my-short-secret")
    with pytest.raises(ValidationError) as refused:
        settings()
    assert "my-short-secret" not in str(refused.value)


def test_secrets_do_not_show_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("SECRET_KEY", GOOD_SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    text = repr(settings())
    assert not any(secret in text for secret in ("hunter2", GOOD_SECRET, "sk-hidden"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TERTULIA_POOL_SIZE", "0"),
        ("TERTULIA_RUN_ATTEMPTS", "1000"),
        ("TERTULIA_DRAIN_S", "-1"),
        ("TERTULIA_LOG_LEVEL", "loud"),
    ],
)
def test_every_setting_has_its_bounds(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        settings()


@pytest.mark.parametrize(
    ("value", "models"),
    [
        ("", None),
        ("openai:gpt-4o", ("openai:gpt-4o",)),
        (" openai:ft:a , anthropic:b,", ("openai:ft:a", "anthropic:b")),
    ],
)
def test_the_models_on_offer_are_named_with_commas_between(
    value: str, models: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERTULIA_MODELS", value)

    assert settings().models == models
