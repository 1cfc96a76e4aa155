"""Accounts: every use case, and `authenticate`, which decides who asks for every door."""

import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog

from tertulia.auth.accounts import check_key_name, check_password, checked
from tertulia.auth.administration import UserAdministration
from tertulia.auth.guesses import Guesses
from tertulia.auth.pages import page_of, place_of
from tertulia.auth.passwords import Passwords
from tertulia.auth.tokens import (
    API_KEY_PREFIX_CHARS,
    API_KEY_START,
    AccessTokens,
    RefreshToken,
    Secret,
    is_api_key,
    new_api_key,
)
from tertulia.domain.errors import (
    ApiKeyNotFound,
    RefreshTokenReused,
    RegistrationClosed,
    SessionNotFound,
    TooManyApiKeys,
    Unauthenticated,
    UserInactive,
    WrongCredentials,
    WrongPassword,
)
from tertulia.domain.ids import new_id
from tertulia.domain.users import INVALID_TOKEN, ApiKey, Asker, Caller, Session, User
from tertulia.http.paging import Page
from tertulia.storage.database import Database, retried
from tertulia.storage.ending import cancel_runs_of_user
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.users import UserCredentials
from tertulia.storage.unit_of_work import UnitOfWork

LOGIN_ATTEMPTS = 3
"""How often a password is checked again because the stored hash was replaced meanwhile."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client keeps of a login."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    """Good for one use, which returns the next."""
    expires_in: int
    """Seconds until the access token ends."""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key and its secret, which nobody can read again."""

    api_key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthService:
    """Registers, logs in, recognises and forgets users."""

    database: Database
    passwords: Passwords
    tokens: AccessTokens
    notifier: Notifier
    registration_open: bool = True
    access_lifetime: timedelta = timedelta(minutes=30)
    refresh_lifetime: timedelta = timedelta(days=30)
    """How long a login lasts without being refreshed."""
    api_keys_max: int = 100
    """Of one user, expired ones included."""
    guesses: Guesses = field(default_factory=Guesses)

    async def authenticate(self, token: str) -> Caller:
        """Return who a bearer token stands for: an access token or an API key. One statement.

        Ask it again now and then about a connection that stays open. Sessions are judged in
        `storage.repositories.claims`, for this and for those whom `asker` leaves to be proven.

        Raises:
            Unauthenticated: It is malformed, forged, expired or revoked.
            UserInactive: It is genuine, and its user's account is closed.
        """
        if token.startswith(API_KEY_START):
            return await self._authenticate_key(token)
        claim = self.tokens.read(token)
        async with self.database.reading() as work:
            user = await work.sessions.authenticate(claim)
        return Caller(user=user, session_id=claim.session_id, api_key_id=None)

    async def asker(self, token: str) -> Asker:
        """Return who a bearer token says asks: no statement for an access token, one for a key.

        Raises:
            Unauthenticated: It is malformed or forged, or a key that is expired or revoked.
            UserInactive: It is a key of an account that is closed.
        """
        if token.startswith(API_KEY_START):
            return Asker((await self._authenticate_key(token)).user.id, claim=None)
        claim = self.tokens.read(token)
        return Asker(claim.user_id, claim)

    async def _authenticate_key(self, token: str) -> Caller:
        if not is_api_key(token):
            raise Unauthenticated(INVALID_TOKEN)
        async with self.database.reading() as work:
            known = await work.api_keys.authenticate(Secret(token).hash)
        if known is None:
            raise Unauthenticated(INVALID_TOKEN)
        if not known.user.is_active:
            raise UserInactive
        return Caller(user=known.user, session_id=None, api_key_id=known.key_id)

    async def register(self, *, email: str, username: str, password: str) -> User:
        """Make an account for whoever asks.

        Raises:
            RegistrationClosed: This server does not do that.
            Invalid: The address, the name or the password cannot be one.
            EmailTaken: Somebody has that address, in any case or Unicode form.
            UsernameTaken: The same for the name.
            Overloaded: Too many passwords are being hashed.
        """
        if not self.registration_open:
            raise RegistrationClosed
        users = UserAdministration(self.database, self.passwords, self.notifier)
        return await users.create_user(email=email, username=username, password=password)

    async def delete_account(self, user_id: UUID, *, password: str, address: str = "") -> None:
        """Delete the user and everything of theirs; their runs are stopped.

        Raises:
            WrongPassword: It is not theirs.
            TooManyAttempts: That was so too often; see `login`.
            Overloaded: Too many passwords are being hashed.
        """
        password_hash = await self._confirm(
            user_id, password, address=address, field_="body.password"
        )
        # First what is written for them is stopped, and that is over soon: a deletion may take
        # long, and would hold the runs' rows meanwhile. It may also fail: nothing is lost then.
        self.notifier.stopped(await self._stop_runs(user_id))
        self.notifier.stopped(await self._delete_user(user_id, password_hash))

    @retried
    async def _stop_runs(self, user_id: UUID) -> list[UUID]:
        async with self.database.transaction() as work:
            return await cancel_runs_of_user(work, user_id)

    @retried
    async def _delete_user(self, user_id: UUID, password_hash: str) -> list[UUID]:
        async with self.database.deletion() as work:
            stopped = list(await work.runs.stop_of_user(user_id))
            if not await work.users.delete(user_id, password_hash=password_hash):
                raise WrongPassword(field="body.password")
        return stopped

    async def login(self, *, email: str, password: str, address: str = "") -> Tokens:
        """Begin a session.

        Takes as long for an address that nobody has as for a wrong password.

        Args:
            email: Whose, in any form.
            password: As it was sent.
            address: Where the request came from; wrong passwords are counted by it too.

        Raises:
            WrongCredentials: Nobody has that address, or not that password.
            TooManyAttempts: That was so too often, for that account and from that address; the
                password was not looked at.
            UserInactive: The password is right, and the account is closed.
            Overloaded: Too many passwords are being hashed.
        """
        with self.guesses.counted(email, address):
            return await self._login(email, password)

    async def _login(self, email: str, password: str) -> Tokens:
        for _ in range(LOGIN_ATTEMPTS):
            async with self.database.reading() as work:
                found = await work.users.find_credentials(email)
            stored = None if found is None else found.password_hash
            checked = await self.passwords.verify(password, stored)
            if found is None or not checked.is_right:
                raise WrongCredentials
            if not found.user.is_active:
                raise UserInactive
            tokens = await self._begin_session(found)
            if tokens is not None:
                if checked.better_hash is not None:
                    await self._replace_hash(found, checked.better_hash)
                return tokens
        raise WrongCredentials

    @retried
    async def _begin_session(self, credentials: UserCredentials) -> Tokens | None:
        """Return None if the password or the account changed since it was checked."""
        refresh_token = RefreshToken.first(new_id())
        async with self.database.transaction() as work:
            session = await self._create_session(
                work, credentials.user.id, credentials.password_hash, refresh_token
            )
        return None if session is None else self._tokens(session, refresh_token)

    async def _create_session(
        self, work: UnitOfWork, user_id: UUID, password_hash: str, refresh_token: RefreshToken
    ) -> Session | None:
        return await work.sessions.create(
            refresh_token.session_id,
            user_id=user_id,
            password_hash=password_hash,
            family_hash=refresh_token.family.hash,
            refresh_hash=refresh_token.own.hash,
            lifetime=self.refresh_lifetime,
        )

    @retried
    async def _replace_hash(self, credentials: UserCredentials, better_hash: str) -> None:
        async with self.database.transaction() as work:
            await work.users.replace_password(
                credentials.user.id, old_hash=credentials.password_hash, new_hash=better_hash
            )

    @retried
    async def refresh(self, refresh_token: str) -> Tokens:
        """Trade a refresh token for new tokens. Each is good once.

        A second use means that two have it, the user and a thief, in whichever order: the session
        ends for both. A made-up one ends nothing, though anybody may know the session's id.

        Raises:
            Unauthenticated: It is no refresh token, or made up, or its session has ended.
            RefreshTokenReused: It was used before; its session has ended now.
            UserInactive: Its user's account is closed.
        """
        presented = RefreshToken.read(refresh_token)
        session_id, following = presented.session_id, presented.next()
        rotated: Session | None = None
        async with self.database.transaction() as work:
            session = await work.sessions.lock(session_id)
            if session is None or not hmac.compare_digest(
                session.family_hash, presented.family.hash
            ):
                raise Unauthenticated(INVALID_TOKEN)
            user = session.user
            if not hmac.compare_digest(session.refresh_hash, presented.own.hash):
                await work.sessions.revoke(session_id, user_id=user.id)
            elif not user.is_active:
                raise UserInactive
            elif not session.is_live:
                raise Unauthenticated(INVALID_TOKEN)
            else:
                rotated = await work.sessions.rotate(
                    session_id,
                    user_id=user.id,
                    refresh_hash=following.own.hash,
                    lifetime=self.refresh_lifetime,
                )
        # Raised out here, for inside the block it would undo the revocation.
        if rotated is None:
            log.warning("refresh token reused", session_id=str(session_id), user_id=str(user.id))
            raise RefreshTokenReused
        return self._tokens(rotated, following)

    async def list_sessions(
        self, user_id: UUID, *, limit: int, cursor: str | None = None
    ) -> Page[Session]:
        """Return the user's live sessions, newest first."""
        async with self.database.reading() as work:
            sessions = await work.sessions.list(user_id, limit=limit + 1, after=place_of(cursor))
        return page_of(sessions, limit)

    async def logout(self, session_id: UUID, *, user_id: UUID) -> None:
        """End the session and with it every token it gave out, at once.

        Raises:
            SessionNotFound: The user has no such live session.
        """
        async with self.database.transaction() as work:
            if not await work.sessions.revoke(session_id, user_id=user_id):
                raise SessionNotFound

    async def logout_everywhere(self, user_id: UUID) -> None:
        """End every session of the user at once. API keys stay: each is revoked by name."""
        async with self.database.transaction() as work:
            await work.sessions.revoke_all(user_id)

    async def change_password(
        self, user_id: UUID, *, current: str, new: str, address: str = ""
    ) -> Tokens:
        """Change the password, end every session, and begin the caller's anew.

        Raises:
            WrongPassword: `current` is not the user's password.
            TooManyAttempts: That was so too often; see `login`.
            Invalid: `new` cannot be a password.
            Overloaded: Too many passwords are being hashed.
        """
        new = checked(check_password, new, "new_password")
        old_hash = await self._confirm(
            user_id, current, address=address, field_="body.current_password"
        )
        return await self._replace_password(user_id, old_hash, await self.passwords.hash(new))

    @retried
    async def _replace_password(self, user_id: UUID, old_hash: str, new_hash: str) -> Tokens:
        refresh_token = RefreshToken.first(new_id())
        async with self.database.transaction() as work:
            replaced = await work.users.replace_password(
                user_id, old_hash=old_hash, new_hash=new_hash
            )
            if not replaced:
                raise WrongPassword(field="body.current_password")
            await work.sessions.revoke_all(user_id)
            session = await self._create_session(work, user_id, new_hash, refresh_token)
            if session is None:
                raise UserInactive
        return self._tokens(session, refresh_token)

    @retried
    async def create_api_key(
        self, user_id: UUID, *, name: str, lifetime: timedelta | None = None
    ) -> NewApiKey:
        """Make a key for the user.

        Args:
            user_id: Whose.
            name: 1 to 100 visible characters; need not be unique.
            lifetime: None for a key that is good until it is revoked.

        Raises:
            Invalid: That is no name.
            TooManyApiKeys: They have `api_keys_max` already.
        """
        name = checked(check_key_name, name, "name")
        secret = new_api_key()
        async with self.database.transaction() as work:
            await work.users.lock(user_id)
            if await work.api_keys.count(user_id) >= self.api_keys_max:
                raise TooManyApiKeys
            api_key = await work.api_keys.create(
                new_id(),
                user_id=user_id,
                name=name,
                prefix=secret.text[:API_KEY_PREFIX_CHARS],
                key_hash=secret.hash,
                lifetime=lifetime,
            )
        return NewApiKey(api_key, secret.text)

    async def list_api_keys(
        self, user_id: UUID, *, limit: int, cursor: str | None = None
    ) -> Page[ApiKey]:
        """Return the user's keys, newest first."""
        async with self.database.reading() as work:
            keys = await work.api_keys.list(user_id, limit=limit + 1, after=place_of(cursor))
        return page_of(keys, limit)

    async def revoke_api_key(self, api_key_id: UUID, *, user_id: UUID) -> None:
        """Let the key open nothing any more, at once.

        Raises:
            ApiKeyNotFound: The user has no such key.
        """
        async with self.database.transaction() as work:
            if not await work.api_keys.revoke(api_key_id, user_id=user_id):
                raise ApiKeyNotFound

    async def _confirm(self, user_id: UUID, password: str, *, address: str, field_: str) -> str:
        """Return the hash that the user's password was found to match."""
        async with self.database.reading() as work:
            credentials = await work.users.get_credentials(user_id)
        with self.guesses.counted(credentials.user.email, address):
            checked = await self.passwords.verify(password, credentials.password_hash)
            if not checked.is_right:
                raise WrongPassword(field=field_)
        return credentials.password_hash

    def _tokens(self, session: Session, refresh_token: RefreshToken) -> Tokens:
        access_token = self.tokens.issue(
            user_id=session.user_id,
            session_id=session.id,
            issued_at=session.refreshed_at,
            lifetime=self.access_lifetime,
        )
        expires_in = int(self.access_lifetime.total_seconds())
        return Tokens(access_token, refresh_token.text, expires_in)
