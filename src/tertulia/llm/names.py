"""What a model may be called: `provider:model`, or a bare label."""

MAX_MODEL_NAME_CHARS = 200
"""Of the full name; longer than any in use (Amazon's ARNs have about 120)."""

_BARE_NAMES_MEAN = "openai"


def is_well_formed(name: str) -> bool:
    """Whether a model could be called so: no white space, no control or invisible characters."""
    return 0 < len(name) <= MAX_MODEL_NAME_CHARS and name.isprintable() and " " not in name


def full_name(name: str) -> str:
    """Return the name with its provider; a bare one means OpenAI's."""
    return name if ":" in name else f"{_BARE_NAMES_MEAN}:{name}"


def provider_of(name: str) -> str:
    """Return the part of a full name before its first colon."""
    return name.partition(":")[0]
