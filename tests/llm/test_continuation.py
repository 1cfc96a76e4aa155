from tertulia.llm.continuation import Seam


def joined(prefix: str, *texts: str) -> str:
    seam = Seam(prefix)
    return prefix + "".join(seam.join(text) for text in texts)


def test_white_space_at_the_end_is_not_sent() -> None:
    assert Seam("Once upon a \n").sent == "Once upon a"


def test_a_space_that_the_model_writes_again_is_not_doubled() -> None:
    assert joined("Once upon a ", " time") == "Once upon a time"


def test_white_space_told_again_in_pieces_is_not_doubled() -> None:
    assert joined("One.\n\n", "\n", "\n", "Two.") == "One.\n\nTwo."


def test_a_model_that_goes_on_without_the_space_loses_nothing() -> None:
    assert joined("Once upon a ", "time", " there") == "Once upon a time there"


def test_a_prefix_that_ends_in_a_word_is_simply_continued() -> None:
    assert joined("Once upon a ti", "me", " there") == "Once upon a time there"
