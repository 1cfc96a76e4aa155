"""The bundled model, really run."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from tertulia.domain.errors import ModelNotFound
from tertulia.domain.models import (
    Delta,
    Finish,
    ModelRequest,
    ModelSettings,
    PromptMessage,
    ProviderFailed,
    TextDelta,
)
from tertulia.domain.parts import TextPart
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.local import LocalModel, bundled_model_path

from .conftest import ask, text_in, until

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("local_model")]

GREEDY = ModelSettings(temperature=0.0, max_tokens=24, seed=1)
MODEL = "local:smollm2"


@pytest.fixture
async def local() -> AsyncIterator[LocalModel]:
    path = bundled_model_path()
    assert path is not None
    local = LocalModel(path, context_tokens=512, parallel=2)
    yield local
    await local.close()


async def answer(local: LocalModel, request: ModelRequest) -> list[Delta]:
    return [delta async for delta in local.stream(request)]


async def test_it_streams_an_answer_and_counts_its_tokens(local: LocalModel) -> None:
    deltas = await answer(local, ask("Tell me about Paris.", model=MODEL, settings=GREEDY))

    assert "Paris" in text_in(deltas)
    assert len(deltas) > 5
    finish = deltas[-1]
    assert isinstance(finish, Finish)
    assert (finish.reason, finish.usage.response_tokens) == ("length", 24)
    assert (finish.usage.prompt_tokens or 0) > 10


@pytest.mark.parametrize("cut", [10, 33, -1])
async def test_it_goes_on_from_the_beginning_of_an_answer(local: LocalModel, cut: int) -> None:
    question = "Tell me about Paris."
    whole = text_in(await answer(local, ask(question, model=MODEL, settings=GREEDY)))
    prefix = whole[: whole.index(" ", cut) + 1] if cut > 0 else whole

    rest = text_in(await answer(local, ask(question, model=MODEL, settings=GREEDY, prefix=prefix)))

    assert rest
    assert not rest.startswith(prefix[:10])
    joined = prefix + rest
    assert "  " not in joined
    assert cut < 0 or joined.startswith(whole[: cut + 20])


async def test_cancelling_stops_it_and_makes_room(local: LocalModel) -> None:
    endless = ModelSettings(max_tokens=400)
    tasks = [
        asyncio.ensure_future(
            answer(local, ask("Tell a long story.", model=MODEL, settings=endless))
        )
        for _ in range(2)
    ]
    await asyncio.sleep(0.5)

    for task in tasks:
        task.cancel()

    async with asyncio.timeout(10):
        await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    # Two turns, both free again, or this would wait for 800 tokens.
    assert text_in(await answer(local, ask("Say hi.", model=MODEL, settings=GREEDY)))


async def test_more_answers_than_turns_all_come(local: LocalModel) -> None:
    short = ModelSettings(max_tokens=8)

    answers = await asyncio.gather(
        *(answer(local, ask(f"Number {n}?", model=MODEL, settings=short)) for n in range(5))
    )

    assert all(isinstance(deltas[-1], Finish) for deltas in answers)


async def test_the_event_loop_stays_free_while_it_writes(local: LocalModel) -> None:
    local.load()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    await answer(local, ask("Tell me about Paris.", model=MODEL, settings=GREEDY))
    ticking.cancel()

    assert ticks > 5


async def test_a_prompt_beyond_its_context_is_named(local: LocalModel) -> None:
    with pytest.raises(ProviderFailed) as failed:
        await answer(local, ask("word " * 2000, model=MODEL))

    assert (failed.value.code, failed.value.status) == ("context_too_long", 400)


async def test_a_question_that_it_has_no_answer_to_is_asked_again(local: LocalModel) -> None:
    # Asked greedily, the model ends its answer to this before the first word.
    deltas = await answer(local, ask("word " * 300, model=MODEL, settings=GREEDY))

    assert text_in(deltas)


async def test_tools_are_left_out(local: LocalModel) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    settings = ModelSettings(max_tokens=4, tools=(tool,))

    deltas = await answer(local, ask("Hello", model=MODEL, settings=settings))

    assert isinstance(deltas[0], TextDelta)


async def test_instructions_and_history_are_read(local: LocalModel) -> None:
    talk = [
        PromptMessage(role, (TextPart(text),))
        for role, text in [
            ("system", "Answer with one word."),
            ("user", "My dog is called Rex. What is it called?"),
            ("assistant", "Rex."),
            ("user", "What is the name of my dog?"),
        ]
    ]

    deltas = await answer(local, ModelRequest(MODEL, talk, GREEDY))

    assert "Rex" in text_in(deltas)


async def test_the_catalog_knows_its_one_model(local: LocalModel) -> None:
    catalog = ModelCatalog({"local": local}, default=MODEL)

    assert [info.name for info in await catalog.list()] == [MODEL]
    assert catalog.info(MODEL).context_tokens == 512
    with pytest.raises(ModelNotFound):
        catalog.resolve("local:other")
    assert catalog.resolve("local:other", strict=False) == MODEL
    assert catalog.resolve("other", strict=False) == MODEL
    deltas = [d async for d in catalog.stream(ask("Hi", model=MODEL, settings=GREEDY))]
    assert isinstance(deltas[-1], Finish)
    assert deltas[-1].usage.cost_usd == Decimal(0)


async def test_loading_leaves_the_handlers_of_signals_alone(local: LocalModel) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        local.load()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: bool(received))
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_it_can_be_closed_at_any_moment_and_loaded_again() -> None:
    path = bundled_model_path()
    assert path is not None
    for _ in range(5):
        local = LocalModel(path, context_tokens=256, parallel=1)
        local.load()
        await local.close()


async def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"no model")

    with pytest.raises(ProviderFailed) as failed:
        LocalModel(path).load()

    assert failed.value.code == "provider_unavailable"
    assert "broken.gguf" in failed.value.message


def test_it_is_silent_and_a_process_that_never_closed_it_ends() -> None:
    program = """
import asyncio
from tests.llm.conftest import ask
from tertulia.domain.models import ModelSettings
from tertulia.llm.local import LocalModel, bundled_model_path

async def main():
    local = LocalModel(bundled_model_path(), context_tokens=256, parallel=1)
    async for _ in local.stream(ask("Hi", settings=ModelSettings(max_tokens=3))):
        pass
    await local._api.close()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_it_counts_what_it_reads(local: LocalModel) -> None:
    short = ModelSettings(max_tokens=1)
    for text in ("Hello there", "今天我们讨论数据库", "3.14159 " * 9):
        request = ask(text, model=MODEL, settings=short)
        finish = (await answer(local, request))[-1]
        assert isinstance(finish, Finish)
        assert await local.count_tokens(request) == finish.usage.prompt_tokens


async def test_what_it_can_never_read_is_estimated(local: LocalModel) -> None:
    request = ask("x" * 3_000_000, model=MODEL)
    assert await local.count_tokens(request) == 1_000_008
