from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tertulia.llm.exact_text import TextMender, storable

UTF16_UNITS = st.lists(st.integers(0, 0xFFFF).filter(lambda unit: unit != 0), max_size=20)


@given(st.text().map(lambda text: text.replace("\0", "")), st.lists(st.integers(0, 50)))
def test_sound_text_is_unchanged_however_it_is_cut(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    sound = text.encode("utf-8", "replace").decode()
    mender = TextMender()

    mended = "".join(mender.mend(sound[begin:end]) for begin, end in pairwise(edges))

    assert mended + mender.rest() == sound


@given(UTF16_UNITS)
def test_surrogates_split_over_deltas_are_joined_and_lone_ones_replaced(units: list[int]) -> None:
    mender = TextMender()

    mended = "".join(mender.mend(chr(unit)) for unit in units) + mender.rest()

    encoded = b"".join(unit.to_bytes(2, "little") for unit in units)
    assert mended == encoded.decode("utf-16-le", "replace")
    mended.encode()


def test_a_pair_in_two_deltas_is_one_character() -> None:
    mender = TextMender()

    assert mender.mend("a\ud83d") == "a"
    assert mender.mend("\ude00b") == "😀b"


def test_nul_cannot_be_stored_and_becomes_the_replacement_character() -> None:
    assert storable("a\0é") == "a\ufffdé"
    assert TextMender().mend("a\0b") == "a\ufffdb"
