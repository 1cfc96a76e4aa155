"""Every setting, from the environment and `.env`. Read only by the composition root."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_SECRET_BYTES_MIN = 32
_FAMOUS_SECRETS = frozenset(
    {
        # FastAPI's and jwt.io's documentation.
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    }
)
_FAMOUS_BEGINNINGS = (
    "your-secret",
    "your_secret",
    "yoursecret",
    "changethis",
    "changeme",
    "change-me",
    "change_me",
    "change-this",
    "change_this",
    "django-insecure-",
    "insecure",
    "super secret",
    "super-secret",
    "supersecret",
)
_DISTINCT_CHARS_MIN = 6


def _also(name: str) -> AliasChoices:
    """Both the seeds' name and Tertulia's own."""
    return AliasChoices(f"TERTULIA_{name}", name)


def _split_at_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(name for part in value.split(",") if (name := part.strip()))


class Settings(BaseSettings):
    """Settings; each is an environment variable of the same name, prefixed by `TERTULIA_`.

    Those that have a name of their own in the seeds or in the field go by that one too.
    """

    model_config = SettingsConfigDict(
        env_prefix="TERTULIA_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(
        default=Path("tertulia-data"),
        description="Where the embedded PostgreSQL and the secret key live.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        validation_alias=_also("DATABASE_URL"),
        description="A PostgreSQL to use instead of the embedded one: postgresql://…",
    )
    database_wait_s: float = Field(
        default=30,
        ge=0,
        le=3600,
        description="Seconds that `serve` and `db upgrade` wait for that PostgreSQL to come up; "
        "what waiting cannot mend (a wrong password, an unknown host) ends them at once.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        validation_alias=_also("SECRET_KEY"),
        description="Signs access tokens; at least 32 characters. Required with DATABASE_URL, "
        "made and kept in the data directory without it.",
    )
    environment: Literal["production", "development"] = Field(
        default="development",
        description="`production` refuses to start on a PostgreSQL that may lose what it "
        "acknowledged (`fsync`, `full_page_writes` or `synchronous_commit` off).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important log lines that are written."
    )
    pool_size: int = Field(
        default=10,
        ge=6,
        le=200,
        description="Connections to PostgreSQL of one worker process, at most: one listens, three "
        "write answers, the rest are for requests.",
    )
    cors_origins: list[str] = Field(
        default_factory=list[str],
        description="Web origins that may call the API from a browser, as a JSON list.",
    )
    registration_open: bool = Field(
        default=True, description="Whether anybody may register; administrators always can."
    )
    access_token_minutes: int = Field(
        default=30,
        ge=1,
        le=1440,
        validation_alias=_also("ACCESS_TOKEN_EXPIRE_MINUTES"),
        description="How long an access token is good.",
    )
    refresh_token_days: int = Field(
        default=30, ge=1, le=365, description="How long a login lasts without being used."
    )
    default_model: str | None = Field(
        default=None,
        description="The model that answers when none is named, as `provider:model`. Default: the "
        "bundled model, or the first of a configured provider.",
    )
    models: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split_at_commas)] = Field(
        default=None,
        description="All models on offer besides the bundled one, as `provider:model`, with "
        "commas between. Default: those that the providers list; some list every model of the "
        "account, the dearest too.",
    )
    local_model: bool = Field(default=True, description="Whether the bundled model is offered.")
    local_model_path: Path | None = Field(
        default=None, description="A GGUF file to load instead of the bundled model."
    )
    openai_base_url: str | None = Field(
        default=None,
        validation_alias=_also("OPENAI_BASE_URL"),
        description="Any OpenAI-compatible server; default: OpenAI's own.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=_also("OPENAI_API_KEY"),
        description="Its key. Setting this or the base URL makes the provider `openai`.",
    )
    openai_continuation: Literal["none", "vllm", "llama.cpp", "deepseek"] = Field(
        default="none",
        description="How that server goes on from the beginning of an answer after a crash; "
        "`none`: it cannot, and an interrupted answer starts again.",
    )
    anthropic_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=_also("ANTHROPIC_API_KEY"),
        description="Makes the provider `anthropic` (extra `anthropic`).",
    )
    google_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=_also("GOOGLE_API_KEY"),
        description="Makes the provider `google` (extra `google`).",
    )
    mistral_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=_also("MISTRAL_API_KEY"),
        description="Makes the provider `mistral` (extra `mistral`).",
    )
    groq_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=_also("GROQ_API_KEY"),
        description="Makes the provider `groq` (extra `groq`).",
    )
    cohere_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TERTULIA_COHERE_API_KEY", "CO_API_KEY", "COHERE_API_KEY"),
        description="Makes the provider `cohere` (extra `cohere`).",
    )
    bedrock: bool = Field(
        default=False,
        description="Makes the provider `bedrock` (extra `bedrock`), with AWS's own credentials.",
    )
    system_prompt: str | None = Field(
        default=None, max_length=20_000, description="The operator's instruction to every model."
    )
    client_instructions: bool = Field(
        default=True,
        description="Whether `instructions`, `system` and `developer` messages that come over "
        "`/v1` instruct the model, after the operator. Off: they are a user's words there too.",
    )
    context_messages: int = Field(
        default=200,
        ge=1,
        le=2000,
        description="The newest messages of a branch that a model is told.",
    )
    mcp_config: Path | None = Field(
        default=None,
        description="A JSON file of the MCP servers whose tools runs can be given.",
    )
    mcp_rounds: int = Field(
        default=8,
        ge=1,
        le=100,
        description="How often a model may ask for their tools in one answer; then it has to "
        "answer without.",
    )
    mcp_call_s: float = Field(
        default=60, ge=1, le=3600, description="Seconds that one call of such a tool may take."
    )
    mcp_result_chars: int = Field(
        default=50_000,
        ge=1_000,
        le=1_000_000,
        description="Characters of a tool's result that a model is told.",
    )
    run_deadline_s: float = Field(
        default=600, ge=1, le=86_400, description="Seconds after which an unfinished answer fails."
    )
    run_attempts: int = Field(
        default=3, ge=1, le=10, description="How many processes may try one answer before it fails."
    )
    max_runs: int = Field(
        default=1000, ge=1, le=10_000, description="Answers that one worker process writes at once."
    )
    max_sockets: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="WebSockets that one user may have open at one worker process.",
    )
    drain_s: float = Field(
        default=10,
        ge=0,
        le=15,
        description="Seconds that answers which cannot be continued elsewhere are given to end "
        "when a process is told to stop.",
    )
    trust_proxy: bool = Field(
        default=False,
        description="Whether X-Forwarded-For and X-Forwarded-Proto are believed; only behind a "
        "proxy that sets them.",
    )
    max_body_bytes: int = Field(
        default=1_048_576, ge=1024, le=104_857_600, description="The largest request body."
    )
    max_history_bytes: int = Field(
        default=8_388_608,
        ge=1024,
        le=104_857_600,
        description="The same where clients send whole conversations, pictures included: `/v1`, "
        "`/ai-sdk` and `/ag-ui`.",
    )

    @model_validator(mode="after")
    def _secret_key_is_safe(self) -> "Settings":
        if self.database_url is None:
            return self
        if self.secret_key is None:
            raise ValueError(
                "SECRET_KEY is required with DATABASE_URL. Make one with: "
                'python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
            )
        return self

    @model_validator(mode="after")
    def _secret_key_is_no_famous_one(self) -> "Settings":
        if self.secret_key is not None:
            refuse_weak_secret(self.secret_key.get_secret_value())
        return self


def refuse_weak_secret(secret: str) -> None:
    """Accept a key that nobody will guess.

    Raises:
        ValueError: It is short, repeats itself, or stands in somebody's documentation.
    """
    if len(secret.encode()) < _SECRET_BYTES_MIN:
        raise ValueError(f"SECRET_KEY is too short: it needs at least {_SECRET_BYTES_MIN} bytes")
    if len(set(secret)) < _DISTINCT_CHARS_MIN:
        raise ValueError("SECRET_KEY repeats a few characters: anybody could guess it")
    lowered = secret.strip().lower()
    if lowered in _FAMOUS_SECRETS or lowered.startswith(_FAMOUS_BEGINNINGS):
        raise ValueError("SECRET_KEY stands in a documentation somewhere: make one of your own")
