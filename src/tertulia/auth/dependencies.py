"""Who asks: what routes of any room depend on."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias, cast

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from tertulia.auth.service import AuthService
from tertulia.domain.errors import Forbidden, Unauthenticated
from tertulia.domain.users import Caller, User

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="An access token from `POST /auth/login`, or an API key (`sk-…`).",
)


async def auth_service(connection: HTTPConnection) -> AuthService:
    """Return the service that the app was built with."""
    return cast("AuthService", connection.app.state.auth)


CredentialsCheck: TypeAlias = Callable[[], Awaitable[None]]

Auth = Annotated[AuthService, Depends(auth_service)]


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def current_caller(connection: HTTPConnection, credentials: Credentials) -> Caller:
    """Return who sent `Authorization: Bearer …`; costs one statement a request.

    Raises:
        Unauthenticated: Nobody did, or nobody that is known; also with two such headers, of which
            a proxy may have judged the other.
        UserInactive: The user's account is closed.
    """
    if credentials is None or len(connection.headers.getlist("authorization")) > 1:
        raise Unauthenticated
    auth = await auth_service(connection)
    return await auth.authenticate(credentials.credentials)


async def client_address(connection: HTTPConnection) -> str:
    """Return where the request came from; behind a proxy that is not trusted, the proxy's."""
    return "" if connection.client is None else connection.client.host


ClientAddress = Annotated[str, Depends(client_address)]
"""A route's parameter: the address of who sent the request, for counting."""

CurrentCaller = Annotated[Caller, Depends(current_caller)]
"""A route's parameter: the user and the credential that proved it."""


async def current_user(connection: HTTPConnection, credentials: Credentials) -> User:
    """Return the user behind the request; raises what `current_caller` raises.

    It does not depend on that one but calls it: what FastAPI does for each dependency costs as
    much as a fifth of a statement, and this is what nearly every route asks for.
    """
    return (await current_caller(connection, credentials)).user


CurrentUser = Annotated[User, Depends(current_user)]
"""A route's parameter: the user behind the request."""


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


async def credentials_check(auth: Auth, credentials: Credentials) -> CredentialsCheck:
    """Return what a stream asks now and then: are its reader's credentials still good?

    The check raises what `current_caller` raises.
    """

    async def check() -> None:
        if credentials is None:
            raise Unauthenticated
        await auth.authenticate(credentials.credentials)

    return check


StillAllowed = Annotated[CredentialsCheck, Depends(credentials_check)]
"""A streaming route's parameter: raises once the caller's credentials are revoked or expired."""
