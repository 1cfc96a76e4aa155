import json

from hypothesis import given
from hypothesis import strategies as st

from tertulia.domain.models import ModelSettings
from tertulia.runs.settings import settings_from_json, settings_to_json

_SETTINGS = st.builds(
    ModelSettings,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0.1, 1),
    max_tokens=st.none() | st.integers(1, 10**6),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(st.text(min_size=1, max_size=5), max_size=4).map(tuple),
    tools=st.just(()) | st.just(({"type": "function", "function": {"name": "f"}},)),
)


@given(_SETTINGS)
def test_settings_come_back_from_the_row_as_they_were(settings: ModelSettings) -> None:
    assert settings_from_json(json.loads(json.dumps(settings_to_json(settings)))) == settings


def test_what_was_not_given_is_not_stored() -> None:
    assert settings_to_json(ModelSettings()) == {}
