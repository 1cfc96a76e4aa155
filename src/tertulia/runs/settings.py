"""How an answer is asked for, between the wire, the row and the model."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tertulia.domain.models import ModelSettings

_LISTS = frozenset({"stop", "tools"})


def settings_to_json(settings: ModelSettings) -> dict[str, Any]:
    """Return the settings as they are stored: only those that were given."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {
        name: list(value) if name in _LISTS else value
        for name, value in values.items()
        if value is not None and value != ()
    }


def settings_from_json(values: Mapping[str, Any]) -> ModelSettings:
    """Return the settings that `settings_to_json` wrote, without what else is stored with them."""
    given: dict[str, Any] = {
        field.name: tuple(values[field.name]) if field.name in _LISTS else values[field.name]
        for field in fields(ModelSettings)
        if field.name in values
    }
    return ModelSettings(**given)
