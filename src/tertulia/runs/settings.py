"""A run's settings, between the wire, the row and the model."""

from typing import Any

from tertulia.domain.models import ModelSettings


def settings_to_json(settings: ModelSettings) -> dict[str, Any]:
    """Return the settings as they are stored: only those that were given."""
    values: dict[str, Any] = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
        "stop": list(settings.stop) or None,
        "tools": [dict(tool) for tool in settings.tools] or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def settings_from_json(values: dict[str, Any]) -> ModelSettings:
    """Return the settings that `settings_to_json` wrote."""
    return ModelSettings(
        temperature=values.get("temperature"),
        top_p=values.get("top_p"),
        max_tokens=values.get("max_tokens"),
        seed=values.get("seed"),
        stop=tuple(values.get("stop", ())),
        tools=tuple(values.get("tools", ())),
    )
