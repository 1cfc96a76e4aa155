"""How an answer shall be, in pydantic-ai's words. Importing it imports pydantic-ai."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic_ai import exceptions
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings as TheirSettings
from pydantic_ai.tools import ToolDefinition

from tertulia.domain.errors import Invalid
from tertulia.domain.models import ModelSettings

from . import faults
from .patience import Patience

_JSON_MODES = frozenset({"google", "groq"})
"""The providers that can be asked for JSON of no schema; the others would be begged for it."""
_FORMAT = "body.response_format"
_CHOICE = "body.tool_choice"


def their_settings(settings: ModelSettings, patience: Patience) -> TheirSettings:
    """Return the settings in pydantic-ai's shape, with its SDKs' own retries off."""
    theirs = TheirSettings(
        max_retries=0,
        timeout=patience.connect_s + patience.first_byte_s + patience.stall_s,
        first_event_timeout=patience.connect_s + patience.first_byte_s,
    )
    if settings.temperature is not None:
        theirs["temperature"] = settings.temperature
    if settings.top_p is not None:
        theirs["top_p"] = settings.top_p
    if settings.max_tokens is not None:
        theirs["max_tokens"] = settings.max_tokens
    if settings.seed is not None:
        theirs["seed"] = settings.seed
    if settings.presence_penalty is not None:
        theirs["presence_penalty"] = settings.presence_penalty
    if settings.frequency_penalty is not None:
        theirs["frequency_penalty"] = settings.frequency_penalty
    if settings.tools and settings.parallel_tool_calls is not None:
        theirs["parallel_tool_calls"] = settings.parallel_tool_calls
    if settings.tools and settings.tool_choice is not None:
        theirs["tool_choice"] = _their_choice(settings.tool_choice)
    if settings.stop:
        theirs["stop_sequences"] = list(settings.stop)
    return theirs


def their_parameters(settings: ModelSettings) -> ModelRequestParameters:
    """Return the tools, and the form of the answer, in pydantic-ai's shape."""
    tools = [_their_tool(tool) for tool in settings.tools]
    match settings.response_format:
        case {"type": "json_schema", "json_schema": wanted}:
            return ModelRequestParameters(
                function_tools=tools,
                output_mode="native",
                output_object=_their_object(cast("Mapping[str, Any]", wanted)),
            )
        case {"type": "json_object"}:
            # The client has said in words what it wants: that is told, and nothing beside it.
            return ModelRequestParameters(
                function_tools=tools, output_mode="prompted", prompted_output_template=False
            )
        case _:
            return ModelRequestParameters(function_tools=tools)


def check(model: Model, provider: str, settings: ModelSettings, *, calls_tools: bool) -> None:
    """Make sure that the model can do what is asked of it, as far as is known here.

    Args:
        model: The model.
        provider: As pydantic-ai calls it.
        settings: What is asked.
        calls_tools: Whether it gets tools besides those in the settings.

    Raises:
        Invalid: It cannot, and would leave something out without a word.
    """
    profile = cast("Mapping[str, Any]", model.profile)
    form = (settings.response_format or {}).get("type")
    has_tools = calls_tools or bool(settings.tools)
    knows_schemas = profile.get("supports_json_schema_output", False)
    if form == "json_schema":
        if not knows_schemas:
            raise Invalid("This model cannot be held to a JSON schema", field=_FORMAT)
        if (
            has_tools
            and provider == "google"
            and not profile.get("google_supports_tool_combination", False)
        ):
            raise Invalid("This model is held to a JSON schema or calls tools", field=_FORMAT)
    if form == "json_object":
        if provider not in _JSON_MODES or not profile.get("supports_json_object_output", False):
            instead = " without a schema; send a json_schema" if knows_schemas else ""
            raise Invalid(f"This model cannot be held to JSON{instead}", field=_FORMAT)
        if has_tools:
            raise Invalid("This model is held to JSON or calls tools", field=_FORMAT)
    if settings.tool_choice not in (None, "auto", "none") and not _can_be_forced(profile, provider):
        raise Invalid("This model cannot be made to call a tool; send auto", field=_CHOICE)
    try:
        model.prepare_request(their_settings(settings, Patience()), their_parameters(settings))
    except exceptions.UserError as error:
        raise Invalid(
            faults.clean(error.message), field=_CHOICE if form is None else _FORMAT
        ) from error


def _can_be_forced(profile: Mapping[str, Any], provider: str) -> bool:
    if provider == "bedrock" and not profile.get("bedrock_supports_tool_choice", False):
        return False
    return profile.get("supports_forced_tool_choice", True)


def _their_choice(choice: str | Mapping[str, Any]) -> Any:  # noqa: ANN401  a word, or names
    match choice:
        case {"function": {"name": str(name)}}:
            return [name]
        case _:
            return choice


def _their_object(wanted: Mapping[str, Any]) -> OutputObjectDefinition:
    return OutputObjectDefinition(
        json_schema=dict(wanted.get("schema") or {"type": "object"}),
        name=wanted.get("name"),
        description=wanted.get("description"),
        # Some are strict and nothing else: what need not be strict may be.
        strict=wanted.get("strict") or None,
    )


def _their_tool(tool: Mapping[str, Any]) -> ToolDefinition:
    """Return a function tool in OpenAI's shape as pydantic-ai's."""
    function: Mapping[str, Any] = tool.get("function", {})
    return ToolDefinition(
        name=str(function.get("name", "")),
        description=function.get("description"),
        parameters_json_schema=function.get("parameters") or {"type": "object", "properties": {}},
        strict=function.get("strict"),
    )
