"""Users, conversations and messages, made by the database itself: millions in a minute.

Everything has a number, and every id says it: no id needs to be read back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from tertulia.auth.tokens import AccessTokens

SECRET_KEY = "benchmarks-9Xq4Tn7Lw2Vd5Yc8Rb1Kf6"  # noqa: S105  of databases that exist for minutes
MODEL_TYPE = "openai:bench"
MESSAGE_CHARS = 600
PASSWORD = "correct horse battery"  # noqa: S105  of users that exist for a minute

_ENGLISH = (
    "The index is read backwards from the newest entry, so the first page costs the same on the "
    "first day and after a million rows; what is deep is found by its key, never by counting. "
)
_CHINESE = "索引从最新的一条往回读，所以第一页的代价始终不变；更早的内容按键查找，而不是从头数起。"  # noqa: RUF001  Chinese
_USER = "lpad(to_hex({}), 32, '0')::uuid"
_CONVERSATION = "(lpad(to_hex({}), 16, '0') || repeat('0', 16))::uuid"
_MESSAGE = "(lpad(to_hex({}), 16, '0') || lpad(to_hex({}), 16, '0'))::uuid"
# Three of five are English, as long in characters as two Chinese ones are in bytes.
_CONTENT = f"""
    CASE WHEN mod(s, 5) < 3
        THEN left(s || ' ' || repeat('{_ENGLISH}', %(chars)s / 100 + 1), %(chars)s)
        ELSE left(s || ' ' || repeat('{_CHINESE}', %(chars)s / 100 + 1), %(chars)s / 3)
    END
"""
_NUMBERS = """
    generate_series(%(user)s, %(user)s + %(users)s - 1) AS u
    CROSS JOIN generate_series(0, %(conversations)s - 1) AS k
    CROSS JOIN LATERAL (SELECT %(conversation)s + (u - %(user)s) * %(conversations)s + k AS c) n
"""
_PRODUCT = (
    f"""
    INSERT INTO users (id, email, email_key, username, username_key, password_hash)
    SELECT {_USER.format("u")}, 'u' || u || '@example.com', 'u' || u || '@example.com',
        'u' || u, 'u' || u, %(hash)s
    FROM generate_series(%(user)s, %(user)s + %(users)s - 1) AS u
    """,
    f"""
    INSERT INTO sessions (id, user_id, family_hash, refresh_hash, expires_at)
    SELECT {_USER.format("u")}, {_USER.format("u")}, '', '', now() + interval '1 day'
    FROM generate_series(%(user)s, %(user)s + %(users)s - 1) AS u
    """,
    f"""
    INSERT INTO conversations (id, user_id, title, model_type, message_count, last_seq,
        head_id, head_seq, created_at, updated_at)
    SELECT {_CONVERSATION.format("c")}, {_USER.format("u")}, 'Conversation ' || c,
        '{MODEL_TYPE}', %(messages)s, %(messages)s,
        CASE WHEN %(messages)s > 0 THEN {_MESSAGE.format("c", "%(messages)s")} END, %(messages)s,
        %(at)s + k * interval '1 second', %(at)s + k * interval '1 second'
    FROM {_NUMBERS}
    """,
    f"""
    INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content, created_at,
        updated_at)
    SELECT {_MESSAGE.format("c", "s")}, {_CONVERSATION.format("c")},
        CASE WHEN s > 1 THEN {_MESSAGE.format("c", "s - 1")} END, s, 0,
        CASE mod(s, 2) WHEN 1 THEN 'user' ELSE 'assistant' END, {_CONTENT},
        %(at)s + s * interval '1 second', %(at)s + s * interval '1 second'
    FROM {_NUMBERS} CROSS JOIN generate_series(1, %(messages)s) AS s
    """,
)
_TUTORIAL = (
    f"""
    INSERT INTO users (id, email, username, hashed_password, is_active, created_at)
    SELECT {_USER.format("u")}, 'u' || u || '@example.com', 'u' || u, %(hash)s, true, %(at)s
    FROM generate_series(%(user)s, %(user)s + %(users)s - 1) AS u
    """,
    f"""
    INSERT INTO conversations (id, user_id, title, is_archived, created_at, updated_at)
    SELECT {_CONVERSATION.format("c")}, {_USER.format("u")}, 'Conversation ' || c, false,
        %(at)s + k * interval '1 second', %(at)s + k * interval '1 second'
    FROM {_NUMBERS}
    """,
    f"""
    INSERT INTO messages (id, conversation_id, role, content, created_at)
    SELECT {_MESSAGE.format("c", "s")}, {_CONVERSATION.format("c")},
        CASE mod(s, 2) WHEN 1 THEN 'user' ELSE 'assistant' END, {_CONTENT},
        %(at)s + s * interval '1 second'
    FROM {_NUMBERS} CROSS JOIN generate_series(1, %(messages)s) AS s
    """,
)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Users who have equally many conversations with equally many messages."""

    user: int
    """The number of the first."""
    users: int
    conversation: int
    """The number of the first one's first, which is their oldest."""
    conversations: int
    """Of each user."""
    messages: int
    """In each conversation."""
    at: datetime
    """When the first conversations began; each next one of a user a second later."""

    def user_id(self, number: int = 0) -> UUID:
        """Return the id of one of them."""
        return UUID(int=self.user + number % self.users)

    def conversation_id(self, user: int = 0, number: int = 0) -> UUID:
        """Return the id of one of a user's conversations."""
        found = self.conversation + (user % self.users) * self.conversations + number
        return UUID(int=found << 64)

    @property
    def ids_by_client(self) -> dict[UUID, str]:
        """Return what stands for the first user and conversation, in SQL, for pgbench's clients.

        Client i is user i, in their first conversation.
        """
        conversation = f"{self.conversation} + :client_id * {self.conversations}"
        return {
            self.user_id(): _USER.format(f"{self.user} + :client_id"),
            self.conversation_id(): _CONVERSATION.format(conversation),
        }

    def token(self, number: int = 0) -> str:
        """Return what proves one of them to the product and to the yardsticks alike."""
        id_ = self.user_id(number)
        return AccessTokens(SECRET_KEY).issue(
            user_id=id_,
            session_id=id_,
            issued_at=datetime.now(UTC),
            lifetime=timedelta(hours=20),
        )


def message_text(seq: int, chars: int = MESSAGE_CHARS) -> str:
    """Return what the database makes of a message's number, for those who must be sent it."""
    text, length = (_ENGLISH, chars) if seq % 5 < 3 else (_CHINESE, chars // 3)
    return f"{seq} {text * (chars // 100 + 1)}"[:length]


def settle(dsn: str) -> None:
    """Have what was stored in a database looked at and written: not while it is measured."""
    with psycopg.connect(dsn, autocommit=True) as sql:
        sql.execute("VACUUM ANALYZE")
        sql.execute("CHECKPOINT")


class People:
    """Makes crowds, each with numbers of its own."""

    def __init__(self, dsn: str, password_hash: str) -> None:
        self._dsn = dsn
        self._hash = password_hash
        self._user = 1
        self._conversation = 1
        self._in_the_tutorial: list[Crowd] = []

    def crowd(
        self, *, users: int, conversations: int, messages: int, chars: int = MESSAGE_CHARS
    ) -> Crowd:
        """Store a crowd.

        Args:
            users: How many.
            conversations: Of each.
            messages: In each conversation.
            chars: Bytes of each message, about.
        """
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)
        made = Crowd(self._user, users, self._conversation, conversations, messages, at)
        self._user += users
        self._conversation += users * conversations
        self._store(self._dsn, _PRODUCT, made, chars)
        return made

    def also_in_the_tutorial(self, dsn: str, crowd: Crowd) -> None:
        """Store a crowd in the tutorial app's database too, once, under the same ids."""
        if crowd not in self._in_the_tutorial:
            self._in_the_tutorial.append(crowd)
            self._store(dsn, _TUTORIAL, crowd, MESSAGE_CHARS)

    def _store(self, dsn: str, statements: Sequence[str], crowd: Crowd, chars: int) -> None:
        values = {
            "user": crowd.user,
            "users": crowd.users,
            "conversation": crowd.conversation,
            "conversations": crowd.conversations,
            "messages": crowd.messages,
            "at": crowd.at,
            "chars": chars,
            "hash": self._hash,
        }
        with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as sql:
            # Foreign keys hold by construction; checking them would take most of the time.
            sql.execute("SET session_replication_role = replica")
            for statement in statements:
                sql.execute(statement.encode(), values)
        settle(dsn)
