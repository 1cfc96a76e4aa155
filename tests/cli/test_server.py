"""Serving and draining, by signals to a real process."""

import http.client
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.processes import Process, wait_until

SMALL = "tests.cli.small_server"


def connect(ready_line: str) -> http.client.HTTPConnection:
    url = urlsplit(ready_line.rsplit(maxsplit=1)[-1])
    assert url.hostname
    return http.client.HTTPConnection(url.hostname, url.port, timeout=10)


def test_it_serves_and_ends_with_sigterm(tmp_path: Path) -> None:
    with Process(SMALL, "1", output=tmp_path / "out") as server:
        client = connect(server.wait_for("ready"))
        client.request("GET", "/pid")
        assert client.getresponse().read() == f"{server.pid}\n".encode()

        server.signal(signal.SIGTERM)
        assert server.wait(within_s=10) == 0
        assert "done True" in server.said()
        client.close()


def test_open_streams_end_at_once_when_it_drains(tmp_path: Path) -> None:
    with Process(SMALL, "1", output=tmp_path / "out") as server:
        client = connect(server.wait_for("ready"))
        client.request("GET", "/stream")
        answer = client.getresponse()
        assert answer.readline() == b"begin\n"

        server.signal(signal.SIGINT)
        assert answer.read() == f"{server.pid}\n".encode()
        assert server.wait(within_s=10) == 0
        client.close()


def test_connections_are_refused_and_kept_ones_told_to_close_while_it_drains(
    tmp_path: Path,
) -> None:
    with Process(SMALL, "1", output=tmp_path / "out") as server:
        line = server.wait_for("ready")
        waiting, kept = connect(line), connect(line)
        waiting.request("GET", "/wait")
        assert waiting.getresponse().readline() == b"begin\n"
        kept.request("GET", "/pid")
        assert not kept.getresponse().read().startswith(b"begin")

        server.signal(signal.SIGTERM)
        server.wait_for("drained")
        kept.request("GET", "/pid")
        answer = kept.getresponse()
        assert answer.getheader("connection") == "close"
        answer.read()
        late = connect(line)
        with pytest.raises(ConnectionRefusedError):
            late.request("GET", "/pid")
        for client in (waiting, kept, late):
            client.close()


def test_a_second_ctrl_c_does_not_wait_for_requests(tmp_path: Path) -> None:
    with Process(SMALL, "1", output=tmp_path / "out") as server:
        client = connect(server.wait_for("ready"))
        client.request("GET", "/wait")
        assert client.getresponse().readline() == b"begin\n"

        server.signal(signal.SIGINT)
        server.wait_for("drained")
        server.signal(signal.SIGINT)
        server.wait(within_s=4)
        client.close()


def test_a_failed_start_up_is_reported(tmp_path: Path) -> None:
    with Process(SMALL, "1", "fail", output=tmp_path / "out") as server:
        server.wait_for("done False")
        assert server.wait() == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"not HTTP at all\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 400_000, b"431"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"GET /?a=" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
    ],
    ids=["garbage", "endless header", "long path", "long query"],
)
def test_bad_heads_are_refused_in_our_error_shape(
    tmp_path: Path, sent: bytes, status: bytes
) -> None:
    with Process(SMALL, "1", output=tmp_path / "out") as server:
        client = connect(server.wait_for("ready"))
        client.connect()
        assert isinstance(client.sock, socket.socket)
        client.sock.sendall(sent)
        answer = wait_until(lambda: client.sock.recv(4096))
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b'"code":' in answer
        client.close()


def test_a_long_body_is_not_taken_for_a_long_head(tmp_path: Path) -> None:
    with Process(SMALL, "1", output=tmp_path / "out") as server:
        client = connect(server.wait_for("ready"))
        for _ in range(3):
            client.request("POST", "/pid", body=b"x" * 200_000)
            answer = client.getresponse()
            assert answer.status == 200
            answer.read()
        client.close()
