"""Every error that Tertulia states, in one tree.

An error knows what happened; a surface (HTTP, OpenAI's envelope, the terminal) knows how to say it.

    TertuliaError
    + Invalid ................ the request is understood and wrong           (HTTP 422)
    |   - ModelNotFound
    |   - IdempotencyKeyReused
    + BadRequest ............. refused as the seeds refuse it                (HTTP 400)
    |   - EmailTaken
    |   - UsernameTaken
    |   - PreviousResponseNotFound
    |   - ContextTooLong
    + Unauthenticated ........ nobody is known to be asking                  (HTTP 401)
    |   - WrongCredentials
    |   - RefreshTokenReused
    + Forbidden .............. somebody is known, and may not                (HTTP 403)
    |   - UserInactive
    |   - RegistrationClosed
    |   - WrongPassword
    + NotFound ............... missing, or another user's: the same answer   (HTTP 404)
    |   - ConversationNotFound, MessageNotFound, RunNotFound
    |   - ItemNotFound
    |   - ToolCallNotFound
    |   - UserNotFound, ApiKeyNotFound, SessionNotFound
    + Conflict ............... the state of things forbids it now            (HTTP 409)
    |   - RunActive
    |   - QueueFull
    |   - ToolCallSettled
    |   - IdempotencyKeyInFlight
    |   - TooManyApiKeys
    + TooManyAttempts ........ wrong too often lately                        (HTTP 429)
    + TooManyConnections ..... as many at once as one user may have          (HTTP 429)
    + Unavailable ............ try again later                               (HTTP 503)
        - DatabaseUnavailable
        |   - TransactionConflict
        |   - OutcomeUnknown
        - Overloaded
        - Draining
"""

from typing import ClassVar


class TertuliaError(Exception):
    """Something that a caller is told in words, with a stable code.

    Attributes:
        code: Stable and documented; clients may branch on it.
        detail: One sentence for people. Never holds secrets, SQL or another user's data.
        field: The input that is wrong, as the caller wrote it (`body.title`), if there is one.
        retry_after_s: Whole seconds after which a retry makes sense, if one does.
    """

    code: ClassVar[str] = "error"
    default_detail: ClassVar[str] = "Something went wrong"

    def __init__(
        self,
        detail: str | None = None,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        self.detail = detail or self.default_detail
        self.field = field
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)


class Invalid(TertuliaError):
    """The request is well-formed and cannot be done as written."""

    code = "invalid_request"
    default_detail = "The request is not valid"


class ModelNotFound(Invalid):
    """No model of that name is configured here."""

    code = "model_not_found"
    default_detail = "No such model is available on this server; GET /models lists them"


class IdempotencyKeyReused(Invalid):
    """The key was used before with another request."""

    code = "idempotency_key_reused"
    default_detail = "This Idempotency-Key was used before with a different request"


class BadRequest(TertuliaError):
    """Refused with 400, where the seeds say so."""

    code = "bad_request"
    default_detail = "Bad request"


class EmailTaken(BadRequest):
    """Another user has that e-mail address."""

    code = "email_taken"
    default_detail = "Email already registered"


class UsernameTaken(BadRequest):
    """Another user has that name."""

    code = "username_taken"
    default_detail = "Username already taken"


class PreviousResponseNotFound(BadRequest):
    """There is no such response to go on from."""

    code = "previous_response_not_found"
    default_detail = "Previous response not found"


class ContextTooLong(BadRequest):
    """All of it was to be told, and the model cannot read so much at once."""

    code = "context_too_long"
    default_detail = "The conversation is longer than the model can read"


class Unauthenticated(TertuliaError):
    """No valid credentials came with the request."""

    code = "unauthenticated"
    default_detail = "Not authenticated"


class WrongCredentials(Unauthenticated):
    """The e-mail address or the password is wrong; which one is not said."""

    code = "wrong_credentials"
    default_detail = "Incorrect email or password"


class RefreshTokenReused(Unauthenticated):
    """The refresh token was used before, so somebody has a copy: its whole session has ended."""

    code = "refresh_token_reused"
    default_detail = "This refresh token was used before, so its session has ended; log in again"


class Forbidden(TertuliaError):
    """The caller is known and may not do this."""

    code = "forbidden"
    default_detail = "Not allowed"


class UserInactive(Forbidden):
    """The account has been deactivated."""

    code = "user_inactive"
    default_detail = "User is inactive"


class RegistrationClosed(Forbidden):
    """This server does not take new accounts by itself."""

    code = "registration_closed"
    default_detail = "Registration is closed on this server; ask its administrator for an account"


class WrongPassword(Forbidden):
    """The password that confirms a change to the account is not the caller's."""

    code = "wrong_password"
    default_detail = "The current password is not correct"


class NotFound(TertuliaError):
    """Missing, or not the caller's: the answer is the same."""

    code = "not_found"
    default_detail = "Not found"


class ConversationNotFound(NotFound):
    """No such conversation for this user."""

    code = "conversation_not_found"
    default_detail = "Conversation not found"


class MessageNotFound(NotFound):
    """No such message for this user."""

    code = "message_not_found"
    default_detail = "Message not found"


class RunNotFound(NotFound):
    """No such run for this user."""

    code = "run_not_found"
    default_detail = "Run not found"


class ItemNotFound(NotFound):
    """No such item in this conversation (OpenAI's word for a message, or a part of one)."""

    code = "item_not_found"
    default_detail = "Item not found"


class ToolCallNotFound(NotFound):
    """The run made no such call of a tool that this server calls."""

    code = "tool_call_not_found"
    default_detail = "This run made no such call of a tool that the server would call"


class UserNotFound(NotFound):
    """No such user."""

    code = "user_not_found"
    default_detail = "User not found"


class ApiKeyNotFound(NotFound):
    """No such API key for this user."""

    code = "api_key_not_found"
    default_detail = "API key not found"


class SessionNotFound(NotFound):
    """No such login session for this user."""

    code = "session_not_found"
    default_detail = "Session not found"


class Conflict(TertuliaError):
    """The present state forbids it; it may be allowed later."""

    code = "conflict"
    default_detail = "The present state does not allow this"


class RunActive(Conflict):
    """The conversation is being answered."""

    code = "run_active"
    default_detail = (
        "This conversation is being answered; wait, cancel the run, "
        'or send with "on_busy": "queue" or "interrupt"'
    )


class QueueFull(Conflict):
    """As many runs wait for their turn in the conversation as may."""

    code = "queue_full"
    default_detail = "Too many messages wait to be answered in this conversation already"


class ToolCallSettled(Conflict):
    """The tool call waits for no decision: it was decided, or the conversation went on."""

    code = "tool_call_settled"
    default_detail = "This call was decided already, or the conversation went on without it"


class IdempotencyKeyInFlight(Conflict):
    """A request with the same key is still being worked on."""

    code = "idempotency_key_in_flight"
    default_detail = "A request with this Idempotency-Key is still being worked on"


class TooManyApiKeys(Conflict):
    """The user has as many API keys as one may have."""

    code = "too_many_api_keys"
    default_detail = "You have as many API keys as one account may have; revoke one first"


class TooManyAttempts(TertuliaError):
    """Too many wrong passwords for this account from this address; the right one must wait too."""

    code = "too_many_attempts"
    default_detail = "Too many wrong passwords; try again later"


class TooManyConnections(TertuliaError):
    """The user has as many WebSockets open here as one may have; close one first."""

    code = "too_many_connections"
    default_detail = "You have as many WebSockets open here as one user may have; close one first"


class Unavailable(TertuliaError):
    """It cannot be done now; a retry may succeed."""

    code = "unavailable"
    default_detail = "The server cannot do this right now; try again"


class DatabaseUnavailable(Unavailable):
    """PostgreSQL is away, frozen, full or shutting down."""

    code = "database_unavailable"
    default_detail = "The database cannot be reached right now; try again"


class TransactionConflict(DatabaseUnavailable):
    """PostgreSQL gave this transaction up for another's sake; the same again may succeed."""

    code = "database_conflict"
    default_detail = "Too many changes to the same thing at once; try again"


class OutcomeUnknown(DatabaseUnavailable):
    """The connection broke while a commit was under way: it may or may not have happened."""

    code = "outcome_unknown"
    default_detail = (
        "The database went away while this was being stored, so it may have been stored; "
        "repeat it with the same Idempotency-Key, or look first"
    )


class Overloaded(Unavailable):
    """More work than this process takes on at once."""

    code = "overloaded"
    default_detail = "The server is busy; try again"


class Draining(Unavailable):
    """This process is stopping; another will answer."""

    code = "draining"
    default_detail = "This server is stopping; try again"
