import io
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tertulia.telemetry.logs import REDACTED, REDACTED_KEYS, configure_logging, redact

SETUP = """
import logging, sys, structlog
from tertulia.telemetry.logs import configure_logging
configure_logging(stream=sys.stderr, {options})
log = structlog.get_logger("tertulia.test")
"""


def written_by(program: str, options: str = "") -> str:
    """Return what a process of its own writes: logging is configured once for a process."""
    source = SETUP.format(options=options) + program
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, check=True, encoding="utf-8"
    )
    assert not done.stdout
    return done.stderr


def lines_of(program: str, options: str = "") -> list[dict[str, Any]]:
    return [json.loads(line) for line in written_by(program, options).splitlines()]


def test_an_event_is_a_line_of_json_where_there_is_no_terminal() -> None:
    (line,) = lines_of(
        "structlog.contextvars.bind_contextvars(request_id='r-1'); log.info('request', path='/你')"
    )
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "tertulia.test",
        "path": "/你",
        "request_id": "r-1",
    }


def test_libraries_log_in_the_same_form() -> None:
    (line,) = lines_of("logging.getLogger('uvicorn.error').warning('slow %s', 'client')")
    assert (line["event"], line["logger"], line["level"]) == (
        "slow client",
        "uvicorn.error",
        "warning",
    )


def test_the_access_lines_of_uvicorn_are_dropped_for_they_hold_queries() -> None:
    program = """
access = logging.getLogger('uvicorn.access')
log.info('state', reaches=access.hasHandlers())
"""
    assert lines_of(program)[0]["reaches"] is False


def test_what_asyncio_says_of_clients_that_left_is_dropped() -> None:
    text = written_by(
        "logging.getLogger('asyncio').warning('socket.send() raised exception.')\n"
        "logging.getLogger('asyncio').error('Task exception was never retrieved')"
    )
    assert "socket.send" not in text
    assert "never retrieved" in text


def test_secrets_are_never_written() -> None:
    program = """
log.info('login', password='hunter2', headers={'Authorization': 'hunter2', 'Accept': '*/*'})
logging.getLogger('library').warning('sent', extra={'api_key': 'hunter2'})
"""
    text = written_by(program)
    assert "hunter2" not in text
    assert text.count(REDACTED) == 3
    assert "*/*" in text


@pytest.mark.parametrize("options", ["as_json=True", "as_json=False"])
def test_an_exception_shows_its_traceback_without_local_variables(options: str) -> None:
    program = """
def fail():
    passphrase = 'hunter' + '2'
    raise LookupError('gone')
try:
    fail()
except LookupError as error:
    log.error('unhandled exception', exc_info=error)
    logging.getLogger('library').exception('again')
"""
    text = written_by(program, options)
    assert text.count("LookupError: gone") == 2
    assert "hunter2" not in text


@pytest.mark.parametrize("options", ["as_json=True", "as_json=False"])
def test_a_driver_that_quotes_what_users_wrote_is_not_repeated(options: str) -> None:
    program = """
import asyncpg
class Refused(Exception): pass
try:
    try:
        raise asyncpg.DataError("invalid input: 'dear" + " diary'")
    except asyncpg.DataError as error:
        raise Refused('the value cannot be stored') from error
except Refused as error:
    log.error('unhandled exception', exc_info=error)
"""
    text = written_by(program, options)
    assert "Refused: the value cannot be stored" in text
    assert "asyncpg.exceptions.DataError" in text
    assert "22000" in text
    assert "dear diary" not in text


@pytest.mark.parametrize("options", ["as_json=True", "as_json=False"])
def test_of_a_group_of_errors_each_is_told(options: str) -> None:
    program = """
import asyncpg
try:
    raise ExceptionGroup('two tasks', [asyncpg.DataError("'dear" + " diary'"), KeyError('lost')])
except ExceptionGroup as error:
    log.error('unhandled exception', exc_info=error)
"""
    text = written_by(program, options)
    assert "two tasks" in text
    assert "asyncpg.exceptions.DataError" in text
    assert "KeyError" in text
    assert "dear diary" not in text


def test_a_terminal_is_told_nothing_that_it_would_obey() -> None:
    program = r"""
log.info('request\x1b[2J', route='/\x1b]0;owned\x07', host='\x9b31m\u202e', inner={'a': '\x1b'})
logging.getLogger('library').warning('one\ntwo \x1b')
try:
    raise LookupError('\x1b]0;owned\x07')
except LookupError as error:
    log.error('unhandled exception', exc_info=error)
"""
    text = written_by(program, "as_json=False")
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert coloured.replace("\n", "").isprintable()
    assert r"\x1b]0;owned\x07" in text
    assert [line for line in coloured.split("\n") if line.startswith("two")] == []


def test_a_line_of_json_is_one_line_to_every_reader() -> None:
    program = r"log.info('a\u2028b\u2029c\x85d\x9be\x7ff\u202eg\ud800你')"
    text = written_by(program)
    assert text.strip().isprintable()
    assert "你" in text
    assert json.loads(text)["event"] == "a\u2028b\u2029c\x85d\x9be\x7ff\u202eg\ud800你"


def test_the_level_decides_what_is_written() -> None:
    program = "log.info('no'); log.warning('yes'); logging.getLogger('a').info('no')"
    assert [line["event"] for line in lines_of(program, "level='warning'")] == ["yes"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="no log level 'LOUD'"):
        configure_logging(level="LOUD", stream=io.StringIO())


@pytest.mark.parametrize("key", sorted(REDACTED_KEYS))
def test_every_listed_name_is_redacted_at_any_depth(key: str) -> None:
    event = {key: 1, key.upper(): 2, "inner": [{key.replace("_", "-"): 3, "kept": 4}]}
    assert redact(None, "info", event) == {
        key: REDACTED,
        key.upper(): REDACTED,
        "inner": [{key.replace("_", "-"): REDACTED, "kept": 4}],
    }


def test_what_is_nested_too_deep_to_check_is_not_written() -> None:
    event: dict[str, Any] = {"a": {"b": {"c": {"d": {"password": "hunter2"}}}}}
    assert "hunter2" not in str(redact(None, "info", event))
