"""Requests as they go over the wire."""

import http.client
import json
from typing import Any

from benchmarks.load.jobs import HOST


def get(path: str, token: str | None = None, *, accept: str = "application/json") -> str:
    """Return a GET request."""
    return f"GET {path} HTTP/1.1\r\n{_headers(token, accept)}\r\n"


def post(
    path: str, body: object, token: str | None = None, *, accept: str = "application/json"
) -> str:
    """Return a POST request with a JSON body."""
    text = json.dumps(body)  # ASCII, so characters are bytes
    sized = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{_headers(token, accept)}{sized}\r\n{text}"


def ask_one_by_one(port: int, path: str, token: str, *, times: int) -> int:
    """Send so many GET requests, each when the one before is answered.

    Returns:
        The size of the last answer's body, in bytes.
    """
    size = 0
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        for _ in range(times):
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            size = len(answer.read())
            assert answer.status == http.client.OK, f"{path} was answered with {answer.status}"
    finally:
        connection.close()
    return size


def call(port: int, method: str, path: str, body: object, token: str | None = None) -> Any:  # noqa: ANN401  JSON
    """Send one request with a JSON body and return what the answer says."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < http.client.BAD_REQUEST, f"{path}: {answer.status} {text!r:.500}"
        return json.loads(text)
    finally:
        connection.close()


def _headers(token: str | None, accept: str) -> str:
    lines = [f"Host: {HOST}", "User-Agent: benchmarks", f"Accept: {accept}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "".join(f"{line}\r\n" for line in lines)
