"""Structured logs: one line an event, for people on a terminal and for machines elsewhere."""

import functools
import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

REDACTED_KEYS = frozenset(
    {
        "api_key",
        "authorization",
        "content",
        "key",
        "password",
        "prompt",
        "refresh_token",
        "secret",
        "token",
    }
)
"""Names (in lower case) whose values are never written: secrets, and what users say to models."""

REDACTED = "[redacted]"

_QUOTING = frozenset({"asyncpg", "json", "msgspec", "pydantic", "pydantic_core", "sqlalchemy"})
# Libraries whose errors repeat what they were given.

_UNPRINTABLE_PATTERN = re.compile(
    r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Control characters that JSON allows, line and paragraph separators, marks that turn text around,
# and halves of surrogate pairs, which no stream takes.

_ERRORS_MAX = 20
# Of one line: causes, and members of groups.

_REDACTION_DEPTH = 4
# Deeper values are written as a mark: logs are flat here, and redaction must stay cheap.


def configure_logging(*, level: str = "INFO", stream: TextIO, as_json: bool | None = None) -> None:
    """Send every log of the process, ours and the libraries', to one stream in one form.

    Args:
        level: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`, in any case.
        stream: Where lines go.
        as_json: JSON lines, or coloured lines for people; None decides by whether the stream is
            a terminal.

    Raises:
        ValueError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"There is no log level {level!r}")
    is_json = not stream.isatty() if as_json is None else as_json
    _route_libraries(stream, number, as_json=is_json)
    # Ours go to the stream without the detour over the standard library's records and handlers,
    # which would double what the line of each request costs.
    structlog.configure(
        processors=[*_shared_processors(), *_final_processors(as_json=is_json)],
        logger_factory=functools.partial(_LineLogger, stream),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )


class _LineLogger(structlog.WriteLogger):
    """Writes finished lines; `name` is for `add_logger_name`."""

    def __init__(self, stream: TextIO, name: str = "tertulia") -> None:
        super().__init__(stream)
        self.name = name


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace the value of every key in `REDACTED_KEYS`, at any of four levels of nesting.

    A structlog processor. The name decides, not the value, so it holds for what nobody foresaw.
    """
    return cast("EventDict", _without_secrets(event, _REDACTION_DEPTH))


def _without_secrets(value: object, depth: int) -> object:
    if isinstance(value, str | int | float):
        return value  # nearly all of them; an abstract class like Mapping is slow to ask
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        if depth == 0:
            return REDACTED
        return {
            key: REDACTED
            if str(key).lower().replace("-", "_") in REDACTED_KEYS
            else item
            if key == "exc_info"  # a renderer's to write, and it must stay a tuple
            else _without_secrets(item, depth - 1)
            for key, item in items
        }
    if isinstance(value, list | tuple):
        if depth == 0:
            return REDACTED
        return [_without_secrets(item, depth - 1) for item in cast("Sequence[object]", value)]
    return value


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _final_processors(*, as_json: bool) -> list[Processor]:
    """Return what turns an event into its line; `redact` comes after everything that adds keys."""
    if as_json:
        return [
            structlog.processors.ExceptionRenderer(_frames),
            redact,
            structlog.processors.JSONRenderer(ensure_ascii=False),
            _escape_json,
        ]
    console = structlog.dev.ConsoleRenderer(exception_formatter=_write_frames)
    return [redact, _escape_values, console]


def _escape_json(_logger: object, _method: str, line: object) -> str:
    r"""Write as `\u…` what JSON allows raw and a terminal or a reader of lines might obey."""
    text = str(line)
    if text.isascii() and "\x7f" not in text:
        return text
    return _UNPRINTABLE_PATTERN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Make texts printable: a terminal would obey what it is told in them.

    What is nested in them is shown as Python shows it, which is printable already.
    """
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable() and key != "stack":
            event[key] = _printable(value.rstrip())
    return event


def _printable(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _frames(exc_info: ExcInfo) -> str:
    """Return a traceback without local variables, and without words that quote what users wrote.

    Drivers and parsers repeat their input in their messages; of theirs only the kind is told.
    """
    return _told(exc_info[1], set())


def _told(error: BaseException | None, seen: set[int]) -> str:
    lines: list[str] = []
    while error is not None and id(error) not in seen and len(seen) < _ERRORS_MAX:
        seen.add(id(error))
        kind = type(error)
        words = "" if kind.__module__.partition(".")[0] in _QUOTING else f": {error}"
        state = getattr(error, "sqlstate", None)
        code = f" (SQLSTATE {state})" if state else ""
        frames = "".join(traceback.format_tb(error.__traceback__))
        lines.append(f"{frames}{kind.__module__}.{kind.__qualname__}{code}{words}")
        if isinstance(error, BaseExceptionGroup):
            each = cast("BaseExceptionGroup[BaseException]", error).exceptions
            lines[-1] += "".join(f"\none of which\n{_told(one, seen)}" for one in each)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\ncaused by\n".join(lines)


def _write_frames(stream: TextIO, exc_info: ExcInfo) -> None:
    stream.write("".join("\n" + _printable(line) for line in _frames(exc_info).split("\n")))


def _route_libraries(stream: TextIO, level: int, *, as_json: bool) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared_processors(), structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_final_processors(as_json=as_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.NOTSET)
    # Its warnings tell of clients that left while they were being answered, write by write.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # What these say quotes addresses with their keys, and what users and tools said.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    # Uvicorn's access lines hold query strings; the guard writes its own without. A logger that
    # reaches no handler makes uvicorn skip them altogether.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
