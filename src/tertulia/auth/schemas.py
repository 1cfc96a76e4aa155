"""The wire shapes of accounts. What is written is strict: no unknown fields, no coercion."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from tertulia.auth.accounts import (
    EMAIL_CHARS_MAX,
    KEY_NAME_CHARS_MAX,
    PASSWORD_CHARS_MAX,
    PASSWORD_CHARS_MIN,
    USERNAME_CHARS_MAX,
    USERNAME_CHARS_MIN,
    check_email,
    check_key_name,
    check_username,
)
from tertulia.auth.tokens import TOKEN_CHARS_MAX

KEY_DAYS_MAX = 3650

Email = Annotated[
    str,
    Field(max_length=EMAIL_CHARS_MAX),
    AfterValidator(check_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": EMAIL_CHARS_MAX}),
]
Username = Annotated[
    str,
    Field(
        min_length=USERNAME_CHARS_MIN,
        max_length=USERNAME_CHARS_MAX,
        description="Visible characters of any script, a letter or digit among them, and single "
        "spaces within. Unique without regard to case and Unicode form.",
    ),
    AfterValidator(check_username),
]
NewPassword = Annotated[
    str,
    Field(
        min_length=PASSWORD_CHARS_MIN,
        max_length=PASSWORD_CHARS_MAX,
        json_schema_extra={"format": "password"},
        repr=False,
    ),
]
# A password that is only compared may be too short to be anybody's: that is a wrong one, not a
# malformed request.
Password = Annotated[
    str,
    Field(max_length=PASSWORD_CHARS_MAX, json_schema_extra={"format": "password"}, repr=False),
]


class Written(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Shown(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True)


class UserCreate(Written):
    """A new account."""

    email: Email
    username: Username
    password: NewPassword


class LoginRequest(Written):
    """An address and its password."""

    email: Email
    password: Password


class RefreshRequest(Written):
    """The refresh token of a session."""

    refresh_token: Annotated[str, Field(max_length=TOKEN_CHARS_MAX, repr=False)]


class PasswordChange(Written):
    """The password there is, and the one there shall be."""

    current_password: Password
    new_password: NewPassword


class AccountDeletion(Written):
    """The password, to confirm what cannot be undone."""

    password: Password


class ApiKeyCreate(Written):
    """A new API key."""

    name: Annotated[
        str, Field(min_length=1, max_length=KEY_NAME_CHARS_MAX), AfterValidator(check_key_name)
    ]
    expires_in_days: Annotated[
        int | None, Field(ge=1, le=KEY_DAYS_MAX, description="Null: until it is revoked.")
    ] = None


class UserResponse(Shown):
    """An account."""

    id: UUID
    email: str
    username: str
    is_active: bool
    is_admin: bool
    created_at: datetime


class Token(Shown):
    """The tokens of a session."""

    access_token: Annotated[str, Field(repr=False)]
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  the name of a kind
    expires_in: Annotated[int, Field(description="Seconds until the access token ends.")]
    refresh_token: Annotated[
        str, Field(repr=False, description="Good for one `POST /auth/refresh`.")
    ]


class SessionResponse(Shown):
    """A login that has not ended."""

    id: UUID
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    is_current: Annotated[bool, Field(description="Whether this request belongs to it.")]


class ApiKeyResponse(Shown):
    """An API key, without its secret."""

    id: UUID
    name: str
    prefix: Annotated[str, Field(description="The first characters of the secret.")]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="To a minute.")]


class NewApiKeyResponse(ApiKeyResponse):
    """An API key with its secret, which is shown this once."""

    key: Annotated[str, Field(repr=False, description="`sk-…`; it cannot be read again.")]
