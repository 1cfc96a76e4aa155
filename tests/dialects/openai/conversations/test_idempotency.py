"""A request with a key happens once."""

from typing import Any
from uuid import uuid1

import pytest

from tests.kit.person import Person


async def post(person: Person, path: str, body: dict[str, Any], key: str) -> Any:  # noqa: ANN401  JSON
    headers = {"Idempotency-Key": key}
    return await person.call("POST", f"/v1/conversations{path}", json=body, headers=headers)


@pytest.fixture
def key() -> str:
    return uuid1().hex


async def made(person: Person) -> str:
    return str((await person.call("POST", "/v1/conversations", json={})).json()["id"])


async def test_a_conversation_is_made_once(ana: Person, key: str) -> None:
    body = {"items": [{"role": "user", "content": "Hello"}], "metadata": {"a": "b"}}
    one, two = [await post(ana, "", body, key) for _ in range(2)]
    assert one.json() == two.json()
    assert ("idempotent-replayed" in one.headers, "idempotent-replayed" in two.headers) == (
        False,
        True,
    )
    listed = (await ana.call("GET", "/v1/conversations")).json()["data"]
    assert [each["id"] for each in listed] == [one.json()["id"]]
    other = await post(ana, "", {"metadata": {"a": "c"}}, key)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")


async def test_items_are_added_once(ana: Person, key: str) -> None:
    path = f"/{await made(ana)}/items"
    items = [{"role": "user", "content": f"m{number}"} for number in range(20)]
    one, two = [await post(ana, path, {"items": items}, key) for _ in range(2)]
    assert one.json() == two.json()
    assert len(one.json()["data"]) == 20
    assert "idempotent-replayed" not in one.headers
    assert two.headers["idempotent-replayed"] == "true"
    found = (await ana.call("GET", f"/v1/conversations{path}?limit=100&order=asc")).json()
    assert found["data"] == one.json()["data"]
    other = await post(ana, path, {"items": items[:1]}, key)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
    elsewhere = await post(ana, f"/{await made(ana)}/items", {"items": items}, key)
    assert elsewhere.json()["error"]["code"] == "idempotency_key_reused"


async def test_items_that_are_gone_are_not_made_again(ana: Person, key: str) -> None:
    path = f"/{await made(ana)}/items"
    items = [{"role": "user", "content": text} for text in ("One", "Two", "Three")]
    one = (await post(ana, path, {"items": items}, key)).json()["data"]
    await ana.call("DELETE", f"/v1/conversations{path}/{one[0]['id']}")
    again = (await post(ana, path, {"items": items}, key)).json()["data"]
    assert again == one[1:]


async def test_the_keys_of_two_users_are_unrelated(ana: Person, bob: Person, key: str) -> None:
    hers = (await post(ana, "", {}, key)).json()["id"]
    his = (await post(bob, "", {}, key)).json()["id"]
    assert hers != his
