"""Reading server-sent events."""

from tertulia.cli.chat import printable
from tertulia.cli.chat_client import ServerEvent, parse_events


def test_events_comments_and_cursors_are_told_apart() -> None:
    stream = b': hello\n\nid: 1\nevent: text\ndata: {"delta": "a\xe2\x80\xa8b"}\n\n: \n\n'
    assert list(parse_events(stream.splitlines(keepends=True))) == [
        ServerEvent("text", {"delta": "a\u2028b"}, "1")
    ]


def test_an_event_that_is_cut_off_is_none() -> None:
    assert not list(parse_events([b"id: 1\n", b"event: done\n", b"data: {}\n"]))


def test_crlf_ends_lines_too() -> None:
    lines = [b"id: 7\r\n", b"data: {}\r\n", b"\r\n"]
    assert list(parse_events(lines)) == [ServerEvent("message", {}, "7")]


def test_a_model_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9b31mc\r\n\t\x07d") == "a[2Jb31mc\n\td"
