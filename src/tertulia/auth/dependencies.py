"""Who asks: what routes of any room depend on."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias, cast

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from starlette.requests import HTTPConnection

from tertulia.auth.service import AuthService
from tertulia.domain.errors import Forbidden, Unauthenticated
from tertulia.domain.users import Asker, Caller, User


async def auth_service(connection: HTTPConnection) -> AuthService:
    """Return the service that the app was built with."""
    return cast("AuthService", connection.app.state.auth)


CredentialsCheck: TypeAlias = Callable[[], Awaitable[None]]

Auth = Annotated[AuthService, Depends(auth_service)]


class _Bearer(SecurityBase):
    """`Authorization: Bearer …`, as the API's description has it.

    Each kind looks at the header by itself and depends on nothing: what FastAPI does for each
    dependency costs as much as a fifth of a statement, and nearly every route has one of these.
    """

    def __init__(self) -> None:
        self.scheme_name = "bearer"
        self.model = HTTPBearerModel(
            description="An access token from `POST /auth/login`, or an API key (`sk-…`)."
        )


class _CallerOf(_Bearer):
    async def __call__(self, connection: HTTPConnection) -> Caller:
        return await _caller(connection)


class _UserOf(_Bearer):
    async def __call__(self, connection: HTTPConnection) -> User:
        return (await _caller(connection)).user


class _AskerOf(_Bearer):
    async def __call__(self, connection: HTTPConnection) -> Asker:
        return await (await auth_service(connection)).asker(_only_token(connection))


class _CheckOf(_Bearer):
    async def __call__(self, connection: HTTPConnection) -> CredentialsCheck:
        return credentials_check(connection)


def credentials_check(connection: HTTPConnection) -> CredentialsCheck:
    """Return what is asked now and then about a stream's reader.

    It raises once the caller's credentials are revoked or expired.
    """
    auth: AuthService = connection.app.state.auth
    token = _token(connection)

    async def check() -> None:
        if token is None:
            raise Unauthenticated
        await auth.authenticate(token)

    return check


async def _caller(connection: HTTPConnection) -> Caller:
    """Return who sent the request; costs one statement.

    Raises:
        Unauthenticated: Nobody did, or nobody that is known; also with two such headers, of which
            a proxy may have judged the other.
        UserInactive: The user's account is closed.
    """
    return await (await auth_service(connection)).authenticate(_only_token(connection))


def _only_token(connection: HTTPConnection) -> str:
    token = _token(connection)
    if token is None or len(connection.headers.getlist("authorization")) > 1:
        raise Unauthenticated
    return token


def _token(connection: HTTPConnection) -> str | None:
    scheme, token = get_authorization_scheme_param(connection.headers.get("authorization"))
    return token if token and scheme.lower() == "bearer" else None


async def client_address(connection: HTTPConnection) -> str:
    """Return where the request came from; behind a proxy that is not trusted, the proxy's."""
    return "" if connection.client is None else connection.client.host


ClientAddress = Annotated[str, Depends(client_address)]
"""A route's parameter: the address of who sent the request, for counting."""

CurrentCaller = Annotated[Caller, Depends(_CallerOf())]
"""A route's parameter: the user and the credential that proved it."""


CurrentUser = Annotated[User, Depends(_UserOf())]
"""A route's parameter: the user behind the request."""


CurrentAsker = Annotated[Asker, Depends(_AskerOf())]
"""A route's parameter: the user that the request claims to be of. Only for a route that hands the
claim on to its first statement, whatever happens; one statement less."""


async def current_login(caller: CurrentCaller) -> Caller:
    """Return a caller that has logged in: a leaked API key shall not outlive its revocation.

    Raises:
        Forbidden: The caller came with an API key.
    """
    if caller.session_id is None:
        raise Forbidden("An API key may not do this; log in with the account's password")
    return caller


CurrentLogin = Annotated[Caller, Depends(current_login)]
"""A route's parameter: the caller, who came with a session's access token."""


StillAllowed = Annotated[CredentialsCheck, Depends(_CheckOf())]
"""A streaming route's parameter: asked now and then, it raises once the caller's credentials are
revoked or expired."""
