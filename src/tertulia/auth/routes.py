"""`/auth`: register, log in, and look after one's sessions and API keys."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter, Request, Response, status

from tertulia.auth.dependencies import Auth, ClientAddress, CurrentCaller, CurrentLogin, CurrentUser
from tertulia.auth.schemas import (
    AccountDeletion,
    ApiKeyCreate,
    ApiKeyResponse,
    LoginRequest,
    NewApiKeyResponse,
    PasswordChange,
    RefreshRequest,
    SessionResponse,
    Token,
    UserCreate,
    UserResponse,
)
from tertulia.auth.service import Tokens
from tertulia.domain.users import ApiKey, User
from tertulia.http.paging import Cursor, Limit, show_page

router = APIRouter(prefix="/auth", tags=["auth"])


@router.post("/register", status_code=status.HTTP_201_CREATED, response_model=UserResponse)
async def register(body: UserCreate, auth: Auth) -> User:
    """Make an account. 400 if the e-mail address or the name is taken, in any case or form."""
    return await auth.register(email=body.email, username=body.username, password=body.password)


@router.post("/login", response_model=Token)
async def login(body: LoginRequest, auth: Auth, address: ClientAddress) -> Tokens:
    """Begin a session: an access token for requests, a refresh token for the next one."""
    return await auth.login(email=body.email, password=body.password, address=address)


@router.post("/refresh", response_model=Token)
async def refresh(body: RefreshRequest, auth: Auth) -> Tokens:
    """Trade a refresh token for new tokens.

    Each is good once: when one comes a second time, its session ends, for somebody has a copy.
    """
    return await auth.refresh(body.refresh_token)


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def logout(caller: CurrentLogin, auth: Auth) -> None:
    """End this session, its access token included, at once."""
    assert caller.session_id is not None
    await auth.logout(caller.session_id, user_id=caller.user.id)


@router.post("/logout-all", status_code=status.HTTP_204_NO_CONTENT)
async def logout_all(caller: CurrentCaller, auth: Auth) -> None:
    """End all of the user's sessions at once, this one included. API keys stay."""
    await auth.logout_everywhere(caller.user.id)


@router.post("/password", response_model=Token)
async def change_password(
    body: PasswordChange, caller: CurrentCaller, auth: Auth, address: ClientAddress
) -> Tokens:
    """Change the password: all sessions end at once, and the answer is a new one. API keys stay."""
    return await auth.change_password(
        caller.user.id, current=body.current_password, new=body.new_password, address=address
    )


@router.get("/me", response_model=UserResponse)
async def show_me(user: CurrentUser) -> User:
    """Return the account behind the request."""
    return user


@router.delete("/me", status_code=status.HTTP_204_NO_CONTENT)
async def delete_me(
    body: AccountDeletion, caller: CurrentCaller, auth: Auth, address: ClientAddress
) -> None:
    """Delete the account and everything under it, for good."""
    await auth.delete_account(caller.user.id, password=body.password, address=address)


@router.get("/sessions")
async def list_sessions(
    *,
    request: Request,
    response: Response,
    caller: CurrentCaller,
    auth: Auth,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Sequence[SessionResponse]:
    """List the user's sessions that have not ended, newest first."""
    page = await auth.list_sessions(caller.user.id, limit=limit, cursor=cursor)
    return [
        SessionResponse(**asdict(session), is_current=session.id == caller.session_id)
        for session in show_page(request, response, page)
    ]


@router.delete("/sessions/{session_id}", status_code=status.HTTP_204_NO_CONTENT)
async def end_session(session_id: UUID, caller: CurrentCaller, auth: Auth) -> None:
    """End one of the user's sessions at once."""
    await auth.logout(session_id, user_id=caller.user.id)


@router.post("/api-keys", status_code=status.HTTP_201_CREATED)
async def create_api_key(body: ApiKeyCreate, caller: CurrentLogin, auth: Auth) -> NewApiKeyResponse:
    """Make an API key; not with another one. Its secret is in this answer and nowhere else."""
    days = body.expires_in_days
    lifetime = None if days is None else timedelta(days=days)
    made = await auth.create_api_key(caller.user.id, name=body.name, lifetime=lifetime)
    return NewApiKeyResponse(**asdict(made.api_key), key=made.secret)


@router.get("/api-keys", response_model=list[ApiKeyResponse])
async def list_api_keys(
    *,
    request: Request,
    response: Response,
    caller: CurrentCaller,
    auth: Auth,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Sequence[ApiKey]:
    """List the user's API keys, newest first."""
    page = await auth.list_api_keys(caller.user.id, limit=limit, cursor=cursor)
    return show_page(request, response, page)


@router.delete("/api-keys/{api_key_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_api_key(api_key_id: UUID, caller: CurrentCaller, auth: Auth) -> None:
    """Revoke an API key: it opens nothing from now on."""
    await auth.revoke_api_key(api_key_id, user_id=caller.user.id)
