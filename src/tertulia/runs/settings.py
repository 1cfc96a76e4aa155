"""How an answer is asked for, between the wire, the row and the model."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tertulia.domain.models import ModelSettings

_LISTS = frozenset({"stop", "tools"})
_ORDERED = frozenset({"tools", "tool_choice", "response_format", "echo"})
# Kept as JSON text: PostgreSQL's jsonb sorts keys, and models write in the order of a schema's.


def settings_to_json(settings: ModelSettings) -> dict[str, Any]:
    """Return the settings as they are stored: only those that were given."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {
        name: stored(name, list(value) if name in _LISTS else value)
        for name, value in values.items()
        if value is not None and value != ()
    }


def settings_from_json(values: Mapping[str, Any]) -> ModelSettings:
    """Return the settings that `settings_to_json` wrote, without what else is stored with them."""
    given: dict[str, Any] = {
        field.name: _given(field.name, values)
        for field in fields(ModelSettings)
        if field.name in values
    }
    return ModelSettings(**given)


def stored(name: str, value: Any) -> Any:  # noqa: ANN401  of any type
    """Return a setting as it is stored."""
    return json.dumps(value) if name in _ORDERED else value


def echo_in(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a protocol wanted to say of its run later; see `Send.echo`."""
    return _given("echo", values) if "echo" in values else {}


def _given(name: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401  of any type
    value = values[name]
    # Rows of the first release hold the values themselves.
    if name in _ORDERED and isinstance(value, str):
        value = json.loads(value)
    return tuple(value) if name in _LISTS else value
