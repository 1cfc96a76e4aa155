import json
import re
from pathlib import Path

import pytest

from tertulia.llm import faults

TABLE = Path(__file__).parents[2] / "docs" / "provider-faults.md"


@pytest.mark.parametrize(
    ("status", "code", "stored", "may_retry"),
    [
        (400, "provider_rejected", 400, False),
        (401, "provider_unauthorized", 401, False),
        (403, "provider_unauthorized", 403, False),
        (404, "provider_rejected", 404, False),
        (408, "provider_timeout", 504, True),
        (409, "provider_rejected", 409, True),
        (413, "context_too_long", 400, False),
        (429, "provider_rate_limited", 429, True),
        (500, "provider_error", 502, True),
        (501, "provider_error", 502, False),
        (502, "provider_error", 502, True),
        (503, "provider_overloaded", 503, True),
        (504, "provider_timeout", 504, True),
        (529, "provider_overloaded", 503, True),
        (302, "provider_invalid_response", 502, False),
    ],
)
def test_each_status_has_one_outcome(status: int, code: str, stored: int, may_retry: bool) -> None:
    fault = faults.of_status(status)

    assert (fault.failure.code, fault.failure.status) == (code, stored)
    assert fault.may_retry is may_retry


def test_money_that_is_used_up_does_not_come_back_by_asking_again() -> None:
    body = json.dumps({"error": {"code": "insufficient_quota", "message": "no money"}}).encode()

    fault = faults.of_status(429, body)

    assert fault.failure.code == "provider_rate_limited"
    assert not fault.may_retry


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens",
        "request (5031 tokens) exceeds the available context size (2048 tokens)",
        "prompt is too long: 200001 tokens > 200000 maximum",
    ],
)
def test_a_context_that_is_too_long_is_recognised(message: str) -> None:
    failure = faults.of_status(400, json.dumps({"error": {"message": message}}).encode()).failure

    assert (failure.code, failure.status) == ("context_too_long", 400)
    assert message in failure.message


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "No such model"}},
        {"error": "No such model"},
        {"message": "No such model"},
        {"detail": "No such model"},
    ],
)
def test_the_words_of_a_refusal_are_found_in_every_common_shape(body: object) -> None:
    assert faults.upstream_message(json.dumps(body).encode()) == "No such model"


@pytest.mark.parametrize("body", [b"", b"<html>secret</html>", b"[1]", b"[" * 100_000, b"\xff"])
def test_a_refusal_in_an_unknown_shape_says_nothing(body: bytes) -> None:
    assert faults.upstream_message(body) == ""


def test_secrets_never_appear_in_a_message() -> None:
    said = (
        "Bad key sk-proj-abcdefghijklmnop or Bearer eyJhbGciOi.x at "
        "https://user:pa55word@host/v1 AIzaSyA1234567890abcdefghij gsk_abcdefgh123"
    )

    cleaned = faults.clean(said)

    for secret in ("abcdefghijklmnop", "eyJhbGciOi", "pa55word", "SyA12345", "gsk_abc"):
        assert secret not in cleaned
    assert "host/v1" in cleaned


def test_what_a_provider_says_is_one_bounded_printable_line() -> None:
    cleaned = faults.clean("a\n\x00\x1b[31mb\u2028c\ud800\u202e\u200b " + "x" * 10_000)

    assert cleaned.startswith("a [31mb c x")
    assert len(cleaned) <= faults.MAX_MESSAGE_CHARS


def test_refused_credentials_never_show_what_the_provider_said() -> None:
    body = b'{"error": {"message": "Incorrect API key provided: zz-topsecret"}}'

    assert "topsecret" not in faults.of_status(401, body).failure.message


def test_the_documented_codes_are_the_codes() -> None:
    documented = set(re.findall(r"^\| `(\w+)`", TABLE.read_text(encoding="utf-8"), re.MULTILINE))

    assert documented == faults.CODES


def test_the_documented_outages_are_the_outages() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in TABLE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]

    assert {row[0].strip("`") for row in rows if row[-1].startswith("yes")} == faults.OUTAGES
