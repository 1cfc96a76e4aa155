import math
from datetime import UTC, datetime

import pytest

from tertulia.llm.patience import Patience, parse_retry_after

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 2026 12:00:20 GMT", 20.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("٣", None),
        ("", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("9" * 400, math.inf),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now=NOW) == seconds


def test_the_pause_grows_to_a_limit_and_is_never_the_same_for_all() -> None:
    patience = Patience(backoff_base_s=0.5, backoff_cap_s=8.0)

    for retry, limit in [(0, 0.5), (1, 1.0), (3, 4.0), (10, 8.0)]:
        pauses = [patience.pause_s(retry, None) for _ in range(200)]
        assert 0 <= min(pauses) < limit / 4
        assert limit / 2 < max(pauses) <= limit


def test_the_pause_is_at_least_what_the_provider_asks_for() -> None:
    assert all(20 <= Patience().pause_s(0, 20.0) <= 20.5 for _ in range(100))
