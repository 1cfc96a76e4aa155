import json

import pytest

from tertulia.domain.models import ProviderFailed
from tertulia.llm.openai_models import MAX_MODELS, listed_models, reasons


def test_names_and_context_lengths_are_read() -> None:
    items = [{"id": "a"}, {"id": "b", "max_model_len": 4096}, {"id": "c", "context_length": 8192}]

    assert listed_models(json.dumps({"data": items}).encode()) == [
        ("a", None),
        ("b", 4096),
        ("c", 8192),
    ]


def test_what_is_no_model_is_passed_over() -> None:
    items = [{"id": 5}, None, "x", {}, {"id": ""}, {"id": "good", "context_window": "large"}]

    assert listed_models(json.dumps({"data": items}).encode()) == [("good", None)]


@pytest.mark.parametrize("name", ["a b", "a\n", "a\x1b[0m", "a\u202eb", "\ud800", "x" * 300])
def test_a_name_that_nobody_could_ask_for_is_passed_over(name: str) -> None:
    items = [{"id": name}, {"id": "good"}]

    assert listed_models(json.dumps({"data": items}).encode()) == [("good", None)]


@pytest.mark.parametrize("size", [True, -1, 0, 10**30, 4096.0, "4096", [4096]])
def test_a_context_length_that_is_none_is_unknown(size: object) -> None:
    items = [{"id": "good", "max_model_len": size}]

    assert listed_models(json.dumps({"data": items}).encode()) == [("good", None)]


def test_the_list_is_bounded() -> None:
    items = [{"id": f"m{number}"} for number in range(MAX_MODELS + 5)]

    assert len(listed_models(json.dumps({"data": items}).encode())) == MAX_MODELS


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": 3}', b"[" * 100_000])
def test_what_is_no_list_is_an_invalid_response(body: bytes) -> None:
    with pytest.raises(ProviderFailed) as failure:
        listed_models(body)

    assert failure.value.code == "provider_invalid_response"


def test_models_that_reason_are_known_by_name() -> None:
    assert reasons("o3-mini")
    assert reasons("deepseek-reasoner")
    assert not reasons("gpt-4o")
