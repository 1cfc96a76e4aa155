"""What is told of a conversation that is longer than what is usually told."""

from typing import Any
from uuid import uuid1

import pytest

from tests.dialects.conftest import Server
from tests.dialects.openai.responses.test_compaction import conversation_of
from tests.dialects.openai.responses.test_sdk import MODEL
from tests.kit.person import Person


async def respond(person: Person, **body: Any) -> Any:  # noqa: ANN401  JSON
    return await person.call("POST", "/v1/responses", json={"model": MODEL, **body})


@pytest.mark.parametrize("store", [True, False])
async def test_disabled_leaves_nothing_out(ana: Person, server: Server, store: bool) -> None:
    tag = f"t{uuid1().hex}"
    name = await conversation_of(ana, 260, tag)
    answer = await respond(
        ana, conversation=name, input=f"{tag} last", truncation="disabled", store=store
    )
    assert answer.json()["truncation"] == "disabled"
    (call,) = server.calls(tag)
    assert len(call["messages"]) == 261


async def test_by_itself_a_conversation_goes_on_for_ever(ana: Person, server: Server) -> None:
    tag = f"t{uuid1().hex}"
    name = await conversation_of(ana, 260, tag)
    answer = await respond(ana, conversation=name, input=f"{tag} last")
    assert answer.json()["truncation"] == "auto"
    (call,) = server.calls(tag)
    assert len(call["messages"]) == 200


async def test_a_picture_is_told_in_a_copy_as_well(ana: Person, server: Server) -> None:
    tag = f"t{uuid1().hex}"
    # Of a size that no page of a list would hold.
    picture = f"data:image/png;base64,{uuid1().hex * 20_000}"
    content = [
        {"type": "input_text", "text": tag},
        {"type": "input_image", "image_url": picture},
    ]
    first = (await respond(ana, input=[{"role": "user", "content": content}])).json()
    await respond(ana, input=f"{tag}?", previous_response_id=first["id"], store=False)
    calls = server.calls(f"{tag}?")
    assert picture in str(calls[-1]["messages"])
