"""The bundled embedding model, really run."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tertulia.domain.embeddings import Vector
from tertulia.llm.e5 import DIMENSIONS, E5, bundled_embeddings_path

pytestmark = pytest.mark.model


@pytest.fixture
def e5() -> Iterator[E5]:
    folder = bundled_embeddings_path()
    assert folder is not None
    e5 = E5(folder)
    yield e5
    e5.close()


def nearness(one: Vector, other: Vector) -> float:
    """Return the cosine of the angle between two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_vector_has_its_dimensions_and_the_length_one(e5: E5) -> None:
    for vector in e5.embed(["Hello", "你好世界", "x" * 3000], "query"):
        assert len(vector) == DIMENSIONS
        assert math.isclose(nearness(vector, vector), 1.0, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("text", "similar", "different"),
    [
        ("The cat sleeps on the sofa", "A kitten naps on the couch", "Stock markets fell today"),
        ("猫在沙发上睡觉", "小猫在长沙发上打盹", "今天的股票市场下跌了"),
        ("猫在沙发上睡觉", "The cat sleeps on the sofa", "Stock markets fell today"),
        ("How do I reset my password?", "如何重置密码", "明天会下雨吗"),
    ],
)
def test_what_means_the_same_is_nearer_than_what_does_not(
    e5: E5, text: str, similar: str, different: str
) -> None:
    one, near, far = e5.embed([text, similar, different], "query")

    assert nearness(one, near) > nearness(one, far) + 0.05


def test_a_question_finds_the_passage_that_answers_it(e5: E5) -> None:
    passages = e5.embed(
        [
            "塞维利亚的春天气温约为二十度 适合旅行",
            "The Treaty of Tordesillas was signed in 1494 between Portugal and Castile.",
            "A tertulia is a gathering of people who meet in a café to talk.",
        ],
        "passage",
    )

    for question, answer in [
        ("When was the Treaty of Tordesillas signed?", 1),
        ("什么时候去塞维利亚旅行比较好", 0),
        ("What is a tertulia?", 2),
    ]:
        (asked,) = e5.embed([question], "query")
        found = max(range(3), key=lambda at: nearness(asked, passages[at]))
        assert found == answer, question


def test_queries_and_passages_are_read_differently(e5: E5) -> None:
    assert e5.embed(["Sevilla"], "query") != e5.embed(["Sevilla"], "passage")


def test_a_text_has_the_same_vector_alone_and_among_others(e5: E5) -> None:
    texts = ["one", "two words", "三个 字", "four " * 600]

    assert e5.embed(texts, "query") == [e5.embed([text], "query")[0] for text in texts]


def test_all_of_a_long_text_counts(e5: E5) -> None:
    text = "The cat sleeps on the sofa. " * 100
    one, other = e5.embed([text, text + "Stock markets fell today. " * 100], "passage")

    assert e5.count_tokens(text, "passage") > 512
    assert nearness(one, other) < 0.999


def test_tokens_are_counted(e5: E5) -> None:
    assert e5.count_tokens("hello", "query") < e5.count_tokens("hello hello hello", "query")
    assert e5.count_tokens("hello", "query") >= 4


@pytest.mark.parametrize(
    "text",
    [
        *("\ufdfa" * 20_000, "a\ufdfa" * 9, "\ufdfb" * 20_000, "\u3316" * 20_000),
        *("", " ", "\n" * 1000, "\0", "a\0b", "\ud800", "\U0010ffff" * 1000, "\u0301" * 20_000),
        *("👩‍👩‍👧‍👦" * 50, "\u202e\u200b\ufeff", "\u2581" * 1000, "a" * 20_000, "\u0085\ufffd"),
    ],
    ids=lambda text: f"{len(text)} of {text[:8]!a}",
)
def test_no_text_is_too_strange(e5: E5, text: str) -> None:
    assert e5.count_tokens(text, "query") > 0
    # The first thousands are enough to embed: that takes time, counting does not.
    (vector,) = e5.embed([text[:600]], "query")
    assert math.isclose(nearness(vector, vector), 1.0, abs_tol=1e-5)


def test_what_stands_behind_a_nul_counts_too(e5: E5) -> None:
    assert e5.embed(["cat\0dog"], "query") == e5.embed(["cat dog"], "query")


def test_threads_do_not_disturb_one_another(e5: E5) -> None:
    texts = [f"number {at} " * (at + 1) for at in range(12)]

    def embed(text: str) -> Vector:
        return e5.embed([text], "query")[0]

    alone = list(map(embed, texts))

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(embed, texts))

    assert together == alone


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    folder = bundled_embeddings_path()
    assert folder is not None
    engine = next(folder.glob("_engine*.so"))
    (tmp_path / engine.name).symlink_to(engine)
    (tmp_path / "e5-small-q4.bin").write_bytes(b"not a model")

    with pytest.raises(OSError, match="cannot be loaded"):
        E5(tmp_path)
