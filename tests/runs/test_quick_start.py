"""Runs that are started with one statement, and those that are not."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tertulia.app import Application
from tertulia.domain.conversations import NewMessage, Role
from tertulia.domain.errors import ModelNotFound, Unauthenticated
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.ids import new_id
from tertulia.domain.models import ModelSettings
from tertulia.domain.parts import FilePart, TextPart, ToolResultPart
from tertulia.domain.runs import OnBusy
from tertulia.domain.users import Claim
from tertulia.runs.quick_start import QuickRun, QuickStart
from tertulia.runs.send import NewConversation, Send, user_says
from tertulia.runs.service import RunService
from tests.kit.stage import fetch
from tests.runs.talking import Talker

PICTURE = FilePart("image/png", "https://example.com/a.png")
UNLIKE = ("id", "conversation_id", "parent_id", "run_id", "message_id", "owner", "head_id", "marks")
"""What differs between any two, besides moments."""
MOMENTS = (
    "created_at",
    "updated_at",
    "started_at",
    "ended_at",
    "lease_until",
    "latency_ms",
    "first_token_ms",
    "provider_request_id",
)


@pytest.fixture
def service(app: Application) -> RunService:
    return app.fastapi.state.runs


@pytest.fixture
def quick(service: RunService) -> QuickStart:
    service.quick_start.learn(service.models.default)
    return service.quick_start


async def user_of(talker: Talker) -> UUID:
    return UUID((await talker.send("GET", "/auth/me")).json()["id"])


async def place_of(talker: Talker) -> UUID:
    return UUID((await talker.new_conversation()).rpartition("/")[2])


async def start(
    quick: QuickStart, talker: Talker, where: UUID, send: Send | None = None
) -> QuickRun | None:
    user_id = await user_of(talker)
    return await quick.start(where, send or Send.of_text("Hi"), new_id(), user_id=user_id)


async def rows_of(dsn: str, conversation_id: UUID) -> list[dict[str, Any]]:
    """Return what is stored of a conversation, without what differs between any two."""
    found: list[dict[str, Any]] = []
    for question in (
        "SELECT * FROM conversations WHERE id = $1",
        "SELECT * FROM messages WHERE conversation_id = $1 ORDER BY seq",
        "SELECT * FROM runs WHERE conversation_id = $1 ORDER BY seq",
    ):
        rows = await fetch(dsn, question, conversation_id)
        found += [
            {name: value for name, value in row.items() if name not in (*UNLIKE, *MOMENTS)}
            for row in rows
        ]
    return found


async def test_what_is_stored_is_the_same_as_by_the_long_way(
    service: RunService, ana: Talker, dsn: str
) -> None:
    stored: list[list[dict[str, Any]]] = []
    was_quick: list[bool] = []
    send = Send(messages=[NewMessage(Role.USER, (TextPart("See"), PICTURE))])
    for _ in range(2):
        where, user_id = await place_of(ana), await user_of(ana)
        # Nothing is known of labels before the first, so it goes the long way.
        was_quick.append(await start(service.quick_start, ana, await place_of(ana)) is not None)
        for _ in range(2):
            started = await service.start(where, send, user_id=user_id)
            await ana.ended({"id": started.run.id})
        stored.append(await rows_of(dsn, where))
    assert was_quick == [False, True]
    assert stored[0] == stored[1]
    assert len(stored[0]) == 1 + 4 + 2


async def test_the_first_message_of_a_conversation_need_not_be_read_again(
    quick: QuickStart, service: RunService, ana: Talker
) -> None:
    where = await place_of(ana)
    first = await start(quick, ana, where)
    assert first is not None
    assert first.branch == [user_says("Hi")]
    await service.cancel(first.run.id, user_id=await user_of(ana))
    second = await start(quick, ana, where)
    assert second is not None
    assert second.branch is None


@pytest.mark.parametrize(
    "send",
    [
        Send(),
        Send(messages=[user_says("Hi"), user_says("again")]),
        Send(messages=[NewMessage(Role.SYSTEM, (TextPart("Be brief"),))]),
        Send(messages=[NewMessage(Role.USER, (TextPart("Hi"),), id=new_id())]),
        Send(messages=[NewMessage(Role.USER, (ToolResultPart("call", "4"),))]),
        Send(messages=[user_says("Hi")], parent_id=new_id()),
        Send(messages=[user_says("Hi")], begins=True),
        Send(messages=[user_says("Hi")], keeps=True),
        Send(messages=[user_says("Hi")], title="A title"),
        Send(messages=[user_says("Hi")], mcp=["clock"]),
        Send(messages=[user_says("Hi")], tool_results=[ToolResultPart("call", "4")]),
        Send(messages=[user_says("Hi")], prepares=True),
    ],
)
async def test_whatever_is_not_just_a_users_words_goes_the_long_way(
    quick: QuickStart, ana: Talker, send: Send
) -> None:
    assert await start(quick, ana, await place_of(ana), send) is None


async def test_where_there_is_more_to_it_nothing_is_stored(
    quick: QuickStart, ana: Talker, bob: Talker, dsn: str
) -> None:
    foreign, busy, labelled, behind = [await place_of(ana) for _ in range(4)]
    assert await start(quick, ana, busy) is not None
    await ana.send("PATCH", f"/conversations/{labelled}", {"model_type": "openai:another"})
    made = [
        await ana.send(
            "POST", f"/conversations/{behind}/messages", {"role": "user", "content": words}
        )
        for words in ("one", "two")
    ]
    back = await ana.send("PATCH", f"/conversations/{behind}", {"head_id": made[0].json()["id"]})
    assert back.status_code == 200
    before = [await rows_of(dsn, where) for where in (foreign, busy, labelled, behind)]

    assert await start(quick, bob, foreign) is None
    for where in (new_id(), busy, labelled, behind):
        assert await start(quick, ana, where) is None
    user_id = await user_of(ana)
    assert (
        await quick.start(NewConversation(), Send.of_text("Hi"), new_id(), user_id=user_id) is None
    )

    assert [await rows_of(dsn, where) for where in (foreign, busy, labelled, behind)] == before


async def test_a_model_that_is_named_needs_no_label(quick: QuickStart, ana: Talker) -> None:
    where = await place_of(ana)
    await ana.send("PATCH", f"/conversations/{where}", {"model_type": "openai:another"})
    named = Send(messages=[user_says("Hi")], model_type=quick.models.default)
    started = await start(quick, ana, where, named)
    assert started is not None
    assert started.run.model_type == quick.models.default
    with pytest.raises(ModelNotFound):
        await start(quick, ana, where, Send(messages=[user_says("Hi")], model_type="no:such"))


async def test_of_many_at_once_one_is_started(quick: QuickStart, ana: Talker, dsn: str) -> None:
    where, user_id = await place_of(ana), await user_of(ana)
    send = Send.of_text("Hi")
    started = await asyncio.gather(
        *(quick.start(where, send, new_id(), user_id=user_id) for _ in range(12))
    )
    assert len([run for run in started if run is not None]) == 1
    assert len(await rows_of(dsn, where)) == 1 + 2 + 1


async def test_labels_are_forgotten_when_there_are_many(quick: QuickStart, ana: Talker) -> None:
    where = await place_of(ana)
    for number in range(16):
        quick.learn(f"openai:model-{number}")
    assert await start(quick, ana, where) is None
    quick.learn(quick.models.default)
    assert await start(quick, ana, where) is not None


@pytest.mark.parametrize(
    "send",
    [
        Send.of_text("Hi"),
        Send(messages=[user_says("Hi")], model_type="no:such"),
        Send(messages=[user_says("Hi")], settings=ModelSettings(response_format={})),
        Send(messages=[user_says("Hi")], settings=ModelSettings(tool_choice="")),
        Send(messages=[user_says("Hi")], parent_id=new_id()),
        Send(messages=[user_says("Hi")], on_busy=OnBusy.QUEUE),
        Send(),
    ],
)
@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
async def test_nothing_is_started_by_a_claim_that_does_not_hold(
    service: RunService, quick: QuickStart, ana: Talker, send: Send, *, leaves: bool, keyed: bool
) -> None:
    where, user_id = await place_of(ana), await user_of(ana)
    assert quick.models is service.models
    idempotent = IdempotentRequest(str(new_id()), b"") if keyed else None
    claim = Claim(user_id, session_id=new_id(), expires_at=datetime(2999, 1, 1, tzinfo=UTC))
    if leaves:
        service = replace(service, executor=replace(service.executor, max_runs=0))
    with pytest.raises(Unauthenticated):
        await service.start(where, send, user_id=user_id, idempotent=idempotent, claim=claim)
    assert not await service.list(where, user_id=user_id, limit=5)
