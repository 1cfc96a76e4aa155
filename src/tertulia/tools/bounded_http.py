"""What a server may answer over HTTP: no more than so much, and nothing that unfolds."""

from collections.abc import AsyncGenerator

import httpx2

_EVENTS = "text/event-stream"
# Its events have a limit of their own, in the SDK.


class AnswerTooLarge(httpx2.StreamError):
    """A server sends more than it may."""


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """A transport that ends answers of more than `limit_bytes`, and refuses compressed ones."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; its answer is read through the limit."""
        # A few bytes of gzip can be gigabytes.
        request.headers["Accept-Encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise AnswerTooLarge("The server compresses what was asked for as it is")
        if not response.headers.get("content-type", "").startswith(_EVENTS):
            assert isinstance(response.stream, httpx2.AsyncByteStream), "it was asked for so"
            response.stream = _Bounded(response.stream, self._limit_bytes)
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, limit_bytes: int) -> None:
        self._stream = stream
        self._left = limit_bytes

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0:
                raise AnswerTooLarge("The server sends more than it may")
            yield piece

    async def aclose(self) -> None:
        """Close what is read."""
        await self._stream.aclose()
